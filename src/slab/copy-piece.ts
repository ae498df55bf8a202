import { type Bindable, encodeDispatch, type Kernel } from '../gpu/kernel.js';
import type { Region } from '../gpu/regions.js';

/** A kernel over a region of moves, ids or mask bits, with its other buffers. Its bind groups are made once a region. */
export class CopyPiece {
  private readonly kernel: Kernel;
  private readonly bindings: Readonly<Record<string, Bindable>>;
  private readonly groups = new Map<Region, GPUBindGroup>();

  /** @param bindings All but the region, which the WGSL calls `region`, `ids` or `mask`. */
  constructor(kernel: Kernel, bindings: Readonly<Record<string, Bindable>>) {
    this.kernel = kernel;
    this.bindings = bindings;
  }

  /** Workgroups: `x` by `y`. */
  encode(pass: GPUComputePassEncoder, region: Region, [x, y]: readonly [number, number]): void {
    const { kernel, bindings, groups } = this;
    let group = groups.get(region);
    if (!group) {
      group = kernel.bind({ ...bindings, region, ids: region, mask: region });
      groups.set(region, group);
    }
    encodeDispatch(pass, { kernel, group, grid: [x, y, 1] });
  }
}
