import { type BufferGroup, f32Bits } from '../gpu/buffers.js';
import { encodeDispatch, foldGrid, type Kernel, kernel, type KernelTable } from '../gpu/kernel.js';
import { partVectors, valueVectors } from '../gpu/layout.js';
import type { Region } from '../gpu/regions.js';
import type { Field, Shard } from '../pool/device-pool.js';
import type { Slab } from '../slab/slab.js';
import type { ActivationChoice } from './activation.js';
import type { Compute } from './compute.js';
import type { MaskedMode, RowsMode } from './kernels.js';
import { type RowVariant, rowConstants, rowVariant, storedSlots, tileBatch, unitsOf } from './variants.js';

/** One field's rows as a kernel reads them: a pool's shards, or the one buffer of a slab. */
export type StoredRows = Pick<Field, 'dtype' | 'rowBytes' | 'parts' | 'shards' | 'storage'> & {
  /** Vectors of 16 bytes before the parts in each row; only down reads rows that have others before its own. */
  readonly start?: number;
};

/** An RMS norm left to the op that reads its result: x comes times the norm's weight, `residual` as it was before. */
export interface FusedNorm {
  /** [stride of x] */
  residual: GPUBuffer;
  columns: number;
  eps: number;
}

/** The residual stream's other half, for ops that add to it: it times the next norm's weight. */
export interface NextNorm {
  /** [stride of out] */
  scaled: GPUBuffer;
  /** [stride of out] */
  weight: GPUBuffer;
}

/** Everything an op is made of that stays the same from step to step. */
export interface RowOpOptions {
  /** linear, gate_up, or one of their kind. */
  table: KernelTable;
  rows: StoredRows;
  mode: RowsMode | MaskedMode;
  /** For mode `arriving`, where `rows` are a slab's: the pool's, stored alike, in one shard. */
  pool?: StoredRows;
  /** Row biases, sharded like `rows`: f32, 4 values a row. */
  bias?: StoredRows;
  activation?: ActivationChoice;
  /** What rows and x are multiplied in. Default f32; f16 is for rows stored as f16. */
  compute?: Compute;
  /** What happens to a result; only `linear` has the choice. */
  put?: 'store' | 'add' | 'residual' | 'activate' | 'gated';
  /** |act| must exceed it (put `activate`); negative keeps all. */
  threshold?: number;
  /** Strides in values. */
  xStride: number;
  outStride: number;
  gateStride?: number;
  /** Batched ops read each row once for a tile of the batch. */
  batched: boolean;
  /** Batch 1 only, `linear` only. */
  norm?: FusedNorm;
  /** For put `residual`, batch 1 only. */
  next?: NextNorm;
  /** Default: the tuned one, else the adapter's default. */
  variant?: RowVariant;
}

/** What changes: buffers and counts. Buffers that stay the same keep their bind groups. */
export interface RowOpRun {
  step: GPUBuffer;
  x: GPUBuffer | Region;
  out: GPUBuffer | Region;
  gate?: GPUBuffer;
  /** For mode `arriving` the slab's arrivals. */
  list?: GPUBuffer | Region;
  /** For mode `arriving`: the slab's list of row ids, which `gate_up_arriving` keeps. */
  rowList?: GPUBuffer;
  /** lib/keep_masked.wgsl */
  masks?: GPUBuffer | Region;
  /** Rows to cover: of a list at most so many. Dense ops cover their shards. */
  count: number;
  batch: number;
}

/** Workgroups that claim their rows: enough for any software adapter's threads. One that comes too late leaves at once. */
export const CLAIMERS = 32;

/** `linear` or `gate_up` over stored rows: one dispatch a shard. */
export class RowOp {
  private readonly device: GPUDevice;
  private readonly kernel: Kernel;
  private readonly variant: RowVariant;
  private readonly options: RowOpOptions;
  private readonly params: GPUBuffer[];
  /** lib/work_claims.wgsl */
  private readonly claims?: GPUBuffer;
  private readonly bound = new Bound<GPUBindGroup[]>();

  constructor(memory: BufferGroup, options: RowOpOptions) {
    const { rows, bias, activation, norm, table } = options;
    const { device } = memory;
    const kind = table.name.startsWith('gate_up') ? 'gate_up' : 'linear';
    this.device = device;
    this.options = options;
    const chosen =
      options.variant ??
      rowVariant(device, kind, rows.dtype, options.batched, rows.parts[0], options.compute, rows.storage);
    // The kernels of rows that arrive have no claims.
    this.variant =
      chosen.team === 'claims' && table.name !== kind
        ? { ...chosen, team: 'subgroup', ROWS: 4 * chosen.ROWS }
        : chosen;
    const { team, width } = this.variant;
    // Rows that arrive are multiplied by tiles that read x as they go.
    const tile = options.pool && this.variant.tile === '8x1' ? '2x1' : this.variant.tile;
    const stored = unitsOf(rows.dtype, width, rows.parts[0], options.compute, rows.storage);
    const slots = {
      team,
      tile,
      ...storedSlots(stored, this.variant),
      rows: options.mode,
      bias: biasSlot(bias),
      activation: activation?.slot ?? 'identity',
      norm: norm ? 'rms' : 'none',
      put: options.put ?? 'store',
    };
    this.kernel = kernel(device, table, {
      // Not every table has all of them open.
      slots: Object.fromEntries(Object.entries(slots).filter(([slot]) => Object.hasOwn(table.slots, slot))),
      constants: rowConstants(device, this.variant, rows.dtype, rows.parts[0]),
    });
    if (team === 'claims') this.claims = memory.storage('claims', 4);
    this.params = rows.shards.map((shard) =>
      memory.uniform(`${table.name} params`, rowParams(options, shard, stored.units)),
    );
  }

  encode(pass: GPUComputePassEncoder, run: RowOpRun): void {
    const { rows, mode } = this.options;
    const groups = this.bound.get(run, () => this.bind(run));
    const z = Math.ceil(run.batch / tileBatch(this.variant.tile));
    rows.shards.forEach((shard, s) => {
      const count = mode === 'dense' || mode === 'masked' ? shard.rows : run.count;
      // An update to no rows at all still has to be noted in the row list.
      const least = mode === 'arriving' ? 1 : 0;
      const pieces = Math.ceil(count / this.variant.ROWS);
      const [x, y] = this.claims
        ? [Math.min(CLAIMERS, pieces), 1]
        : foldGrid(this.device, Math.max(least, pieces));
      encodeDispatch(pass, { kernel: this.kernel, group: groups[s], grid: [x, y, z] });
    });
  }

  private bind(run: RowOpRun): GPUBindGroup[] {
    const { rows, pool, bias, norm, next } = this.options;
    return rows.shards.map((shard, s) =>
      this.kernel.bind({
        params: this.params[s],
        step: run.step,
        weights: shard.memory,
        bias: bias?.shards[s].memory,
        x: run.x,
        out: run.out,
        gate: run.gate,
        pool_weights: pool?.shards[s].memory,
        ...(pool ? { arrivals: run.list, row_list: run.rowList } : { row_list: run.list }),
        row_masks: run.masks,
        residual: norm?.residual,
        scaled: next?.scaled,
        next_norm: next?.weight,
        claims: this.claims,
      }),
    );
  }
}

/** The choice of slot `bias` for the biases of rows. */
export function biasSlot(bias: StoredRows | undefined): 'none' | 'row' | 'row_texels' {
  if (!bias) return 'none';
  return bias.storage === 'texture' ? 'row_texels' : 'row';
}

/** lib/row_params.wgsl */
export function rowParams(
  options: Omit<RowOpOptions, 'table' | 'mode' | 'batched'>,
  shard: Pick<Shard, 'rows' | 'base'>,
  units: number,
): number[] {
  const { rows, activation, norm } = options;
  return [
    shard.rows,
    shard.base,
    rows.rowBytes / 16,
    units,
    options.xStride / 4,
    options.outStride,
    options.gateStride ?? 0,
    f32Bits(options.threshold ?? -1),
    f32Bits(activation?.fat ?? 0),
    partVectors(rows.parts[0], rows.dtype),
    f32Bits(norm?.columns ?? 0),
    f32Bits(norm?.eps ?? 0),
    valueVectors(rows.parts[0], rows.dtype),
  ];
}

/** So many runs are kept for each list: as many calls may run at once, or batches of other sizes take turns. */
const KEPT = 4;

/** What was made for a run, kept for later ones with the same buffers. Lists and masks take turns: some for each. */
export class Bound<T> {
  private readonly kept = new Map<RowOpRun['list'], { run: RowOpRun; made: T }[]>();

  get(run: RowOpRun, make: () => T): T {
    const place = run.list ?? run.masks;
    const here = this.kept.get(place);
    const found = here?.find((one) => sameBuffers(one.run, run));
    if (found) return found.made;
    const made = make();
    if (here) here.unshift({ run, made });
    else this.kept.set(place, [{ run, made }]);
    if (here && here.length > KEPT) here.pop();
    return made;
  }
}

function sameBuffers(a: RowOpRun, b: RowOpRun): boolean {
  return (
    a.step === b.step &&
    a.x === b.x &&
    a.out === b.out &&
    a.gate === b.gate &&
    a.list === b.list &&
    a.rowList === b.rowList &&
    a.masks === b.masks
  );
}

/** A slab's field as rows, in the slab's dtype: one shard that covers all slots. Undefined when there is no such field. */
export function slabRows(
  slab: Pick<Slab, 'fields' | 'buffers' | 'capacity'>,
  name: string,
): StoredRows | undefined {
  const field = slab.fields.get(name);
  const buffer = slab.buffers.get(name);
  return (
    field &&
    buffer && { ...field, storage: 'buffer', shards: [{ memory: buffer, base: 0, rows: slab.capacity }] }
  );
}
