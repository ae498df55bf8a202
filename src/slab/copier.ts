import type { BufferGroup } from '../gpu/buffers.js';
import { type Bindable, foldGrid, kernel, type KernelTable } from '../gpu/kernel.js';
import { partVectors, type StoredDtype, valueVectors } from '../gpu/layout.js';
import { type Region, Regions } from '../gpu/regions.js';
import { type RowStorage, softwareKernels } from '../gpu/storage.js';
import { traitsOf } from '../gpu/traits.js';
import { MOVE_FROM_SLAB, type Plan, type SlotMap } from '../plan/index.js';
import type { DevicePool, Field } from '../pool/device-pool.js';
import type { FieldLayout } from '../pool/fields.js';
import { CopyPiece } from './copy-piece.js';
import { compact, copyRows, indexSelect } from './kernels.js';
import { type CopyTuning, type CopyVariant, copyKnobs } from './variants.js';

/** How one field's rows stand in a slab. */
export type SlabField = FieldLayout;

/** Fields copied by one dispatch: with the list and the region they fill the eight storage bindings. */
export const FIELDS_PER_DISPATCH = 3;
/** Words before the moves, ids or slot list: the count and padding. */
export const HEADER = 4;
/** Workgroups that copy moves counted on the device: enough for all cores, few enough that idle ones cost nothing. */
const SOFTWARE_GROUPS = 16;
const GPU_GROUPS = 1024;

/**
 * Encodes row copies from a pool's shards into a slab's buffers. Each encoded update has its own region of moves,
 * so that several can share a submit; regions are used in turn.
 */
export class SlabCopier {
  private readonly pool: DevicePool;
  private readonly fields: ReadonlyMap<string, SlabField>;
  private readonly buffers: ReadonlyMap<string, GPUBuffer>;
  private readonly rowList: GPUBuffer;
  private readonly memory: BufferGroup;
  private readonly capacity: number;
  /** The tuned copy, or the adapter's default. */
  readonly variant: CopyVariant;
  private readonly rowsPerWorkgroup: number;
  private readonly vectorWidth: 1 | 2 | 4;
  private readonly lanes: number;
  private readonly regions: Regions;
  private readonly staging: Uint32Array<ArrayBuffer>;
  /** One a shard and up to three fields, or one part of a field that is converted. */
  private copies?: CopyPiece[];
  private selects?: CopyPiece[];
  private compaction?: { piece: CopyPiece; list: Region };
  private bounce?: GPUBuffer;

  constructor(
    pool: DevicePool,
    fields: ReadonlyMap<string, SlabField>,
    buffers: ReadonlyMap<string, GPUBuffer>,
    rowList: GPUBuffer,
    capacity: number,
    memory: BufferGroup,
    options: CopyTuning & { pendingUpdates?: number },
  ) {
    this.pool = pool;
    this.fields = fields;
    this.buffers = buffers;
    this.rowList = rowList;
    this.capacity = capacity;
    this.memory = memory;
    const knobs = copyKnobs(pool.device, this.widestRow() / 4, options);
    this.variant = knobs.variant;
    this.lanes = knobs.lanes;
    this.rowsPerWorkgroup = knobs.rowsPerWorkgroup;
    this.vectorWidth = knobs.vectorWidth;
    const words = Math.max(HEADER + 2 * capacity, Math.ceil(pool.rows / 32));
    this.staging = new Uint32Array(words);
    this.regions = new Regions(memory, 'moves', words, options.pendingUpdates ?? 4);
  }

  /** slab[to] = source for every move; afterwards the slab has `active` rows. */
  encodeMoves(pass: GPUComputePassEncoder, moves: Uint32Array, active: number): void {
    const count = moves.length / 2;
    const region = this.write(moves, count, active);
    this.copies ??= this.makePieces(copyRows);
    this.encode(pass, this.copies, region, count);
  }

  /**
   * Sends a plan for kernels that bring in the rows themselves (lib/rows_arriving.wgsl): [S, P, m', 0, slots that
   * stay, moves from the pool, moves within the slab]. The moves are a plan's of `planUpdate` or `repackPlan`, whose
   * destinations ascend and whose pool rows come first.
   */
  writeArrivals(moves: Uint32Array, active: number): Region {
    const { staging } = this;
    let at = HEADER;
    let pooled = 0;
    for (let slot = 0, next = 0; slot < active; slot++) {
      if (moves[next] === slot) {
        if (moves[next + 1] < MOVE_FROM_SLAB) pooled++;
        next += 2;
      } else staging[at++] = slot;
    }
    const stay = at - HEADER;
    staging.set([stay, pooled, active, 0]);
    staging.set(moves, at);
    return this.regions.write(staging, at + moves.length);
  }

  /**
   * As `encodeMoves`, of moves that the device left in `region`: [moves, active rows, 0, 0, (to, from) ...]. How many is
   * known there alone, so a fixed grid takes them in turns.
   */
  encodePlanned(pass: GPUComputePassEncoder, region: Region): void {
    this.copies ??= this.makePieces(copyRows);
    const most = traitsOf(this.pool.device).software ? SOFTWARE_GROUPS : GPU_GROUPS;
    this.encode(pass, this.copies, region, Math.min(this.capacity, most * this.rowsPerWorkgroup));
  }

  /** slab[i] = pool[ids[i]]. */
  encodeIds(pass: GPUComputePassEncoder, ids: Uint32Array): void {
    const region = this.write(ids, ids.length, 0);
    this.selects ??= this.makePieces(indexSelect);
    this.encode(pass, this.selects, region, ids.length);
  }

  /** slab[i] = pool[i-th row of the mask]; `active` is how many rows the mask has. */
  encodeMask(pass: GPUComputePassEncoder, words: Uint32Array, active: number): void {
    const region = this.regions.write(Uint32Array.from(words));
    this.compaction ??= this.makeCompaction();
    const { piece, list } = this.compaction;
    piece.encode(pass, region, [1, 1]);
    this.selects ??= this.makePieces(indexSelect);
    this.encode(pass, this.selects, list, active);
  }

  /**
   * As `encodeMoves`, by one copyBufferToBuffer a field and run of rows that are neighbours on both sides.
   * @param rows The slab's rows by slot as they will be.
   */
  encodeCopies(encoder: GPUCommandEncoder, moves: Uint32Array, rows: Uint32Array): void {
    const within = moves.some((word, i) => i % 2 === 1 && word >= MOVE_FROM_SLAB);
    if (within) this.bounce ??= this.memory.storage('bounce', this.capacity * this.widestRow());
    // What can be refused comes before anything is recorded.
    const region = this.write(rows, rows.length, 0);
    const runs = runsOf(moves);
    for (const field of this.pool.fields.values()) {
      const slab = this.buffers.get(field.name) as GPUBuffer;
      let bounceAt = 0;
      for (const { to, source, rows: count } of runs) {
        const at = to * field.rowBytes;
        const bytes = count * field.rowBytes;
        if (source >= MOVE_FROM_SLAB) {
          // Source and destination of a copy must differ.
          const bounce = this.bounce as GPUBuffer;
          const from = (source - MOVE_FROM_SLAB) * field.rowBytes;
          encoder.copyBufferToBuffer(slab, from, bounce, bounceAt, bytes);
          encoder.copyBufferToBuffer(bounce, bounceAt, slab, at, bytes);
          bounceAt += bytes;
        } else copyFromPool(this.pool.device, encoder, field, source, count, slab, at);
      }
    }
    encoder.copyBufferToBuffer(region.buffer, region.offset, this.rowList, 0, 4 * (HEADER + rows.length));
  }

  /** Regions may be used again: what was encoded is on the queue, and the queue keeps its order. */
  submitted(): void {
    this.regions.submitted();
  }

  private widestRow(): number {
    return Math.max(...[...this.pool.fields.values()].map((field) => field.rowBytes));
  }

  private write(words: Uint32Array, count: number, active: number): Region {
    const { staging } = this;
    staging[0] = count;
    staging[1] = active;
    staging.set(words, HEADER);
    return this.regions.write(staging, HEADER + words.length);
  }

  private encode(
    pass: GPUComputePassEncoder,
    pieces: readonly CopyPiece[],
    region: Region,
    count: number,
  ): void {
    // At least one workgroup even without moves: it keeps the row count.
    const grid = foldGrid(this.pool.device, Math.max(1, Math.ceil(count / this.rowsPerWorkgroup)));
    for (const piece of pieces) piece.encode(pass, region, grid);
  }

  /** Fields that stay as they are go three a dispatch, those that are converted a part at a time. */
  private makePieces(table: KernelTable): CopyPiece[] {
    const all = [...this.pool.fields.values()];
    const converted = (field: Field) => this.fields.get(field.name)?.dtype !== field.dtype;
    const plain = all.filter((field) => !converted(field));
    const pieces: CopyPiece[] = [];
    for (const storage of ['buffer', 'texture'] as const) {
      const alike = plain.filter((field) => field.storage === storage);
      for (let f = 0; f < alike.length; f += FIELDS_PER_DISPATCH)
        this.addPlain(pieces, table, alike.slice(f, f + FIELDS_PER_DISPATCH));
    }
    for (const field of all.filter(converted)) {
      let poolPart = 0;
      let slabPart = 0;
      const to = (this.fields.get(field.name) as SlabField).dtype;
      for (const cols of field.parts) {
        this.addConverted(pieces, table, field, to, cols, poolPart, slabPart);
        poolPart += partVectors(cols, field.dtype);
        slabPart += partVectors(cols, to);
      }
    }
    return pieces;
  }

  private addPlain(pieces: CopyPiece[], table: KernelTable, fields: readonly Field[]): void {
    const [{ storage }] = fields;
    const vectorWidth = storage === 'texture' ? 4 : this.vectorWidth;
    const made = kernel(this.pool.device, table, {
      slots: { vector: String(vectorWidth), fields: stored(String(fields.length), storage) },
      constants: { WORKGROUP: this.lanes, ROWS: this.rowsPerWorkgroup },
    });
    const vectors = [0, 1, 2, 3].map((k) => (fields[k] ? fields[k].rowBytes / 4 / vectorWidth : 0));
    fields[0].shards.forEach((_, s) => {
      const bindings = this.bindingsOf(pieces, table, vectors, fields, s);
      pieces.push(new CopyPiece(made, bindings));
    });
  }

  private addConverted(
    pieces: CopyPiece[],
    table: KernelTable,
    field: Field,
    to: StoredDtype,
    cols: number,
    poolPart: number,
    slabPart: number,
  ): void {
    const made = kernel(this.pool.device, table, {
      slots: { vector: '4', fields: stored('convert', field.storage), from: field.dtype, to },
      constants: { WORKGROUP: this.lanes, ROWS: this.rowsPerWorkgroup },
    });
    const slabRow = (this.fields.get(field.name) as SlabField).rowBytes / 16;
    const shape = this.memory.uniform('copy shape', [
      field.rowBytes / 16,
      poolPart,
      valueVectors(cols, field.dtype),
      slabRow,
      slabPart,
      valueVectors(cols, to),
    ]);
    field.shards.forEach((_, s) => {
      const bindings = { ...this.bindingsOf(pieces, table, [0, 0, 0, 0], [field], s), shape };
      pieces.push(new CopyPiece(made, bindings));
    });
  }

  /** What a piece over shard `s` of `fields` is bound to. The first piece of all also keeps the row list. */
  private bindingsOf(
    pieces: readonly CopyPiece[],
    table: KernelTable,
    vectors: readonly number[],
    fields: readonly Field[],
    s: number,
  ): Record<string, Bindable> {
    const { base, rows } = fields[0].shards[s];
    const lead = pieces.length === 0 ? 1 : 0;
    const last = table === copyRows ? (s === 0 ? 1 : 0) : this.capacity;
    const bindings: Record<string, Bindable> = {
      params: this.memory.uniform('copy params', [...vectors, base, rows, lead, last]),
      row_list: this.rowList,
    };
    fields.forEach((field, k) => {
      bindings[`pool${k}`] = field.shards[s].memory;
      bindings[`slab${k}`] = this.buffers.get(field.name) as GPUBuffer;
    });
    return bindings;
  }

  private makeCompaction(): NonNullable<SlabCopier['compaction']> {
    const { device, rows } = this.pool;
    const bytes = 4 * (HEADER + this.capacity);
    const list = { buffer: this.memory.storage('ids', bytes), offset: 0, size: bytes };
    const params = this.memory.uniform('compact params', [rows, this.capacity]);
    const made = kernel(device, compact, { slots: { active: 'bits' } });
    return { piece: new CopyPiece(made, { params, list }), list };
  }
}

/** The choice of slot `fields` for rows of such a pool. */
const stored = (fields: string, storage: RowStorage): string =>
  storage === 'texture' ? `${fields}_texels` : fields;

/** The rows by slot that `plan` will leave, [m']. */
export function rowsAfter(slots: SlotMap, { moves, active }: Plan): Uint32Array {
  const rows = new Uint32Array(active);
  rows.set(slots.slots().subarray(0, active));
  for (let i = 0; i < moves.length; i += 2) {
    const source = moves[i + 1];
    rows[moves[i]] = source >= MOVE_FROM_SLAB ? slots.rowAt(source - MOVE_FROM_SLAB) : source;
  }
  return rows;
}

/** Moves whose destinations and sources both follow one another, as one. */
function runsOf(moves: Uint32Array): { to: number; source: number; rows: number }[] {
  const runs: { to: number; source: number; rows: number }[] = [];
  for (let i = 0; i < moves.length; i += 2) {
    const last = runs.at(-1);
    // The last pool row and the first slot are no neighbours, though their codes may be.
    const joins = last && moves[i] === last.to + last.rows && moves[i + 1] === last.source + last.rows;
    if (joins && moves[i + 1] !== MOVE_FROM_SLAB) last.rows++;
    else runs.push({ to: moves[i], source: moves[i + 1], rows: 1 });
  }
  return runs;
}

/** Rows `[first, first + count)` of a pool to byte `at` of a slab: one copy a shard. */
function copyFromPool(
  device: GPUDevice,
  encoder: GPUCommandEncoder,
  field: Field,
  first: number,
  count: number,
  slab: GPUBuffer,
  at: number,
): void {
  const { rowBytes, shards } = field;
  for (let row = first; row < first + count; ) {
    const { memory, base, rows } = shards[Math.floor(row / shards[0].rows)];
    const here = Math.min(first + count, base + rows) - row;
    const from = (row - base) * rowBytes;
    const to = at + (row - first) * rowBytes;
    if ('createView' in memory) {
      softwareKernels(device)?.copy(encoder, memory, from, slab, to, here * rowBytes);
    } else encoder.copyBufferToBuffer(memory, from, slab, to, here * rowBytes);
    row += here;
  }
}
