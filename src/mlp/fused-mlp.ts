import type { BufferGroup } from '../gpu/buffers.js';
import { kernel } from '../gpu/kernel.js';
import type { StoredDtype } from '../gpu/layout.js';
import type { RowStorage } from '../gpu/storage.js';
import { type Traits, traitsOf } from '../gpu/traits.js';
import type { ActivationChoice } from './activation.js';
import { rowParams, type StoredRows } from './row-op.js';
import { type Stream, type StreamNorm, StreamOp } from './stream.js';
import { mlpActive } from './threshold-kernels.js';
import { residentUnits, rowVariants, unitsOf } from './variants.js';

export interface FusedMlpOptions {
  /** [N, columns] each, without biases. */
  gate: StoredRows;
  up: StoredRows;
  down: StoredRows;
  /** [columns] */
  downBias: GPUBuffer;
  activation: ActivationChoice;
  /** Rows with |act(gate)| at or below it are left out: 0 is exact. */
  threshold: number;
  norm: StreamNorm;
  /** Of the residual stream, in values. */
  stride: number;
  /** `[at least runsOf(N), stride]` */
  out: GPUBuffer;
}

/** What the residual stream's stride is a multiple of: what is fused has no padding. */
export const WHOLE_VALUES = 32;
/** Workgroups, as far as rows go: each claims runs, as many as there are. What comes next reads so many parts. */
const RUNS = 8;
const LEAST_ROWS = 64;

/** Parts that `mlp_active` leaves of a layer of so many rows. */
export const runsOf = (rows: number): number => Math.max(1, Math.min(RUNS, Math.floor(rows / LEAST_ROWS)));

/** How the lanes of a subgroup have a row: the slots of its dtype, and units a lane. */
export interface WholeRows {
  readonly slots: ReturnType<typeof unitsOf>['slots'];
  readonly units: number;
}

/** Lanes at least: SwiftShader has four, and takes ten seconds to compile attention this way. */
const LEAST_LANES = 8;

/**
 * How the lanes of a subgroup keep an x of `cols` values in their registers, so many units each, for rows of a dtype;
 * undefined where they cannot, or where it is not worth it: GPUs want more workgroups, and dispatches cost them less.
 */
export function wholeRows(
  traits: Traits,
  dtype: StoredDtype,
  cols: number,
  storage: RowStorage = 'buffer',
): WholeRows | undefined {
  const { software, subgroup } = traits;
  if (!software || subgroup < LEAST_LANES) return undefined;
  const [{ width }] = rowVariants(traits, 'gate_up_active', dtype, false, cols, storage);
  const units = residentUnits(dtype, width, cols, subgroup);
  return units > 0 ? { slots: unitsOf(dtype, width, cols, 'f32', storage).slots, units } : undefined;
}

/** The constants of every kernel with lib/stream.wgsl, whose workgroups are subgroups. `stride`: of the stream, in values. */
export const wholeConstants = ({ subgroup, octets }: Traits, stride: number) => ({
  WORKGROUP: subgroup,
  SUBGROUP: subgroup,
  OCTETS: octets ? 1 : 0,
  X_QUADS: stride / 4,
});

/**
 * `mlp_active`: a whole gated layer of one token, from residual stream to residual stream. On lavapipe, where a dispatch
 * costs as much as 100 KB of weights, decoding the shipped model takes three quarters of the time with it and with attention
 * fused alike.
 */
export class FusedMlp {
  /** How many rows of each run were active: words that add up. */
  readonly counts: { readonly buffer: GPUBuffer; readonly words: number };
  private readonly op: StreamOp;

  /** Undefined where the kernel does not serve: other adapters, longer rows, several shards, dtypes that differ. */
  static make(memory: BufferGroup, options: FusedMlpOptions): FusedMlp | undefined {
    const { gate, up, down } = options;
    const [cols] = gate.parts;
    const alike = [gate, up, down].every(
      ({ shards, dtype, rowBytes, storage }) =>
        shards.length === 1 && dtype === gate.dtype && rowBytes === gate.rowBytes && storage === gate.storage,
    );
    const rows = wholeRows(traitsOf(memory.device), gate.dtype, cols, gate.storage);
    return alike && rows && cols % WHOLE_VALUES === 0 ? new FusedMlp(memory, options, rows) : undefined;
  }

  private constructor(memory: BufferGroup, options: FusedMlpOptions, rows: WholeRows) {
    const { gate, up, down, downBias, activation, threshold, norm, stride, out } = options;
    const [shard] = gate.shards;
    const parts = runsOf(shard.rows);
    const params = rowParams(
      { rows: gate, activation, threshold, xStride: stride, outStride: stride },
      shard,
      0,
    );
    this.counts = { buffer: memory.storage('active rows', parts * 4), words: parts };
    this.op = new StreamOp(memory, {
      kernel: kernel(memory.device, mlpActive, {
        slots: { ...rows.slots, activation: activation.slot },
        constants: {
          ...wholeConstants(traitsOf(memory.device), stride),
          RESIDENT: rows.units,
          RUNS: parts,
        },
      }),
      buffers: {
        params: memory.uniform('mlp_active params', params),
        weights: shard.memory,
        up_weights: up.shards[0].memory,
        down_weights: down.shards[0].memory,
        down_bias: downBias,
        counts: this.counts.buffer,
        claims: memory.storage('claims', 4),
      },
      norm,
      stride,
      out,
      parts,
    });
  }

  /** @returns the stream after the layer, in `out`. */
  encode(pass: GPUComputePassEncoder, from: Stream): Stream {
    return this.op.encode(pass, from);
  }
}
