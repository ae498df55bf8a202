import type { BufferGroup } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import { BYTES_PER_VALUE } from '../gpu/layout.js';
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
  /** The most batch elements that will be asked for; sizes the partial sums. */
  maxBatch: number;
  /** Output bias [hidden] on the device; zeros when the layer has none. */
  bias: GPUBuffer;
  /** Room for the partial sums, to share between ops that run one after the other. */
  partials?: Scratch;
}

/** Lanes side by side on the columns. Few on software adapters: more workgroups, and so fewer splits, for two cores. */
const WORKGROUP = { software: 8, gpu: 64 };
/** Workgroups that keep a device busy. */
const WORKGROUPS_WANTED = { software: 8, gpu: 512 };
/** A split below this many rows is not worth its share of the second pass. */
const ROWS_PER_SPLIT = 16;

/**
 * out[b] (+)= sum of a[b, i] · down row i. Where the columns alone give enough workgroups each writes its whole sum;
 * else the rows are split, and a second kernel adds the splits.
 */
export class DownOp {
  private readonly options: DownOptions;
  private readonly kernel: Kernel;
  private readonly params: GPUBuffer[];
  private readonly splits: number;
  private readonly columnGroups: number;
  private readonly quads: number;
  /** The second pass, where there is one. */
  private readonly sum?: { kernel: Kernel; params: GPUBuffer; partials: Scratch };
  private bound?: { run: RowOpRun; groups: GPUBindGroup[]; sum?: GPUBindGroup };

  constructor(memory: BufferGroup, options: DownOptions) {
    const { device } = memory;
    const { rows, batched, maxBatch, columns, add } = options;
    const kind = traitsOf(device).software ? 'software' : 'gpu';
    this.options = options;
    this.quads = rows.rowBytes / (4 * BYTES_PER_VALUE[rows.dtype]);
    this.columnGroups = Math.ceil(this.quads / WORKGROUP[kind]);
    const mostRows = Math.max(...rows.shards.map((shard) => shard.rows));
    const tiles = batched ? Math.ceil(maxBatch / BATCH_TILE) : 1;
    this.splits = Math.max(
      1,
      Math.min(
        Math.ceil(WORKGROUPS_WANTED[kind] / (this.columnGroups * tiles)),
        Math.ceil(mostRows / ROWS_PER_SPLIT),
      ),
    );
    const all = this.splits * rows.shards.length;
    const put = add ? 'add' : 'store';
    this.kernel = kernel(device, down, {
      slots: {
        weights: rows.dtype,
        rows: options.mode,
        sums: String(batched ? BATCH_TILE : 1),
        finish: all === 1 ? put : 'partials',
      },
      constants: { WORKGROUP: WORKGROUP[kind] },
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
      ]),
    );
    if (all === 1) return;
    const partials = options.partials ?? new Scratch(memory, 'down partials');
    partials.reserve(all * maxBatch * this.quads * 16);
    this.sum = {
      kernel: kernel(device, sumPartials, { slots: { put } }),
      params: memory.uniform('down sum params', [all, this.quads, columns, options.outStride]),
      partials,
    };
  }

  /** `run.x` are the activations a; `run.out` the output. */
  encode(pass: GPUComputePassEncoder, run: RowOpRun): void {
    const { groups, sum } = this.groupsFor(run);
    const tiles = this.options.batched ? Math.ceil(run.batch / BATCH_TILE) : run.batch;
    for (const group of groups) {
      encodeDispatch(pass, { kernel: this.kernel, group, grid: [this.columnGroups, this.splits, tiles] });
    }
    if (this.sum && sum) {
      const grid = [Math.ceil(this.quads / 64), run.batch, 1] as const;
      encodeDispatch(pass, { kernel: this.sum.kernel, group: sum, grid });
    }
  }

  private groupsFor(run: RowOpRun): { groups: GPUBindGroup[]; sum?: GPUBindGroup } {
    if (this.bound && sameBuffers(this.bound.run, run)) return this.bound;
    const { rows, bias } = this.options;
    const { step, x, out, list } = run;
    const partials = this.sum?.partials.buffer;
    const groups = rows.shards.map((shard, s) =>
      this.kernel.bind({
        params: this.params[s],
        step,
        weights: shard.buffer,
        a: x,
        partials,
        out,
        bias,
        row_list: list,
      }),
    );
    const sum = this.sum?.kernel.bind({ params: this.sum.params, step, partials, bias, out });
    this.bound = { run, groups, sum };
    return this.bound;
  }
}
