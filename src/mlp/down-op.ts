import type { BufferGroup } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import { valueVectors } from '../gpu/layout.js';
import { Scratch } from '../gpu/scratch.js';
import type { DownMode, DownTables } from './kernels.js';
import { Bound, type NextNorm, type RowOpRun, type StoredRows } from './row-op.js';
import { type DownVariant, downVariant, sumsBatch, sumsVectors, unitsOf } from './variants.js';

export interface DownOptions {
  /** Of mode `arriving` the kernel that brings its rows in itself. */
  tables: DownTables;
  rows: StoredRows;
  /** `segments`: the list that gate_up_active leaves, in segments of so many rows. One shard, batch 1. */
  mode: DownMode;
  segment?: number;
  /** For mode `arriving`, where `rows` are a slab's: the pool's, stored alike, in one shard. */
  pool?: StoredRows;
  /** Columns of the output, hidden. */
  columns: number;
  /** Stride of the activations a, in values. */
  xStride: number;
  /** Stride of the output, in values. */
  outStride: number;
  /** `add` to the output instead of storing; `residual` also leaves the sum times the next norm's weight (batch 1). */
  put: 'store' | 'add' | 'residual';
  next?: NextNorm;
  batched: boolean;
  /** The most batch elements that will be asked for; sizes the partial sums. */
  maxBatch: number;
  /** Output bias [hidden] on the device; zeros when the layer has none. */
  bias: GPUBuffer;
  /** Room for the partial sums, to share between ops that run one after the other. */
  partials?: Scratch;
  /** Default: the tuned one, else the adapter's default. */
  variant?: DownVariant;
}

/**
 * Workgroups that make a row of a list between them where each has sums as long as that: they need no second pass, which
 * costs as much as 60 rows. On lavapipe (2048 columns, f32) 1 % of the rows then take 0.65, 10 % 0.94 of the time. Rows in
 * order would take 1.4 times as long: half of each is half of each page.
 */
const LIST_GROUPS = 2;

/** A split below this many rows is not worth its share of the second pass. */
const ROWS_PER_SPLIT = 16;

/**
 * out[b] (+)= sum of a[b, i] · down row i. Where the columns alone give enough workgroups each writes its whole sum;
 * else the rows are split, and a second kernel adds the splits.
 */
export class DownOp {
  private readonly options: DownOptions;
  private readonly variant: DownVariant;
  private readonly kernel: Kernel;
  private readonly params: GPUBuffer[];
  private readonly splits: number;
  private readonly columnGroups: number;
  private readonly quads: number;
  /** The second pass, where there is one. */
  private readonly sum?: { kernel: Kernel; params: GPUBuffer; partials: Scratch };
  private readonly bound = new Bound<{ groups: GPUBindGroup[]; sum?: GPUBindGroup }>();

  constructor(memory: BufferGroup, options: DownOptions) {
    const { device } = memory;
    const { tables, rows, batched, maxBatch, columns, put, segment } = options;
    this.options = options;
    this.variant = options.variant ?? downVariant(device, rows.dtype, batched, columns, rows.storage);
    const { sums, width, WORKGROUP, workgroups } = this.variant;
    const stored = unitsOf(rows.dtype, width, columns, 'f32', rows.storage);
    this.quads = Math.ceil(columns / 4);
    const halves = sums === 'row' && options.mode === 'indexed';
    const vectors = sumsVectors(this.variant, stored, halves ? LIST_GROUPS : 1);
    this.columnGroups = Math.ceil(stored.units / (WORKGROUP * vectors));
    const mostRows = Math.max(...rows.shards.map((shard) => shard.rows));
    const tiles = Math.ceil(maxBatch / sumsBatch(sums));
    this.splits = Math.max(
      1,
      Math.min(
        Math.ceil((halves ? 1 : workgroups) / (this.columnGroups * tiles)),
        Math.ceil(mostRows / Math.max(ROWS_PER_SPLIT, segment ?? 0)),
      ),
    );
    const all = this.splits * rows.shards.length;
    this.kernel = kernel(device, tables.down, {
      slots: {
        ...(options.pool ? { arrive: sums } : {}),
        dtype: stored.slots.dtype,
        quads: stored.slots.quads,
        sums,
        rows: options.mode,
        finish: all === 1 ? put : 'partials',
      },
      constants: {
        WORKGROUP,
        ...(sums === 'row' ? { LANE_VECTORS: vectors } : {}),
        ...(segment ? { SEGMENT: segment } : {}),
      },
    });
    this.params = rows.shards.map((shard, s) =>
      memory.uniform('down params', [
        shard.rows,
        shard.base,
        this.quads,
        options.xStride,
        s * this.splits,
        columns,
        options.outStride,
        rows.rowBytes / 16,
        stored.units,
        valueVectors(columns, rows.dtype),
        rows.start ?? 0,
      ]),
    );
    if (all === 1) return;
    const partials = options.partials ?? new Scratch(memory, 'down partials');
    partials.reserve(all * maxBatch * this.quads * 16);
    this.sum = {
      kernel: kernel(device, tables.sum, { slots: { put } }),
      params: memory.uniform('down sum params', [all, this.quads, columns, options.outStride]),
      partials,
    };
  }

  /** `run.x` are the activations a; `run.out` the output. */
  encode(pass: GPUComputePassEncoder, run: RowOpRun): void {
    const { groups, sum } = this.bound.get(run, () => this.bind(run));
    const tiles = Math.ceil(run.batch / sumsBatch(this.variant.sums));
    for (const group of groups) {
      encodeDispatch(pass, { kernel: this.kernel, group, grid: [this.columnGroups, this.splits, tiles] });
    }
    if (this.sum && sum) {
      const grid = [Math.ceil(this.quads / 64), run.batch, 1] as const;
      encodeDispatch(pass, { kernel: this.sum.kernel, group: sum, grid });
    }
  }

  private bind(run: RowOpRun): { groups: GPUBindGroup[]; sum?: GPUBindGroup } {
    const { rows, pool, bias, next } = this.options;
    const { step, x, out, list } = run;
    const partials = this.sum?.partials.buffer;
    const ends = { partials, out, bias, scaled: next?.scaled, next_norm: next?.weight };
    const groups = rows.shards.map((shard, s) =>
      this.kernel.bind({
        params: this.params[s],
        step,
        weights: shard.memory,
        a: x,
        pool_weights: pool?.shards[s].memory,
        [pool ? 'arrivals' : 'row_list']: list,
        ...ends,
      }),
    );
    const sum = this.sum?.kernel.bind({ params: this.sum.params, step, ...ends });
    return { groups, sum };
  }
}
