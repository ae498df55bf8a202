import type { BufferGroup } from '../gpu/buffers.js';
import { BYTES_PER_VALUE } from '../gpu/layout.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import { Scratch } from '../gpu/scratch.js';
import { traitsOf } from '../gpu/traits.js';
import { BATCH_TILE, down, type RowsMode, sumPartials } from './kernels.js';
import { type RowOpRun, type StoredRows, sameBuffers } from './row-op.js';

export interface DownOptions {
  rows: StoredRows;
  mode: Exclude<RowsMode, 'masked'>;
  /** Columns of the output, hidden. */
  columns: number;
  /** Stride of the activations a, in values. */
  xStride: number;
  /** Stride of the output, in values. */
  outStride: number;
  /** Add to the output instead of storing. */
  add: boolean;
  batched: boolean;
  /** The most batch elements and rows that will be asked for; sizes the partial sums. */
  maxBatch: number;
  /** Output bias [hidden] on the device; zeros when the layer has none. */
  bias: GPUBuffer;
  /** Room for the partial sums, to share between ops that run one after the other. */
  partials?: Scratch;
}

/**
 * Splits a row sum is cut into, so that enough workgroups run. On software adapters about two workgroups a core are
 * enough; GPUs want hundreds.
 */
function chooseSplits(software: boolean, columnGroups: number, rows: number, batchTiles: number): number {
  const wanted = software ? 8 : 512;
  return Math.max(1, Math.min(Math.ceil(wanted / (columnGroups * batchTiles)), Math.ceil(rows / 16)));
}

/** out[b] (+)= sum of a[b, i] · down row i: partial sums over splits of the rows, then their sum. */
export class DownOp {
  private readonly options: DownOptions;
  private readonly kernel: Kernel;
  private readonly sum: Kernel;
  private readonly params: GPUBuffer[];
  private readonly sumParams: GPUBuffer;
  private readonly partials: Scratch;
  private readonly splits: number;
  private readonly columnGroups: number;
  private readonly quads: number;
  private bound?: { run: RowOpRun; groups: GPUBindGroup[]; sum: GPUBindGroup };

  constructor(memory: BufferGroup, options: DownOptions) {
    const { device } = memory;
    const { rows, batched, maxBatch, columns } = options;
    const { software } = traitsOf(device);
    this.options = options;
    const WORKGROUP = software ? 16 : 64;
    this.quads = rows.rowBytes / (4 * BYTES_PER_VALUE[rows.dtype]);
    this.columnGroups = Math.ceil(this.quads / WORKGROUP);
    const mostRows = Math.max(...rows.shards.map((shard) => shard.rows));
    const tiles = batched ? Math.ceil(maxBatch / BATCH_TILE) : 1;
    this.splits = chooseSplits(software, this.columnGroups, mostRows, tiles);
    this.kernel = kernel(device, down, {
      slots: { weights: rows.dtype, rows: options.mode, sums: String(batched ? BATCH_TILE : 1) },
      constants: { WORKGROUP },
    });
    this.sum = kernel(device, sumPartials, { slots: { put: options.add ? 'add' : 'store' } });
    const all = this.splits * rows.shards.length;
    this.partials = options.partials ?? new Scratch(memory, 'down partials');
    this.partials.reserve(all * maxBatch * this.quads * 16);
    this.params = rows.shards.map((shard, s) =>
      memory.uniform('down params', [shard.rows, shard.base, this.quads, options.xStride, s * this.splits]),
    );
    this.sumParams = memory.uniform('down sum params', [all, this.quads, columns, options.outStride]);
  }

  /** `run.x` are the activations a; `run.out` the output. */
  encode(pass: GPUComputePassEncoder, run: RowOpRun): void {
    const { groups, sum } = this.groupsFor(run);
    const tiles = this.options.batched ? Math.ceil(run.batch / BATCH_TILE) : run.batch;
    for (const group of groups) {
      encodeDispatch(pass, { kernel: this.kernel, group, grid: [this.columnGroups, this.splits, tiles] });
    }
    encodeDispatch(pass, { kernel: this.sum, group: sum, grid: [Math.ceil(this.quads / 64), run.batch, 1] });
  }

  private groupsFor(run: RowOpRun): { groups: GPUBindGroup[]; sum: GPUBindGroup } {
    if (this.bound && sameBuffers(this.bound.run, run)) return this.bound;
    const { rows, bias } = this.options;
    const { step, x, out, list } = run;
    const groups = rows.shards.map((shard, s) =>
      this.kernel.bind({
        params: this.params[s],
        step,
        weights: shard.buffer,
        a: x,
        partials: this.partials.buffer,
        row_list: list,
      }),
    );
    const sum = this.sum.bind({ params: this.sumParams, step, partials: this.partials.buffer, bias, out });
    this.bound = { run, groups, sum };
    return this.bound;
  }
}
