import type { BufferGroup } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import type { Scratch } from '../gpu/scratch.js';
import type { DevicePool } from '../pool/device-pool.js';
import { compact, maskValues } from '../slab/kernels.js';
import type { Slab } from '../slab/slab.js';
import type { ActivationChoice } from './activation.js';
import { DownOp } from './down-op.js';
import type { RowsMode } from './kernels.js';
import { RowOp, slabRows, type StoredRows } from './row-op.js';

/** A gated layer whose mask is found by its own gate, which is computed for all rows. */
export interface ThresholdLayerParts {
  /** Dense: field `weight`, and `bias` where there is one. */
  gate: DevicePool;
  /** Sparse: fields `up`, `down`, and `bias` (of up) where there is one. */
  pool: DevicePool;
  /** [hidden] on the device, zeros when there is none. */
  downBias: GPUBuffer;
  activation: ActivationChoice;
  /** Rows with |act(gate)| at or below it are left out: 0 is exact, since such rows add nothing. */
  threshold: number;
  /** For the packed ways. */
  slab?: Slab;
}

/** Buffers that layers share, since they run one after the other, and the shapes that go with them. */
export interface LayerScratch {
  /** [batch, gateStride]: act(gate), zero where left out. */
  gate: GPUBuffer;
  /** [batch, gateStride]: gate · up of the active rows. */
  a: GPUBuffer;
  partials: Scratch;
  gateStride: number;
  /** Stride of the layer's input and output rows, in values. */
  xStride: number;
  hidden: number;
  maxBatch: number;
}

/** What a layer runs on: x is its (normed) input, y the residual stream that it adds to. */
export interface LayerRun {
  step: GPUBuffer;
  x: GPUBuffer;
  y: GPUBuffer;
  batch: number;
}

/** Encodes the pieces of a threshold (or exact) layer; the caller puts them in order for its strategy. */
export class ThresholdLayer {
  /** N bits: the active rows of the last `encodeMask`. */
  readonly mask: GPUBuffer;
  private readonly parts: ThresholdLayerParts;
  private readonly scratch: LayerScratch;
  /** The active rows of the last `encodeCompact`: [count, 0, 0, 0, ids]. */
  readonly list: GPUBuffer;
  private readonly gateOp: RowOp;
  private readonly ways = new Map<RowsMode, { up: RowOp; down: DownOp }>();
  private readonly memory: BufferGroup;
  private readonly compactOp: { kernel: Kernel; group: GPUBindGroup };
  private readonly maskOp: { kernel: Kernel; group: GPUBindGroup };

  constructor(memory: BufferGroup, parts: ThresholdLayerParts, scratch: LayerScratch) {
    const { gate, pool, activation, threshold } = parts;
    const { device } = memory;
    this.memory = memory;
    this.parts = parts;
    this.scratch = scratch;
    this.gateOp = new RowOp(memory, {
      rows: gate.field('weight'),
      mode: 'dense',
      bias: gate.fields.get('bias'),
      activation,
      put: 'activate',
      threshold,
      xStride: scratch.xStride,
      outStride: scratch.gateStride,
      batched: scratch.maxBatch > 1,
    });
    this.list = memory.storage('active rows', 16 + 4 * pool.rows);
    this.mask = memory.storage('active mask', Math.ceil(pool.rows / 32) * 4);
    const values = scratch.gate;
    const toMask = kernel(device, maskValues);
    const params = memory.uniform('compact params', [pool.rows, pool.rows]);
    const toList = kernel(device, compact, { slots: { active: 'values' } });
    this.compactOp = { kernel: toList, group: toList.bind({ params, values, list: this.list }) };
    this.maskOp = { kernel: toMask, group: toMask.bind({ params, values, mask: this.mask }) };
  }

  get rows(): number {
    return this.parts.pool.rows;
  }

  /** act(gate · x) of all rows, zero where it does not exceed the threshold. */
  encodeGate(pass: GPUComputePassEncoder, { step, x, batch }: LayerRun): void {
    this.gateOp.encode(pass, { step, x, out: this.scratch.gate, count: this.rows, batch });
  }

  /** Up and down over every row. */
  encodeDense(pass: GPUComputePassEncoder, run: LayerRun): void {
    this.encodeWay(pass, 'dense', run, this.rows);
  }

  /** The list of active rows, on the device. Batch 1. */
  encodeCompact(pass: GPUComputePassEncoder): void {
    encodeDispatch(pass, { ...this.compactOp, grid: [1, 1, 1] });
  }

  /** Up and down over the listed rows of the pool, however many: a static grid that leaves early. */
  encodeIndexed(pass: GPUComputePassEncoder, run: LayerRun): void {
    this.encodeWay(pass, 'indexed', run, this.rows, this.list);
  }

  /** The mask of active rows, to be read back. Batch 1. */
  encodeMask(pass: GPUComputePassEncoder): void {
    encodeDispatch(pass, { ...this.maskOp, grid: [Math.ceil(this.rows / 32 / 64), 1, 1] });
  }

  /** Up and down over the slab's rows; it must hold the rows whose gate is not zero. */
  encodePacked(pass: GPUComputePassEncoder, run: LayerRun): void {
    const slab = this.parts.slab as Slab;
    this.encodeWay(pass, 'packed', run, slab.active, slab.rowList);
  }

  private encodeWay(
    pass: GPUComputePassEncoder,
    mode: RowsMode,
    run: LayerRun,
    count: number,
    list?: GPUBuffer,
  ): void {
    const { up, down } = this.way(mode);
    const { gate, a } = this.scratch;
    const { step, x, y, batch } = run;
    up.encode(pass, { step, x, out: a, gate, list, count, batch });
    down.encode(pass, { step, x: a, out: y, list, count, batch });
  }

  private way(mode: RowsMode): { up: RowOp; down: DownOp } {
    let way = this.ways.get(mode);
    if (!way) {
      const { pool, slab, downBias } = this.parts;
      const { xStride, gateStride, hidden, maxBatch, partials } = this.scratch;
      const stored = (name: string): StoredRows | undefined => {
        const field = pool.fields.get(name);
        const buffer = slab?.buffers.get(name);
        return field && mode === 'packed' && slab && buffer ? slabRows(field, buffer, slab.capacity) : field;
      };
      const batched = maxBatch > 1;
      way = {
        up: new RowOp(this.memory, {
          rows: stored('up') as StoredRows,
          mode,
          bias: stored('bias'),
          put: 'gated',
          xStride,
          outStride: gateStride,
          gateStride,
          batched,
        }),
        down: new DownOp(this.memory, {
          rows: stored('down') as StoredRows,
          mode: mode as Exclude<RowsMode, 'masked'>,
          columns: hidden,
          xStride: gateStride,
          outStride: xStride,
          add: true,
          batched,
          maxBatch,
          bias: downBias,
          partials,
        }),
      };
      this.ways.set(mode, way);
    }
    return way;
  }
}
