import { OptionError } from '../errors.js';
import type { BufferGroup } from '../gpu/buffers.js';
import { foldGrid, type Kernel, kernel } from '../gpu/kernel.js';
import { partVectors, valueVectors } from '../gpu/layout.js';
import { type Region, Regions } from '../gpu/regions.js';
import { MOVE_FROM_SLAB } from '../plan/index.js';
import type { FieldLayout } from '../pool/fields.js';
import { bundleOffsets, type OffDevicePool } from '../pool/pool.js';
import { FIELDS_PER_DISPATCH, HEADER, type SlabField } from './copier.js';
import { CopyPiece } from './copy-piece.js';
import { copyStagedRows } from './staged-kernels.js';
import { type CopyKnobs, type CopyTuning, copyKnobs } from './variants.js';

/** A plan's moves, those of pool rows first: they are uploaded in this order. Any order is right for such moves. */
export interface StagedMoves {
  /** Pool rows to upload. */
  readonly ids: Uint32Array;
  /** Two words a move, as in a plan. */
  readonly fromPool: Uint32Array;
  readonly fromSlab: Uint32Array;
}

export function stageMoves(moves: Uint32Array): StagedMoves {
  let pool = 0;
  for (let i = 1; i < moves.length; i += 2) if (moves[i] < MOVE_FROM_SLAB) pool++;
  const ids = new Uint32Array(pool);
  const fromPool = new Uint32Array(2 * pool);
  const fromSlab = new Uint32Array(moves.length - 2 * pool);
  let p = 0;
  let s = 0;
  for (let i = 0; i < moves.length; i += 2) {
    if (moves[i + 1] < MOVE_FROM_SLAB) {
      ids[p / 2] = moves[i + 1];
      fromPool[p++] = moves[i];
      fromPool[p++] = moves[i + 1];
    } else {
      fromSlab[s++] = moves[i];
      fromSlab[s++] = moves[i + 1];
    }
  }
  return { ids, fromPool, fromSlab };
}

/** Where rows are staged: an `UploadRing`, which says what these do. */
export interface StagingMemory {
  readonly device: GPUDevice;
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  readonly label: string;
  room(rowBytes: number): number;
  take(rowBytes: number, rows: number): number;
  stage(rowBytes: number, first: number, rows: number): Uint8Array<ArrayBuffer>;
  write(rowBytes: number, first: number, rows: Uint8Array<ArrayBuffer>): void;
  release(places: number): void;
}

/** Encodes row copies from an upload ring into a slab's buffers: one upload and one dispatch for up to three fields. */
export class StagedCopier {
  private readonly ring: StagingMemory;
  private readonly pool: OffDevicePool;
  private readonly regions: Regions;
  private readonly words: Uint32Array<ArrayBuffer>;
  private readonly knobs: CopyKnobs;
  private readonly pieces: CopyPiece[];
  private taken = 0;

  /** @throws OptionError when the ring cannot hold one row, or a knob is out of range. */
  constructor(
    pool: OffDevicePool,
    fields: ReadonlyMap<string, SlabField>,
    buffers: ReadonlyMap<string, GPUBuffer>,
    rowList: GPUBuffer,
    capacity: number,
    memory: BufferGroup,
    ring: StagingMemory,
    options: CopyTuning & { pendingUpdates?: number },
  ) {
    if (ring.bytes < pool.rowBytes) {
      throw new OptionError(
        `${ring.label} has ${ring.bytes} bytes; one row of ${pool.label} needs ${pool.rowBytes}.`,
        { bytes: ring.bytes, rowBytes: pool.rowBytes },
      );
    }
    this.pool = pool;
    this.ring = ring;
    const widest = Math.max(...[...pool.fields.values()].map((field) => field.rowBytes));
    this.knobs = copyKnobs(ring.device, widest / 4, options);
    this.words = new Uint32Array(HEADER + 2 * capacity);
    this.regions = new Regions(memory, 'moves', this.words.length, options.pendingUpdates ?? 4);
    this.pieces = this.makePieces(fields, buffers, rowList, memory);
  }

  /** How many rows can be encoded now. */
  get room(): number {
    return this.ring.room(this.pool.rowBytes);
  }

  /**
   * Uploads rows `[begin, end)` of `moves.ids` and encodes where they go; with the last of them also what moves within
   * the slab, which has `active` rows then.
   * @param rows Their bytes, bundled; undefined: they are read now, from a pool in host memory.
   * @throws OptionError when ring or regions are full; nothing was encoded then.
   */
  encode(
    pass: GPUComputePassEncoder,
    moves: StagedMoves,
    begin: number,
    end: number,
    active: number,
    rows?: Uint8Array<ArrayBuffer>,
  ): void {
    const { ring, words, pool } = this;
    const { rowBytes } = pool;
    const count = end - begin;
    const first = ring.take(rowBytes, count);
    let region: Region;
    const within = end === moves.ids.length ? moves.fromSlab : moves.fromSlab.subarray(0, 0);
    const total = count + within.length / 2;
    try {
      words.set([total, active, first, 0]);
      words.set(moves.fromPool.subarray(2 * begin, 2 * end), HEADER);
      words.set(within, HEADER + 2 * count);
      region = this.regions.write(words, HEADER + 2 * total);
      if (count > 0) {
        const staged = rows ?? ring.stage(rowBytes, first, count);
        if (!rows) pool.readNow?.(moves.ids, staged, begin, end);
        ring.write(rowBytes, first, staged);
      }
    } catch (error) {
      ring.release(1);
      throw error;
    }
    this.taken++;
    // At least one workgroup even without moves: it keeps the row count.
    const workgroups = Math.max(1, Math.ceil(total / this.knobs.rowsPerWorkgroup));
    const grid = foldGrid(ring.device, workgroups);
    for (const piece of this.pieces) piece.encode(pass, region, grid);
  }

  /**
   * Uploads and copies all of `moves`, in as many submits as the ring needs.
   * @param arrived The rows' bytes, bundled; undefined: they are read now, from a pool in host memory.
   */
  submit(moves: StagedMoves, active: number, arrived?: Uint8Array<ArrayBuffer>): void {
    const { pool, ring } = this;
    const { device } = ring;
    const label = `pairslab ${pool.label} upload`;
    let begin = 0;
    do {
      const end = Math.min(moves.ids.length, begin + Math.max(1, this.room));
      const bytes = arrived?.subarray(begin * pool.rowBytes, end * pool.rowBytes);
      const encoder = device.createCommandEncoder({ label });
      const pass = encoder.beginComputePass({ label });
      this.encode(pass, moves, begin, end, active, bytes);
      pass.end();
      device.queue.submit([encoder.finish()]);
      this.submitted();
      begin = end;
    } while (begin < moves.ids.length);
  }

  submitted(): void {
    this.regions.submitted();
    this.ring.release(this.taken);
    this.taken = 0;
  }

  private makePieces(
    fields: ReadonlyMap<string, SlabField>,
    buffers: ReadonlyMap<string, GPUBuffer>,
    row_list: GPUBuffer,
    memory: BufferGroup,
  ): CopyPiece[] {
    const { pool, ring, knobs } = this;
    const { device } = ring;
    const all = [...pool.fields.values()];
    const offsets = bundleOffsets(all);
    const start = (field: FieldLayout) => offsets.get(field.name) as number;
    const converted = (field: FieldLayout) => fields.get(field.name)?.dtype !== field.dtype;
    const plain = all.filter((field) => !converted(field));
    const constants = { WORKGROUP: knobs.lanes, ROWS: knobs.rowsPerWorkgroup, STAGED: 1 };
    const staged = Math.floor(ring.bytes / pool.rowBytes);
    const pieces: CopyPiece[] = [];
    const add = (made: Kernel, vectors: readonly number[], more: Record<string, GPUBuffer>) => {
      const lead = pieces.length === 0 ? 1 : 0;
      const params = memory.uniform('scatter params', [...vectors, 0, staged, lead, 1]);
      pieces.push(new CopyPiece(made, { params, row_list, pool0: ring.buffer, ...more }));
    };
    for (let f = 0; f < plain.length; f += FIELDS_PER_DISPATCH) {
      const some = plain.slice(f, f + FIELDS_PER_DISPATCH);
      const unit = 4 * knobs.vectorWidth;
      const three = (of: (field: FieldLayout) => number) =>
        [0, 1, 2].map((k) => (some[k] ? of(some[k]) / unit : 0));
      const made = kernel(device, copyStagedRows, {
        slots: { vector: String(knobs.vectorWidth), fields: `bundled_${some.length}` },
        constants,
      });
      const bundle = memory.uniform('scatter bundle', [...three(start), pool.rowBytes / unit]);
      const slabs = some.map(({ name }, k) => [`slab${k}`, buffers.get(name) as GPUBuffer]);
      add(made, [...three((field) => field.rowBytes), 0], { bundle, ...Object.fromEntries(slabs) });
    }
    for (const field of all.filter(converted)) {
      const slab = fields.get(field.name) as SlabField;
      let poolPart = start(field) / 16;
      let slabPart = 0;
      for (const cols of field.parts) {
        const made = kernel(device, copyStagedRows, {
          slots: { vector: '4', fields: 'convert', from: field.dtype, to: slab.dtype },
          constants,
        });
        const shape = memory.uniform('scatter shape', [
          pool.rowBytes / 16,
          poolPart,
          valueVectors(cols, field.dtype),
          slab.rowBytes / 16,
          slabPart,
          valueVectors(cols, slab.dtype),
        ]);
        add(made, [0, 0, 0, 0], { shape, slab0: buffers.get(field.name) as GPUBuffer });
        poolPart += partVectors(cols, field.dtype);
        slabPart += partVectors(cols, slab.dtype);
      }
    }
    return pieces;
  }
}
