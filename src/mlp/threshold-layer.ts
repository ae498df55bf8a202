import type { BufferGroup } from '../gpu/buffers.js';
import { type Dispatch, encodeDispatch, kernel } from '../gpu/kernel.js';
import type { Scratch } from '../gpu/scratch.js';
import { traitsOf } from '../gpu/traits.js';
import type { DevicePool } from '../pool/device-pool.js';
import type { DevicePlanner } from '../slab/device-planner.js';
import { compact, maskValues } from '../slab/kernels.js';
import type { RowSelector } from '../slab/row-selector.js';
import type { Slab } from '../slab/slab.js';
import type { ActivationChoice } from './activation.js';
import { ActiveOp, canFuse } from './active-op.js';
import type { Compute } from './compute.js';
import { DownOp } from './down-op.js';
import type { DownMode, RowsMode } from './kernels.js';
import { modelDownArriving, modelDownTables, modelLinear } from './model-kernels.js';
import { upArriving } from './threshold-kernels.js';
import { type DevicePredictor, PredictedOp } from './predicted-op.js';
import { type FusedNorm, type NextNorm, RowOp, slabRows, type StoredRows } from './row-op.js';
import type { UpdateWay } from './update-way.js';

/** A gated layer whose mask is found by its own gate, which is computed for all rows. */
export interface ThresholdLayerParts {
  /** Dense: field `weight`, and `bias` where there is one. */
  gate: DevicePool;
  /**
   * Sparse: fields `up`, `down`, and `bias` (of up) where there is one. Without it only the gate and its masks can be
   * encoded: up and down are a `SlotsLayer`'s.
   */
  pool?: DevicePool;
  /** [hidden] on the device, zeros when there is none. */
  downBias: GPUBuffer;
  activation: ActivationChoice;
  /** What gate and up are multiplied in. Default f32; f16 is for rows stored as f16. */
  compute?: Compute;
  /** Rows with |act(gate)| at or below it are left out: 0 is exact, since such rows add nothing. */
  threshold: number;
  /** For the packed ways. */
  slab?: Slab;
  /** Batch 1: what reads the residual stream after this layer has its norm fused. */
  next?: NextNorm;
  /**
   * Batch 1, where `canPredict`: which rows' gates `encodeActive` computes. A row that is active and was not predicted is
   * left out.
   */
  predictor?: DevicePredictor;
  /** Batch 1: which rows `encodeActive` takes, by the sizes of act(gate), of which all are computed. */
  selector?: RowSelector;
}

/** Whether a gated layer's rows can be predicted: its matrices can be read by one kernel, and have no biases. */
export function canPredict(gate: DevicePool, pool: DevicePool): boolean {
  return (
    canFuse(gate.field('weight'), pool.field('up')) && !gate.fields.has('bias') && !pool.fields.has('bias')
  );
}

/** Buffers that layers share, since they run one after the other, and the shapes that go with them. */
export interface LayerScratch {
  /** `[batch, gateStride]`: act(gate), zero where left out. */
  gate: GPUBuffer;
  /** `[batch, gateStride]`: gate · up of the active rows. */
  a: GPUBuffer;
  partials: Scratch;
  gateStride: number;
  /** Stride of the layer's input and output rows, in values. */
  xStride: number;
  hidden: number;
  maxBatch: number;
  /** `[batch, xStride]`: the layer's input. */
  x: GPUBuffer;
  /** Batch 1: the norm before it, when that is left to its first op. */
  norm?: FusedNorm;
}

/** What a layer runs on: x is its input, y the residual stream that it adds to. */
export interface LayerRun {
  step: GPUBuffer;
  x: GPUBuffer;
  y: GPUBuffer;
  batch: number;
}

/** One way through up and down, after the gate or (fused) with it. */
interface Way {
  /** Gate, up and the list in one. */
  active?: ActiveOp | PredictedOp;
  up?: RowOp;
  down: DownOp;
}

/** The active rows' ids after a count and padding, as indexed kernels read them, and what makes them of gate's values. */
interface Lists {
  list: GPUBuffer;
  dispatches: Dispatch[];
}

/** N bits and what makes them of gate's values. */
interface Masks {
  mask: GPUBuffer;
  dispatch: Dispatch;
}

/** Encodes the pieces of a threshold (or exact) layer; the caller puts them in order for its strategy. */
export class ThresholdLayer {
  private readonly parts: ThresholdLayerParts;
  private readonly scratch: LayerScratch;
  private readonly memory: BufferGroup;
  private readonly fused: boolean;
  private readonly ways = new Map<DownMode, Way>();
  private gateOp?: RowOp;
  private masks?: Masks;
  private lists?: Lists;

  constructor(memory: BufferGroup, parts: ThresholdLayerParts, scratch: LayerScratch) {
    this.memory = memory;
    this.parts = parts;
    this.scratch = scratch;
    const { gate, pool } = parts;
    const one = scratch.maxBatch === 1 && !parts.selector;
    this.fused = one && !!pool && canFuse(gate.field('weight'), pool.field('up'));
  }

  get rows(): number {
    return this.parts.gate.rows;
  }

  /** Gate, up and down over every row. */
  encodeDense(pass: GPUComputePassEncoder, run: LayerRun): void {
    if (!this.fused) this.encodeGate(pass, run);
    this.encodeWay(pass, 'dense', run, this.rows);
  }

  /**
   * Gate over every row, up and down over those that are active (of a batch: for any of its elements): nothing waits for
   * the CPU.
   */
  encodeActive(pass: GPUComputePassEncoder, run: LayerRun): void {
    if (this.fused) {
      this.encodeWay(pass, 'segments', run, this.rows);
      return;
    }
    this.encodeGate(pass, run);
    this.parts.selector?.encode(pass, this.scratch.gate);
    const { list, dispatches } = this.toList(run.step);
    for (const dispatch of dispatches) encodeDispatch(pass, dispatch);
    this.encodeWay(pass, 'indexed', run, this.rows, list);
  }

  /** Rows that the last `encodeActive` predicted: words that add up to it, from byte `at`. Null without a predictor. */
  get predicted(): { buffer: GPUBuffer; at: number; words: number } | null {
    if (!this.parts.predictor) return null;
    const { active } = this.way('segments');
    if (!(active instanceof PredictedOp)) return null;
    return { buffer: active.list, at: (active.segments + this.rows) * 4, words: active.segments };
  }

  /** Where the last `encodeActive` left how many rows were active: words that add up to it. */
  get counts(): { buffer: GPUBuffer; words: number } {
    const { active } = this.way(this.fused ? 'segments' : 'indexed');
    return active
      ? { buffer: active.list, words: active.segments }
      : { buffer: (this.lists as Lists).list, words: 1 };
  }

  /** act(gate · x) of all rows, zero where it does not exceed the threshold. */
  encodeGate(pass: GPUComputePassEncoder, { step, x, batch }: LayerRun): void {
    const { gate, activation, compute, threshold } = this.parts;
    const { xStride, gateStride, maxBatch, norm } = this.scratch;
    this.gateOp ??= new RowOp(this.memory, {
      table: modelLinear,
      rows: gate.field('weight'),
      mode: 'dense',
      bias: gate.fields.get('bias'),
      activation,
      compute,
      put: 'activate',
      threshold,
      xStride,
      outStride: gateStride,
      batched: maxBatch > 1,
      norm,
    });
    this.gateOp.encode(pass, { step, x, out: this.scratch.gate, count: this.rows, batch });
  }

  /**
   * N bits, to be read back: the rows that the last `encodeGate` left above the threshold, of a batch for any of its
   * elements.
   */
  encodeMask(pass: GPUComputePassEncoder, step: GPUBuffer): GPUBuffer {
    this.masks ??= this.scratch.maxBatch === 1 ? this.makeMasks() : this.makeUnion(step);
    encodeDispatch(pass, this.masks.dispatch);
    return this.masks.mask;
  }

  /** Up and down over the slab's rows; it must hold the rows whose gate is not zero. */
  encodePacked(pass: GPUComputePassEncoder, run: LayerRun): void {
    const slab = this.parts.slab as Slab;
    this.encodeWay(pass, 'packed', run, slab.active, slab.rowList);
  }

  /**
   * As `encodePacked`, of a slab that takes in the rows that the gate leaves on the way: planned on the device, so that
   * nothing waits for the CPU. Batch 1.
   * @param update `fused` only where `canFuseResident`.
   */
  encodeResident(
    pass: GPUComputePassEncoder,
    run: LayerRun,
    planner: DevicePlanner,
    update: UpdateWay = 'copy',
  ): void {
    const { capacity, rowList } = planner.slab;
    const { gate } = this.scratch;
    this.encodeGate(pass, run);
    if (update === 'fused') {
      const { buffer } = planner.encodeArrivals(pass, gate);
      this.encodeWay(pass, 'arriving', run, capacity, buffer, rowList);
    } else {
      planner.encodeUpdateByValues(pass, gate);
      this.encodeWay(pass, 'packed', run, capacity, rowList);
    }
  }

  private encodeWay(
    pass: GPUComputePassEncoder,
    mode: DownMode,
    run: LayerRun,
    count: number,
    list?: GPUBuffer,
    rowList?: GPUBuffer,
  ): void {
    const { active, up, down } = this.way(mode);
    const { gate, a } = this.scratch;
    const { step, x, y, batch } = run;
    active?.encode(pass, step);
    up?.encode(pass, { step, x, out: a, gate, list, rowList, count, batch });
    down.encode(pass, { step, x: a, out: y, list: active?.list ?? list, count, batch });
  }

  private way(mode: DownMode): Way {
    let way = this.ways.get(mode);
    if (!way) {
      way = this.makeWay(mode);
      this.ways.set(mode, way);
    }
    return way;
  }

  private makeWay(mode: DownMode): Way {
    const { gate, pool, slab, downBias, activation, compute, threshold, next, predictor } = this.parts;
    const { xStride, gateStride, hidden, maxBatch, partials, norm, a } = this.scratch;
    const batched = maxBatch > 1;
    const arriving = mode === 'arriving';
    const packed = (name: string): StoredRows | undefined =>
      (mode === 'packed' || arriving) && slab ? slabRows(slab, name) : pool?.fields.get(name);
    const up = packed('up') as StoredRows;
    const bias = packed('bias');
    const fused = this.fused && (mode === 'dense' || mode === 'segments');
    const shared = { activation, compute, threshold, xStride, norm, x: this.scratch.x, out: a };
    const matrices = { ...shared, gate: gate.field('weight'), up };
    const active = !fused
      ? undefined
      : predictor && mode === 'segments'
        ? new PredictedOp(this.memory, { ...matrices, predictor })
        : new ActiveOp(this.memory, {
            ...matrices,
            gateBias: gate.fields.get('bias'),
            upBias: bias,
            all: mode === 'dense',
          });
    return {
      active,
      up: active
        ? undefined
        : new RowOp(this.memory, {
            table: arriving ? upArriving : modelLinear,
            rows: up,
            pool: arriving ? pool?.field('up') : undefined,
            // Segments come with what is fused.
            mode: mode as RowsMode,
            bias,
            compute,
            put: 'gated',
            xStride,
            outStride: gateStride,
            gateStride,
            batched,
            norm,
          }),
      down: new DownOp(this.memory, {
        tables: arriving ? { ...modelDownTables, down: modelDownArriving } : modelDownTables,
        rows: packed('down') as StoredRows,
        pool: arriving ? pool?.field('down') : undefined,
        mode,
        segment: active?.segment,
        columns: hidden,
        xStride: gateStride,
        outStride: xStride,
        put: next ? 'residual' : 'add',
        next,
        batched,
        maxBatch,
        bias: downBias,
        partials,
      }),
    };
  }

  private makeMasks(): Masks {
    const { device } = this.memory;
    const words = Math.ceil(this.rows / 32);
    const mask = this.memory.storage('active mask', words * 4);
    const params = this.memory.uniform('mask params', [this.rows, this.rows]);
    const made = kernel(device, maskValues, { slots: { active: 'values' } });
    const group = made.bind({ params, values: this.scratch.gate, mask });
    return { mask, dispatch: { kernel: made, group, grid: [Math.ceil(words / 64), 1, 1] } };
  }

  private makeUnion(step: GPUBuffer): Masks {
    const { memory, rows } = this;
    const { gate: values, gateStride } = this.scratch;
    const words = Math.ceil(rows / 32);
    const mask = memory.storage('active mask', words * 4);
    const constants = { WORKGROUP: traitsOf(memory.device).software ? 8 : 64 };
    const made = kernel(memory.device, maskValues, { slots: { active: 'union' }, constants });
    const params = memory.uniform('mask params', [rows, gateStride / 4]);
    const group = made.bind({ params, step, values, mask });
    return { mask, dispatch: { kernel: made, group, grid: [Math.ceil(words / constants.WORKGROUP), 1, 1] } };
  }

  private toList(step: GPUBuffer): Lists {
    if (!this.lists) {
      const { memory, rows } = this;
      const { gate: values, maxBatch } = this.scratch;
      const list = memory.storage('active rows', 16 + 4 * rows);
      const compacts = (active: 'values' | 'bits', buffers: Record<string, GPUBuffer>): Dispatch => {
        const made = kernel(memory.device, compact, { slots: { active } });
        const params = memory.uniform('compact params', [rows, rows]);
        return { kernel: made, group: made.bind({ params, list, ...buffers }), grid: [1, 1, 1] };
      };
      const { selector } = this.parts;
      if (selector) this.lists = { list, dispatches: [compacts('bits', { mask: selector.mask })] };
      else if (maxBatch === 1) this.lists = { list, dispatches: [compacts('values', { values })] };
      else {
        const { mask, dispatch } = this.makeUnion(step);
        this.lists = { list, dispatches: [dispatch, compacts('bits', { mask })] };
      }
    }
    return this.lists;
  }
}
