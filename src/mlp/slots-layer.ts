import type { BufferGroup } from '../gpu/buffers.js';
import type { Region } from '../gpu/regions.js';
import type { ResidentSlab } from '../slab/resident-slab.js';
import type { Compute } from './compute.js';
import { DownOp } from './down-op.js';
import { modelDownTables, modelLinear } from './model-kernels.js';
import { type FusedNorm, type NextNorm, RowOp, slabRows, type StoredRows } from './row-op.js';
import type { LayerRun, LayerScratch } from './threshold-layer.js';

/** What up and down of a gated layer are made of where their rows lie in a slab's slots. */
export interface SlotsLayerParts {
  /** Fields `up`, `down`, and `bias` (of up) where there is one. */
  slab: ResidentSlab;
  /** [hidden] on the device, zeros when there is none. */
  downBias: GPUBuffer;
  compute?: Compute;
  /** Batch 1: what reads the residual stream after this layer has its norm fused. */
  next?: NextNorm;
}

/** What a step in pieces needs besides; layers share it. */
export interface PieceScratch {
  /** [hidden] zeros: the bias is added with the first piece. */
  noBias: GPUBuffer;
  /**
   * Batch 1: the layer's input as it was. There the first piece's down already overwrites it with the next layer's. A
   * batch has its normed input in a buffer of its own.
   */
  kept?: { x: GPUBuffer; residual: GPUBuffer };
}

/** Up and down over active rows wherever they lie in a slab, for steps of one piece or of several. */
export class SlotsLayer {
  private readonly memory: BufferGroup;
  private readonly parts: SlotsLayerParts;
  private readonly scratch: LayerScratch;
  private readonly pieces: PieceScratch;
  private readonly whole: { up: RowOp; down: DownOp };
  /** Made for the first step that needs pieces. */
  private keptUp?: RowOp;
  private moreDown?: DownOp;

  constructor(memory: BufferGroup, parts: SlotsLayerParts, scratch: LayerScratch, pieces: PieceScratch) {
    this.memory = memory;
    this.parts = parts;
    this.scratch = scratch;
    this.pieces = pieces;
    this.whole = { up: this.makeUp(scratch.norm), down: this.makeDown(parts.downBias) };
  }

  /** For a step in pieces, before the first of them: keeps the input that they all read. Between passes. */
  encodeKeep(encoder: GPUCommandEncoder): void {
    const { kept } = this.pieces;
    const { norm, x, xStride } = this.scratch;
    if (!kept || !norm) return;
    encoder.copyBufferToBuffer(x, 0, kept.x, 0, xStride * 4);
    encoder.copyBufferToBuffer(norm.residual, 0, kept.residual, 0, xStride * 4);
  }

  /**
   * Adds what `list`'s rows contribute to the residual stream. The gate must be there for all rows.
   * @param list lib/rows_slots.wgsl; `count` is its m.
   * @param piece Which piece of the step it is; null for a step of one.
   */
  encode(
    pass: GPUComputePassEncoder,
    run: LayerRun,
    list: Region,
    count: number,
    piece: number | null,
  ): void {
    const { gate, a, norm } = this.scratch;
    const { step, y, batch } = run;
    const { kept, noBias } = this.pieces;
    const shared = { step, list, count, batch };
    let { up, down } = this.whole;
    let { x } = run;
    if (piece !== null && kept && norm) {
      this.keptUp ??= this.makeUp({ ...norm, residual: kept.residual });
      up = this.keptUp;
      x = kept.x;
    }
    if (piece !== null && piece > 0) {
      this.moreDown ??= this.makeDown(noBias);
      down = this.moreDown;
    }
    up.encode(pass, { ...shared, x, out: a, gate });
    down.encode(pass, { ...shared, x: a, out: y });
  }

  private makeUp(norm?: FusedNorm): RowOp {
    const { slab, compute } = this.parts;
    const { xStride, gateStride, maxBatch } = this.scratch;
    return new RowOp(this.memory, {
      table: modelLinear,
      rows: slabRows(slab, 'up') as StoredRows,
      bias: slabRows(slab, 'bias'),
      mode: 'slots',
      compute,
      put: 'gated',
      xStride,
      outStride: gateStride,
      gateStride,
      batched: maxBatch > 1,
      norm,
    });
  }

  private makeDown(bias: GPUBuffer): DownOp {
    const { slab, next } = this.parts;
    const { xStride, gateStride, hidden, maxBatch, partials } = this.scratch;
    return new DownOp(this.memory, {
      tables: modelDownTables,
      rows: slabRows(slab, 'down') as StoredRows,
      mode: 'slots',
      columns: hidden,
      xStride: gateStride,
      outStride: xStride,
      put: next ? 'residual' : 'add',
      next,
      batched: maxBatch > 1,
      maxBatch,
      bias,
      partials,
    });
  }
}
