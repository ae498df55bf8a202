import elementBlock from '../../shaders/lib/element_block.wgsl';
import elementQuad from '../../shaders/lib/element_quad.wgsl';
import elementWord from '../../shaders/lib/element_word.wgsl';
import walkGrid from '../../shaders/lib/walk_grid.wgsl';
import walkGroup from '../../shaders/lib/walk_group.wgsl';
import walkLane from '../../shaders/lib/walk_lane.wgsl';
import readSumCode from '../../shaders/read_sum.wgsl';
import { destroyBuffer, storageBuffer, upload } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, type KernelTable, kernel } from '../gpu/kernel.js';
import { randomSource, type Stats, shuffle, statsOf } from './stats.js';
import type { DeviceTimer } from './timer.js';

/** Bytes of the buffer that the read ceiling reads: beyond the last-level cache (32 MiB here), within one binding. */
export const READ_BYTES = 96 << 20;
/** Bytes that the copy ceiling copies; source and target together are as large as the read buffer. */
export const COPY_BYTES = 48 << 20;

/** How a read-only sum over a large buffer can be written; the fastest of all is the read ceiling. */
export const readSum: KernelTable = {
  name: 'read_sum',
  code: readSumCode,
  slots: {
    element: { word: elementWord, quad: elementQuad, block: elementBlock },
    walk: { grid: walkGrid, group: walkGroup, lane: walkLane },
  },
  constants: { WORKGROUP: 64 },
};

/** One formulation: element and walk as in the table, lanes of a workgroup, workgroups. */
export interface Formulation {
  element: 'word' | 'quad' | 'block';
  walk: 'grid' | 'group' | 'lane';
  workgroup: number;
  groups: number;
}

/** Few large workgroups suit two cores, many a GPU; both are tried everywhere. */
const SIZES = [
  [8, 2],
  [8, 16],
  [64, 16],
  [64, 64],
  [64, 4096],
  [256, 16],
  [256, 2048],
] as const;

export const FORMULATIONS: readonly Formulation[] = (['word', 'quad', 'block'] as const).flatMap((element) =>
  (['grid', 'group', 'lane'] as const).flatMap((walk) =>
    SIZES.map(([workgroup, groups]) => ({ element, walk, workgroup, groups })),
  ),
);

/** Loads of one word have never come near: only the `ceilings` suite shows it. */
export const WIDE: readonly Formulation[] = FORMULATIONS.filter(({ element }) => element !== 'word');

export function nameOf({ element, walk, workgroup, groups }: Formulation): string {
  return `${element} ${walk} ${workgroup}×${groups}`;
}

/** Formulations that are measured again each time: the best of the first look, since two close ones change places. */
const FINALISTS = 4;
const finalists = new WeakMap<GPUDevice, readonly Formulation[]>();

/** The ceilings of a device, with their buffers, for as long as a suite needs them. */
export class Ceilings {
  private readonly device: GPUDevice;
  private readonly timer: DeviceTimer;
  private readonly onProgress?: (done: number, total: number) => void;
  private buffers?: { data: GPUBuffer; out: GPUBuffer; target: GPUBuffer };

  constructor(device: GPUDevice, timer: DeviceTimer, onProgress?: (done: number, total: number) => void) {
    this.device = device;
    this.timer = timer;
    this.onProgress = onProgress;
  }

  /** GB/s of one large copyBufferToBuffer, reads and writes both counted. */
  async copy(repeats: number): Promise<Stats> {
    const { data, target } = this.made();
    const rates: number[] = [];
    // The first touches the pages.
    for (let r = 0; r <= repeats; r++) {
      const ms = await this.timer.time((encoder) =>
        encoder.copyBufferToBuffer(data, 0, target, 0, COPY_BYTES),
      );
      if (r > 0) rates.push((2 * COPY_BYTES) / ms / 1e6);
    }
    return statsOf(rates);
  }

  /** GB/s of the fastest read-only sum; by median, so that one lucky repeat decides nothing. */
  async read(repeats: number): Promise<Stats> {
    if (!finalists.has(this.device)) await this.readEach(WIDE, 3);
    return (await this.readEach(finalists.get(this.device) ?? WIDE, repeats))[0].gbps;
  }

  /**
   * GB/s of each formulation, fastest first. They take turns in shuffled order. Where all wide ones are among them, the
   * first four are what `read` goes by from now on.
   */
  async readEach(
    formulations: readonly Formulation[],
    repeats: number,
  ): Promise<{ formulation: Formulation; gbps: Stats }[]> {
    const { data, out } = this.made();
    const arms = formulations.map((formulation) => {
      const { element, walk, workgroup: WORKGROUP } = formulation;
      const made = kernel(this.device, readSum, { slots: { element, walk }, constants: { WORKGROUP } });
      return { formulation, kernel: made, group: made.bind({ data, out }), rates: [] as number[] };
    });
    const random = randomSource(arms.length);
    for (let r = 0; r <= repeats; r++) {
      for (const [i, arm] of shuffle([...arms], random).entries()) {
        this.onProgress?.(r * arms.length + i, (repeats + 1) * arms.length);
        const ms = await this.timer.time((encoder) => this.encode(encoder, arm));
        // The first compiles.
        if (r > 0) arm.rates.push(READ_BYTES / ms / 1e6);
      }
    }
    const sorted = arms
      .map(({ formulation, rates }) => ({ formulation, gbps: statsOf(rates) }))
      .sort((a, b) => b.gbps.median - a.gbps.median);
    if (WIDE.every((one) => formulations.includes(one)))
      finalists.set(
        this.device,
        sorted.slice(0, FINALISTS).map(({ formulation }) => formulation),
      );
    return sorted;
  }

  destroy(): void {
    for (const buffer of Object.values(this.buffers ?? {})) destroyBuffer(this.device, buffer);
    this.buffers = undefined;
  }

  private encode(
    encoder: GPUCommandEncoder,
    arm: { kernel: Kernel; group: GPUBindGroup; formulation: Formulation },
  ): void {
    const pass = encoder.beginComputePass({ label: 'pairslab read ceiling' });
    encodeDispatch(pass, { kernel: arm.kernel, group: arm.group, grid: [arm.formulation.groups, 1, 1] });
    pass.end();
  }

  private made(): NonNullable<Ceilings['buffers']> {
    if (!this.buffers) {
      const { device } = this;
      const lanes = Math.max(...FORMULATIONS.map(({ workgroup, groups }) => workgroup * groups));
      const data = storageBuffer(device, 'ceiling source', READ_BYTES);
      const out = storageBuffer(device, 'ceiling sums', lanes * 4);
      const target = storageBuffer(device, 'ceiling target', COPY_BYTES);
      // Pages that were never written may all be one page of zeros, which would be read from a cache.
      const values = new Uint32Array((16 << 20) / 4).map((_, i) => Math.imul(i, 0x9e3779b1));
      for (let at = 0; at < READ_BYTES; at += values.byteLength) upload(device, data, at, values);
      this.buffers = { data, out, target };
    }
    return this.buffers;
  }
}

/** `Ceilings.copy`, once. */
export async function copyCeiling(device: GPUDevice, timer: DeviceTimer, repeats: number): Promise<Stats> {
  const ceilings = new Ceilings(device, timer);
  try {
    return await ceilings.copy(repeats);
  } finally {
    ceilings.destroy();
  }
}

/** `Ceilings.read`, once. */
export async function readCeiling(device: GPUDevice, timer: DeviceTimer, repeats: number): Promise<Stats> {
  const ceilings = new Ceilings(device, timer);
  try {
    return await ceilings.read(repeats);
  } finally {
    ceilings.destroy();
  }
}

/** A ceiling right before and right after what is held against it; `median` is the middle of the two. */
export interface Framed {
  before: Stats;
  after: Stats;
  median: number;
}

/** Runs `work` between two measurements of the read ceiling. */
export async function framed<T>(
  ceilings: Ceilings,
  repeats: number,
  work: () => Promise<T>,
): Promise<{ value: T; read: Framed }> {
  const before = await ceilings.read(repeats);
  const value = await work();
  const after = await ceilings.read(repeats);
  return { value, read: { before, after, median: (before.median + after.median) / 2 } };
}
