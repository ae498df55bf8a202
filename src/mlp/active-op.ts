import type { BufferGroup } from '../gpu/buffers.js';
import { encodeDispatch, foldGrid, type Kernel, kernel } from '../gpu/kernel.js';
import type { ActivationChoice } from './activation.js';
import type { Compute } from './compute.js';
import { gateUpActive } from './threshold-kernels.js';
import { biasSlot, type FusedNorm, rowParams, type StoredRows } from './row-op.js';
import { type RowVariant, rowConstants, rowVariant, storedSlots, unitsOf } from './variants.js';

export interface ActiveOpOptions {
  /** One part, one shard each, over the same rows and dtype. */
  gate: StoredRows;
  up: StoredRows;
  /** f32, 4 values a row; both or neither. */
  gateBias?: StoredRows;
  upBias?: StoredRows;
  activation: ActivationChoice;
  /** What rows and x are multiplied in. Default f32; f16 is for rows stored as f16. */
  compute?: Compute;
  /** Rows with |act(gate)| at or below it are left out. */
  threshold: number;
  /** Compute them all the same, as zeros: the dense baseline. Then out is in the order of the rows. */
  all: boolean;
  /** Stride of x in values. */
  xStride: number;
  norm?: FusedNorm;
  x: GPUBuffer;
  /** `[N]`: gate · up of the active rows of each segment, from the segment's start. */
  out: GPUBuffer;
  /** Default: the tuned one, else the adapter's default. */
  variant?: RowVariant;
}

/** Whether `gate_up_active` can serve: its two matrices are each in one buffer, stored alike. */
export function canFuse(gate: StoredRows, up: StoredRows): boolean {
  return (
    gate.shards.length === 1 &&
    up.shards.length === 1 &&
    gate.dtype === up.dtype &&
    gate.storage === up.storage
  );
}

/** `gate_up_active`: gate of all rows, up of the active ones, and their list, in one dispatch, for one token. */
export class ActiveOp {
  /** Rows a workgroup works on and keeps one run of the list for. */
  readonly segment: number;
  /** Segments, and so counts at the head of the list. */
  readonly segments: number;
  /** [a count a segment, then each segment's active ids from its own start] */
  readonly list: GPUBuffer;
  private readonly kernel: Kernel;
  private readonly group: GPUBindGroup;
  private readonly grid: readonly [number, number, number];

  constructor(memory: BufferGroup, options: ActiveOpOptions) {
    const { gate, up, gateBias, upBias, activation, norm } = options;
    const { device } = memory;
    const [shard] = gate.shards;
    const variant =
      options.variant ??
      rowVariant(device, 'gate_up_active', gate.dtype, false, gate.parts[0], 'f32', gate.storage);
    const { team, tile, width, ROWS } = variant;
    const stored = unitsOf(gate.dtype, width, gate.parts[0], options.compute, gate.storage);
    this.segment = ROWS;
    this.segments = Math.ceil(shard.rows / ROWS);
    this.list = memory.storage('active rows', (this.segments + shard.rows) * 4);
    this.kernel = kernel(device, gateUpActive, {
      slots: {
        team,
        tile,
        ...storedSlots(stored, variant),
        bias: biasSlot(gateBias),
        activation: activation.slot,
        norm: norm ? 'rms' : 'none',
      },
      constants: {
        ...rowConstants(device, variant, gate.dtype, gate.parts[0]),
        ALL: options.all ? 1 : 0,
      },
    });
    this.group = this.kernel.bind({
      params: memory.uniform(
        'gate_up_active params',
        rowParams({ ...options, rows: gate, outStride: 0 }, shard, stored.units),
      ),
      weights: shard.memory,
      up_weights: up.shards[0].memory,
      bias: gateBias?.shards[0].memory,
      up_bias: upBias?.shards[0].memory,
      x: options.x,
      residual: norm?.residual,
      out: options.out,
      list: this.list,
    });
    this.grid = [...foldGrid(device, this.segments), 1];
  }

  encode(pass: GPUComputePassEncoder): void {
    encodeDispatch(pass, { kernel: this.kernel, group: this.group, grid: this.grid });
  }
}
