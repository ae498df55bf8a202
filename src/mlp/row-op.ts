import { type BufferGroup, f32Bits } from '../gpu/buffers.js';
import { encodeDispatch, foldGrid, type Kernel, kernel, type KernelTable } from '../gpu/kernel.js';
import type { Region } from '../gpu/regions.js';
import { traitsOf } from '../gpu/traits.js';
import type { Field, Shard } from '../pool/device-pool.js';
import type { ActivationChoice } from './activation.js';
import { BATCH_TILE, type Cut, defaultCut, linear, type RowsMode } from './kernels.js';

/** One field's rows as a kernel reads them: a pool's shards, or the one buffer of a slab. */
export type StoredRows = Pick<Field, 'dtype' | 'rowBytes' | 'parts' | 'shards'>;

/** Everything an op is made of that stays the same from step to step. */
export interface RowOpOptions {
  table?: KernelTable;
  rows: StoredRows;
  mode: RowsMode;
  /** Row biases, sharded like `rows`: f32, 4 values a row. */
  bias?: StoredRows;
  activation?: ActivationChoice;
  /** What happens to a result; only `linear` has the choice. */
  put?: 'store' | 'add' | 'activate' | 'gated';
  /** |act| must exceed it (put `activate`); negative keeps all. */
  threshold?: number;
  /** Strides in values. */
  xStride: number;
  outStride: number;
  gateStride?: number;
  /** Batched ops read each row once for BATCH_TILE of the batch. */
  batched: boolean;
  cut?: Cut;
}

/** What changes: buffers and counts. Buffers that stay the same keep their bind groups. */
export interface RowOpRun {
  step: GPUBuffer;
  x: GPUBuffer | Region;
  out: GPUBuffer | Region;
  gate?: GPUBuffer;
  list?: GPUBuffer | Region;
  mask?: GPUBuffer | Region;
  /** Rows to cover: of a list at most so many. Dense ops cover their shards. */
  count: number;
  batch: number;
}

/** `linear` or `gate_up` over stored rows: one dispatch a shard. */
export class RowOp {
  private readonly device: GPUDevice;
  private readonly kernel: Kernel;
  private readonly cut: Cut;
  private readonly options: RowOpOptions;
  private readonly params: GPUBuffer[];
  private bound?: { run: RowOpRun; groups: GPUBindGroup[] };

  constructor(memory: BufferGroup, options: RowOpOptions) {
    const { rows, bias, activation, table = linear } = options;
    const { device } = memory;
    this.device = device;
    this.options = options;
    this.cut = options.cut ?? defaultCut(traitsOf(device));
    this.kernel = kernel(device, table, {
      slots: {
        team: this.cut.team,
        tile: String(options.batched ? BATCH_TILE : 1),
        dot: rows.dtype,
        rows: options.mode,
        bias: bias ? 'row' : 'none',
        activation: activation?.slot ?? 'identity',
        ...(table === linear ? { put: options.put ?? 'store' } : {}),
      },
      constants: { WORKGROUP: this.cut.WORKGROUP, ROWS: this.cut.ROWS },
    });
    const vectors = rows.rowBytes / 16;
    this.params = rows.shards.map((shard) =>
      memory.uniform(`${table.name} params`, [
        shard.rows,
        shard.base,
        vectors,
        vectors / rows.parts.length,
        options.xStride / 4,
        options.outStride,
        options.gateStride ?? 0,
        f32Bits(options.threshold ?? -1),
        f32Bits(activation?.fat ?? 0),
      ]),
    );
  }

  encode(pass: GPUComputePassEncoder, run: RowOpRun): void {
    const { rows, mode, batched } = this.options;
    const groups = this.groupsFor(run);
    const z = batched ? Math.ceil(run.batch / BATCH_TILE) : run.batch;
    rows.shards.forEach((shard, s) => {
      const count = mode === 'dense' || mode === 'masked' ? shard.rows : run.count;
      const [x, y] = foldGrid(this.device, Math.ceil(count / this.cut.ROWS));
      encodeDispatch(pass, { kernel: this.kernel, group: groups[s], grid: [x, y, z] });
    });
  }

  private groupsFor(run: RowOpRun): GPUBindGroup[] {
    if (this.bound && sameBuffers(this.bound.run, run)) return this.bound.groups;
    const { rows, bias } = this.options;
    const groups = rows.shards.map((shard, s) =>
      this.kernel.bind({
        params: this.params[s],
        step: run.step,
        weights: shard.buffer,
        bias: bias?.shards[s].buffer,
        x: run.x,
        out: run.out,
        gate: run.gate,
        row_list: run.list,
        row_mask: run.mask,
      }),
    );
    this.bound = { run, groups };
    return groups;
  }
}

export function sameBuffers(a: RowOpRun, b: RowOpRun): boolean {
  return (
    a.step === b.step &&
    a.x === b.x &&
    a.out === b.out &&
    a.gate === b.gate &&
    a.list === b.list &&
    a.mask === b.mask
  );
}

/** A slab's field as rows: one shard that covers all slots. */
export function slabRows(field: Field, buffer: GPUBuffer, capacity: number): StoredRows {
  const shard: Shard = { buffer, base: 0, rows: capacity };
  return { dtype: field.dtype, rowBytes: field.rowBytes, parts: field.parts, shards: [shard] };
}
