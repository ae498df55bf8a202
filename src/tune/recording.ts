import { OptionError } from '../errors.js';
import { type Bound, boundTo } from '../gpu/kernel.js';

/** One dispatch of a step: all that it takes to make it again. */
export interface RecordedDispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: readonly [number, number, number];
  /** The kernel and the buffers behind the bind group; undefined for one that no `Kernel` made. */
  readonly bound?: Bound;
}

/**
 * A compute pass that writes down its dispatches, and hands everything on to a real pass where it is given one. Ops
 * encode into it as into any pass.
 */
export class RecordingPass implements GPUComputePassEncoder {
  readonly __brand = 'GPUComputePassEncoder';
  label = 'pairslab recording';
  private readonly dispatches: RecordedDispatch[];
  private readonly real?: GPUComputePassEncoder;
  private pipeline?: GPUComputePipeline;
  private group?: GPUBindGroup;

  /** Dispatches are appended to `dispatches`: a step may be several passes. */
  constructor(dispatches: RecordedDispatch[], real?: GPUComputePassEncoder) {
    this.dispatches = dispatches;
    this.real = real;
  }

  setPipeline(pipeline: GPUComputePipeline): undefined {
    this.pipeline = pipeline;
    this.real?.setPipeline(pipeline);
  }

  /** Kernels have one bind group and no dynamic offsets. @throws OptionError for any other. */
  setBindGroup(index: number, group: GPUBindGroup | null | undefined, ...offsets: unknown[]): undefined {
    if (index !== 0 || !group || offsets.length > 0) {
      throw new OptionError('only bind group 0 without dynamic offsets can be recorded.', { index });
    }
    this.group = group;
    this.real?.setBindGroup(index, group);
  }

  dispatchWorkgroups(x: number, y = 1, z = 1): undefined {
    const { pipeline, group } = this;
    if (!pipeline || !group) throw new OptionError('a dispatch needs a pipeline and a bind group first.');
    this.dispatches.push({ pipeline, group, grid: [x, y, z], bound: boundTo(group) });
    this.real?.dispatchWorkgroups(x, y, z);
  }

  /** @throws OptionError: the grid is on the device, and may be another one when it is replayed. */
  dispatchWorkgroupsIndirect(): undefined {
    throw new OptionError('indirect dispatches cannot be recorded.');
  }

  /** @throws OptionError: no kernel of this package has any. */
  setImmediates(): undefined {
    throw new OptionError('immediates cannot be recorded.');
  }

  pushDebugGroup(label: string): undefined {
    this.real?.pushDebugGroup(label);
  }

  popDebugGroup(): undefined {
    this.real?.popDebugGroup();
  }

  insertDebugMarker(label: string): undefined {
    this.real?.insertDebugMarker(label);
  }

  end(): undefined {
    this.real?.end();
  }
}

/** Encodes a recorded dispatch again. */
export function encodeRecorded(
  pass: GPUComputePassEncoder,
  { pipeline, group, grid }: RecordedDispatch,
): void {
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
}
