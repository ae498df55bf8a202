import { destroyBuffer, storageBuffer } from '../gpu/buffers.js';
import { rowBytes, type StoredDtype } from '../gpu/layout.js';
import { finished } from '../gpu/readback.js';
import { rateAt } from '../gpu/rates.js';
import type { RowStorage } from '../gpu/storage.js';
import type { CopyCosts, Costs, Rates, ReadCosts } from '../gpu/tuning.js';
import type { Bitmask } from '../mask/index.js';
import type { FixedStrategy } from '../mlp/cost-model.js';
import { SparseMLP } from '../mlp/sparse-mlp.js';
import { MaskRing } from './mask-ring.js';
import { shuffle, statsOf } from './stats.js';
import { type DeviceTimer, deviceTimer } from './timer.js';

/** A gated layer to measure on. */
export interface CostShape {
  hidden: number;
  rows: number;
  dtype: StoredDtype;
  /** What its rows are read from while they are not packed. Default buffer. */
  storage?: RowStorage;
}

export interface CostOptions {
  signal?: AbortSignal;
  onProgress?: (done: number, total: number, what: string) => void;
  /** Time for the rounds, about; at least three are made. Default 4 s. */
  budgetMs?: number;
}

/** Weights of the layer at most: beyond caches, uploaded in a moment. Larger shapes are measured on fewer rows. */
const MOST_BYTES = 200 << 20;
const BATCH = 8;
/** Rows whose cost is that of the dispatches alone, or nearly. */
const FEW = 8;
const BATCHED = ' by tiles';
/** Shares of the rows: read from a list, read where a cache may hold them, and copied. Tiles are dear and count less. */
const SHARES = {
  anew: [1 / 16, 1 / 4, 1 / 2, 1],
  anewBatched: [1 / 8],
  again: [1 / 16, 1 / 4],
  againBatched: [1 / 8],
  copied: [1 / 32, 1 / 4],
};
/** The slab has so many slots for each row. */
const PACKED_MOST = 1 / 4;
const ROUNDS = { least: 3, most: 15 };
/**
 * Steps share a submit until they take about so long, in ms: timers are coarse, and the first dispatch of a submit waits
 * for threads to wake, which made a single step of 2 ms look half as dear again.
 */
const SAMPLE_MS = 12;
const MOST_STEPS = 32;

/** The rows that a shape's costs are measured on. */
export function measuredRows({ hidden, rows, dtype }: CostShape): { rowBytes: number; rows: number } {
  const bytes = 3 * rowBytes(hidden, dtype);
  return { rowBytes: bytes, rows: Math.max(1, Math.min(rows, Math.floor(MOST_BYTES / bytes))) };
}

/**
 * Measures what the cost model needs to know of an adapter, on a layer of its own, in four to six seconds on lavapipe
 * (SwiftShader: eight to twelve): device time of reads and copies at several sizes, of rows that lie anywhere, those
 * that a cache may hold apart from those that none can. They take turns; each time is the median of its rounds.
 */
export async function measureCosts(
  device: GPUDevice,
  shape: CostShape,
  options: CostOptions = {},
): Promise<Costs> {
  const lab = new CostLab(device, shape);
  try {
    await lab.open();
    return await lab.measure(options);
  } finally {
    lab.close();
  }
}

type Mask = Bitmask | undefined;

/** One thing that is timed: ms of a step that reads or writes `count` rows. */
interface Arm {
  /** What it shows; the arms of a group differ in `count`. */
  readonly group: string;
  readonly count: number;
  readonly sample: (steps: number) => Promise<number>;
  readonly times: number[];
  /** That share the next submit. */
  steps: number;
}

/** A time that was measured. */
type Point = Pick<Arm, 'count'> & { readonly ms: number };

class CostLab {
  private readonly device: GPUDevice;
  private readonly shape: CostShape;
  private readonly rows: number;
  private readonly rowBytes: number;
  private readonly timer: DeviceTimer;
  private readonly arms: Arm[] = [];
  private readonly buffers: GPUBuffer[] = [];
  private layer?: SparseMLP;

  constructor(device: GPUDevice, shape: CostShape) {
    this.device = device;
    this.shape = shape;
    ({ rows: this.rows, rowBytes: this.rowBytes } = measuredRows(shape));
    this.timer = deviceTimer(device);
  }

  async open(): Promise<void> {
    const { device, rows } = this;
    const { hidden, dtype, storage } = this.shape;
    // One matrix serves as all three: what it holds changes no time, as long as nothing is denormal.
    const values = Float32Array.from({ length: 4099 }, (_, i) => ((i * 7919) % 1021) / 1021 - 0.5);
    const matrix = new Float32Array(hidden * rows);
    for (let at = 0; at < matrix.length; at += values.length)
      matrix.set(values.subarray(0, matrix.length - at), at);
    this.layer = await SparseMLP.create(device, {
      hidden,
      gate: matrix,
      up: matrix,
      down: matrix,
      downRows: true,
      dtype,
      storage,
      capacity: this.count(PACKED_MOST),
      pendingUpdates: MOST_STEPS + 1,
      label: 'cost model',
    });
    this.addReads();
    this.addCopies();
  }

  /** Rounds of all arms in shuffled order, then what they say. */
  async measure({ signal, onProgress, budgetMs = 4000 }: CostOptions): Promise<Costs> {
    let started = 0;
    for (let round = 0; round <= ROUNDS.most; round++) {
      if (round === 1) started = performance.now();
      if (round > ROUNDS.least && performance.now() - started > budgetMs) break;
      for (const arm of shuffle([...this.arms], Math.random)) {
        const { group, count, times } = arm;
        signal?.throwIfAborted();
        if (group.endsWith(BATCHED) && round > ROUNDS.least) continue;
        onProgress?.(round, ROUNDS.most + 1, `cost of ${group}, ${count} rows`);
        const ms = await arm.sample(arm.steps);
        // The first round compiles.
        if (round > 0) times.push(ms);
        arm.steps = Math.max(1, Math.min(MOST_STEPS, Math.round(SAMPLE_MS / ms)));
      }
    }
    return {
      dtype: this.shape.dtype,
      rowBytes: this.rowBytes,
      rows: this.rows,
      ...(this.inTexture ? { storage: 'texture' } : {}),
      wait: this.points('wait')[0].ms,
      read: this.reads(''),
      readBatched: this.reads(BATCHED),
      move: this.copies('move'),
      select: this.copies('select'),
    };
  }

  private get inTexture(): boolean {
    return this.shape.storage === 'texture';
  }

  close(): void {
    for (const buffer of this.buffers) destroyBuffer(this.device, buffer);
    this.timer.destroy();
    this.layer?.destroy();
  }

  private addReads(): void {
    const mlp = this.layer as SparseMLP;
    const x = this.buffer('cost model x', BATCH * mlp.inputStride * 4);
    const y = this.buffer('cost model y', BATCH * mlp.hidden * 4);
    const run = (steps: number, batch: number, strategy: FixedStrategy, masks: (s: number) => Mask) =>
      this.time(steps, (pass, s) => {
        mlp.encode(pass, { x, y, batch, strategy, mask: masks(s) });
      });
    for (const batch of [1, BATCH]) {
      const tile = batch === 1 ? '' : BATCHED;
      for (const share of [0, ...(batch === 1 ? SHARES.anew : SHARES.anewBatched)]) {
        const count = this.count(share);
        const ring = this.ring(count, Math.min(count, this.rows - count));
        this.add(share === 0 ? `few${tile}` : `anew${tile}`, count, (n) => {
          const { steps } = ring.take(n);
          return run(n, batch, 'indexed', (s) => steps[s]);
        });
      }
      this.add(`dense${tile}`, this.rows, (n) => run(n, batch, 'dense', () => undefined));
      for (const share of batch === 1 ? SHARES.again : SHARES.againBatched) {
        const count = this.count(share);
        const mask = this.ring(count, 0).take(1).first;
        this.add(`again${tile}`, count, async (n) => {
          // Without the clock: other arms have read other rows since.
          await run(1, batch, 'indexed', () => mask);
          return run(n, batch, 'indexed', () => mask);
        });
        this.add(`packed${tile}`, count, async (n) => {
          mlp.slab.update(mask);
          await run(1, batch, 'paired', () => mask);
          return run(n, batch, 'paired', () => mask);
        });
      }
    }
    this.add('wait', 0, () => this.wait());
  }

  private addCopies(): void {
    const { slab } = this.layer as SparseMLP;
    const most = this.count(PACKED_MOST);
    for (const share of [0, ...SHARES.copied]) {
      const count = Math.min(most, this.count(share));
      const moves = this.ring(most, Math.min(count, this.rows - most));
      const selects = this.ring(count, Math.min(count, this.rows - count));
      const name = share === 0 ? 'few ' : '';
      this.add(`${name}move`, count, (n) => {
        const { first, steps } = moves.take(n);
        slab.update(first);
        return this.time(n, (pass, s) => {
          slab.encodeUpdate(pass, steps[s] ?? first, { tau: 1 });
        });
      });
      this.add(`${name}select`, count, (n) => {
        const { first, steps } = selects.take(n);
        return this.time(n, (pass, s) => {
          slab.encodeUpdate(pass, steps[s] ?? first, { strategy: 'repack' });
        });
      });
    }
  }

  private add(group: string, count: number, sample: Arm['sample']): void {
    this.arms.push({ group, count, sample, times: [], steps: 1 });
  }

  /** Rows at a share of them all; hardly any at 0. */
  private count(share: number): number {
    return share === 0 ? Math.min(FEW, this.rows) : Math.max(1, Math.round(share * this.rows));
  }

  private ring(m: number, change: number): MaskRing {
    return new MaskRing({ n: this.rows, m, change }, 'random', m);
  }

  private reads(tile: string): ReadCosts {
    const { launch, rates: indexed } = this.fit(this.points(`few${tile}`)[0], this.points(`anew${tile}`));
    const rates = (group: string) => this.rates(launch, this.points(`${group}${tile}`));
    const dense = rates('dense');
    // A cache makes no row dearer: what looks so is the machine's noise.
    const again = rates('again').map(
      ([share, rate]) => [share, Math.min(rate, rateAt(indexed, share))] as const,
    );
    // Of all rows no more stay in a cache than of as many that are read once; and packed, they are as they were, unless
    // they were in a texture.
    const beyond = indexed.filter(([share]) => share > again[again.length - 1][0]);
    return {
      launch,
      dense,
      indexed,
      again: [...again, ...beyond.slice(-1)],
      packed: this.inTexture ? rates('packed') : [...rates('packed'), ...dense],
    };
  }

  private copies(group: string): CopyCosts {
    return this.fit(this.points(`few ${group}`)[0], this.points(group));
  }

  private points(group: string): Point[] {
    return this.arms
      .filter((arm) => arm.group === group)
      .map(({ count, times }) => ({ count, ms: statsOf(times).median }));
  }

  /** What is left of `few` without its rows, which cost as those of the next point, and the rates without that. */
  private fit(few: Point, points: readonly Point[]): CopyCosts {
    const next = points.find(({ count }) => count > few.count);
    const each = next ? Math.max(0, (next.ms - few.ms) / (next.count - few.count)) : 0;
    const launch = Math.max(0, few.ms - each * few.count);
    return { launch, rates: this.rates(launch, points) };
  }

  private rates(launch: number, points: readonly Point[]): Rates {
    const { rows, rowBytes } = this;
    const rates = new Map(
      points.map(({ count, ms }) => [count / rows, Math.max(0, ms - launch) / ((count * rowBytes) / 1e9)]),
    );
    return [...rates].sort(([a], [b]) => a - b);
  }

  /** Milliseconds until an empty submit is known to be done. */
  private async wait(): Promise<number> {
    const commands = this.device.createCommandEncoder().finish();
    const started = performance.now();
    this.device.queue.submit([commands]);
    await finished(this.device);
    return performance.now() - started;
  }

  /** Milliseconds of one of `steps` steps in one pass. */
  private async time(
    steps: number,
    encode: (pass: GPUComputePassEncoder, step: number) => void,
  ): Promise<number> {
    const ms = await this.timer.time((encoder) => {
      const pass = encoder.beginComputePass();
      for (let s = 0; s < steps; s++) encode(pass, s);
      pass.end();
    });
    this.layer?.submitted();
    return ms / steps;
  }

  private buffer(label: string, bytes: number): GPUBuffer {
    const buffer = storageBuffer(this.device, label, bytes);
    this.buffers.push(buffer);
    return buffer;
  }
}
