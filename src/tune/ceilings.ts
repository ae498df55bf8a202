import elementBlock from '../../shaders/lib/element_block.wgsl';
import elementQuad from '../../shaders/lib/element_quad.wgsl';
import elementTexelBlock from '../../shaders/lib/element_texel_block.wgsl';
import elementTexels from '../../shaders/lib/element_texels.wgsl';
import elementWord from '../../shaders/lib/element_word.wgsl';
import walkGrid from '../../shaders/lib/walk_grid.wgsl';
import walkGroup from '../../shaders/lib/walk_group.wgsl';
import walkLane from '../../shaders/lib/walk_lane.wgsl';
import readRowsCode from '../../shaders/read_rows.wgsl';
import readSumCode from '../../shaders/read_sum.wgsl';
import { BufferGroup, upload } from '../gpu/buffers.js';
import { type Dispatch, encodeDispatch, type KernelTable, kernel } from '../gpu/kernel.js';
import type { RowStorage } from '../gpu/storage.js';
import { copyToTexels, createTexels } from '../gpu/texels.js';
import { randomSource, type Stats, shuffle, statsOf } from './stats.js';
import type { DeviceTimer } from './timer.js';

/**
 * Bytes of the buffer, and of the texture, that the read ceilings read: beyond the last-level cache (32 MiB here), within
 * one binding, and whole lines of a texture.
 */
export const READ_BYTES = 96 << 20;
/** Bytes that the copy ceiling copies; source and target together are as large as the read buffer. */
export const COPY_BYTES = 48 << 20;

/** How a read-only sum over a large buffer or texture can be written; the fastest of each is its read ceiling. */
export const readSum: KernelTable = {
  name: 'read_sum',
  code: readSumCode,
  slots: {
    element: {
      word: elementWord,
      quad: elementQuad,
      block: elementBlock,
      texels: elementTexels,
      texel_block: elementTexelBlock,
    },
    walk: { grid: walkGrid, group: walkGroup, lane: walkLane },
  },
  constants: { WORKGROUP: 64 },
};

/** The same over rows here and there, as a list of one row in ten has them. ROW: vectors of a row. */
export const readRows: KernelTable = {
  name: 'read_rows',
  code: readRowsCode,
  slots: { element: { quad: elementQuad, texels: elementTexels } },
  constants: { WORKGROUP: 64, ROW: 512, EVERY: 10 },
};
/** Lanes of a workgroup, and workgroups of each list: few for two cores, many for a GPU. */
const ROW_SIZES = [
  [8, 4],
  [8, 16],
  [64, 16],
  [64, 64],
  [256, 64],
] as const;

/** One formulation: element and walk as in the table, lanes of a workgroup, workgroups. */
export interface Formulation {
  element: 'word' | 'quad' | 'block' | 'texels' | 'texel_block';
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

const formulationsOver = (elements: readonly Formulation['element'][]): Formulation[] =>
  elements.flatMap((element) =>
    (['grid', 'group', 'lane'] as const).flatMap((walk) =>
      SIZES.map(([workgroup, groups]) => ({ element, walk, workgroup, groups })),
    ),
  );

/** Over a buffer, by loads of one word: they have never come near, so that only the `ceilings` suite shows them. */
export const NARROW: readonly Formulation[] = formulationsOver(['word']);
/** Those that a ceiling is the fastest of, by what they read. */
export const WIDE: Readonly<Record<RowStorage, readonly Formulation[]>> = {
  buffer: formulationsOver(['quad', 'block']),
  texture: formulationsOver(['texels', 'texel_block']),
};
export const STORAGES = ['buffer', 'texture'] as const satisfies readonly RowStorage[];

/** What a formulation reads. */
export const storageOf = ({ element }: Pick<Formulation, 'element'>): RowStorage =>
  element === 'texels' || element === 'texel_block' ? 'texture' : 'buffer';

const MOST_LANES = Math.max(...SIZES.map(([workgroup, groups]) => workgroup * groups));

export function nameOf({ element, walk, workgroup, groups }: Formulation): string {
  return `${element} ${walk} ${workgroup}×${groups}`;
}

/** Formulations that are measured again each time: the best of the first look, since two close ones change places. */
const FINALISTS = 4;
const finalists = new WeakMap<GPUDevice, Partial<Record<RowStorage, readonly Formulation[]>>>();

/** GB/s of the fastest read-only sums over a buffer and over a texture. */
export type ReadCeilings<S = Stats> = Record<RowStorage, S>;

/** The ceilings of a device, with their buffers, for as long as a suite needs them. */
export class Ceilings {
  private readonly device: GPUDevice;
  private readonly timer: DeviceTimer;
  private readonly onProgress?: (done: number, total: number) => void;
  private readonly memory: BufferGroup;
  private out?: GPUBuffer;
  private buffer?: GPUBuffer;
  private texture?: GPUTexture;
  private target?: GPUBuffer;

  constructor(device: GPUDevice, timer: DeviceTimer, onProgress?: (done: number, total: number) => void) {
    this.device = device;
    this.timer = timer;
    this.onProgress = onProgress;
    this.memory = new BufferGroup(device);
  }

  /** GB/s of one large copyBufferToBuffer, reads and writes both counted. */
  async copy(repeats: number): Promise<Stats> {
    const data = this.source('buffer') as GPUBuffer;
    this.target ??= this.memory.storage('ceiling target', COPY_BYTES);
    const { target } = this;
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

  /** GB/s of the fastest read-only sum over a buffer; by median, so that one lucky repeat decides nothing. */
  async read(repeats: number): Promise<Stats> {
    return (await this.readEach(await this.finalists('buffer'), repeats))[0].gbps;
  }

  /** The same over a buffer and over a texture, in turns. */
  async reads(repeats: number): Promise<ReadCeilings> {
    const both = [...(await this.finalists('buffer')), ...(await this.finalists('texture'))];
    const each = await this.readEach(both, repeats);
    const best = (storage: RowStorage): Stats =>
      (each.find(({ formulation }) => storageOf(formulation) === storage) as (typeof each)[0]).gbps;
    return { buffer: best('buffer'), texture: best('texture') };
  }

  /**
   * GB/s of each formulation, fastest first. They take turns in shuffled order. Where all wide ones of a storage are among
   * them, the first four of these are what its ceiling goes by from now on.
   */
  async readEach(
    formulations: readonly Formulation[],
    repeats: number,
  ): Promise<{ formulation: Formulation; gbps: Stats }[]> {
    this.out ??= this.memory.storage('ceiling sums', 4 * MOST_LANES);
    const { out } = this;
    const arms = formulations.map((formulation): Dispatch => {
      const { element, walk, workgroup: WORKGROUP, groups } = formulation;
      const made = kernel(this.device, readSum, { slots: { element, walk }, constants: { WORKGROUP } });
      const data = this.source(storageOf(formulation));
      return { kernel: made, group: made.bind({ data, out }), grid: [groups, 1, 1] };
    });
    const rates = await this.inTurns(arms, READ_BYTES, repeats);
    const sorted = formulations
      .map((formulation, f) => ({ formulation, gbps: rates[f] }))
      .sort((a, b) => b.gbps.median - a.gbps.median);
    for (const storage of STORAGES) {
      if (!WIDE[storage].every((one) => formulations.includes(one))) continue;
      const mine = sorted.filter(({ formulation }) => WIDE[storage].includes(formulation));
      const first = mine.slice(0, FINALISTS).map(({ formulation }) => formulation);
      finalists.set(this.device, { ...finalists.get(this.device), [storage]: first });
    }
    return sorted;
  }

  /** GB/s of the fastest read-only sum over one row of so many bytes in ten, and again until all were read. */
  async rows(storage: RowStorage, rowBytes: number, repeats: number): Promise<Stats> {
    this.out ??= this.memory.storage('ceiling sums', 4 * MOST_LANES);
    const bindings = { data: this.source(storage), out: this.out };
    const { EVERY } = readRows.constants;
    const ROW = rowBytes / 16;
    const bytes = Math.floor(READ_BYTES / (rowBytes * EVERY)) * rowBytes * EVERY;
    const arms = ROW_SIZES.map(([WORKGROUP, groups]): Dispatch => {
      const slots = { element: storage === 'texture' ? 'texels' : 'quad' };
      const made = kernel(this.device, readRows, { slots, constants: { WORKGROUP, ROW } });
      return { kernel: made, group: made.bind(bindings), grid: [groups * EVERY, 1, 1] };
    });
    const rates = await this.inTurns(arms, bytes, repeats);
    return rates.reduce((best, one) => (one.median > best.median ? one : best));
  }

  destroy(): void {
    this.memory.destroy();
    this.out = undefined;
    this.buffer = undefined;
    this.texture = undefined;
    this.target = undefined;
  }

  /** Those that `storage`'s ceiling goes by; the first time they are found among all. */
  private async finalists(storage: RowStorage): Promise<readonly Formulation[]> {
    if (!finalists.get(this.device)?.[storage]) await this.readEach(WIDE[storage], 3);
    return finalists.get(this.device)?.[storage] ?? WIDE[storage];
  }

  /** GB/s of each, which reads so many bytes: they take turns in shuffled order. */
  private async inTurns(arms: readonly Dispatch[], bytes: number, repeats: number): Promise<Stats[]> {
    const rates = arms.map(() => [] as number[]);
    const random = randomSource(arms.length);
    for (let r = 0; r <= repeats; r++) {
      for (const [i, arm] of shuffle([...arms.keys()], random).entries()) {
        this.onProgress?.(r * arms.length + i, (repeats + 1) * arms.length);
        const ms = await this.timer.time((encoder) => {
          const pass = encoder.beginComputePass({ label: 'pairslab read ceiling' });
          encodeDispatch(pass, arms[arm]);
          pass.end();
        });
        // The first compiles.
        if (r > 0) rates[arm].push(bytes / ms / 1e6);
      }
    }
    return rates.map((values) => statsOf(values));
  }

  /** What is read: the same bytes in a buffer and in a texture. */
  private source(storage: RowStorage): GPUBuffer | GPUTexture {
    const { device, memory } = this;
    if (!this.buffer) {
      this.buffer = memory.storage('ceiling source', READ_BYTES);
      // Pages that were never written may all be one page of zeros, which would be read from a cache.
      const values = new Uint32Array((16 << 20) / 4).map((_, i) => Math.imul(i, 0x9e3779b1));
      for (let at = 0; at < READ_BYTES; at += values.byteLength) upload(device, this.buffer, at, values);
    }
    if (storage === 'buffer') return this.buffer;
    if (!this.texture) {
      this.texture = createTexels(memory, 'ceiling texels', READ_BYTES);
      const encoder = device.createCommandEncoder({ label: 'pairslab read ceiling' });
      copyToTexels(encoder, this.buffer, 0, this.texture, 0, READ_BYTES);
      device.queue.submit([encoder.finish()]);
    }
    return this.texture;
  }
}

/** A ceiling right before and right after what is held against it; `median` is the middle of the two. */
export interface Framed {
  before: Stats;
  after: Stats;
  median: number;
}

/** Runs `work` between two measurements of the read ceiling of buffers. */
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

/** Runs `work` between two measurements of both read ceilings. */
export async function framedReads<T>(
  ceilings: Ceilings,
  repeats: number,
  work: () => Promise<T>,
): Promise<{ value: T; reads: ReadCeilings<Framed> }> {
  const before = await ceilings.reads(repeats);
  const value = await work();
  const after = await ceilings.reads(repeats);
  const frame = (storage: RowStorage): Framed => ({
    before: before[storage],
    after: after[storage],
    median: (before[storage].median + after[storage].median) / 2,
  });
  return { value, reads: { buffer: frame('buffer'), texture: frame('texture') } };
}
