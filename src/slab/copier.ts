import { OptionError } from '../errors.js';
import type { BufferGroup } from '../gpu/buffers.js';
import { encodeDispatch, foldGrid, type Kernel, kernel, type KernelTable } from '../gpu/kernel.js';
import { type Region, Regions } from '../gpu/regions.js';
import { MOVE_FROM_SLAB } from '../plan/index.js';
import type { DevicePool, Field } from '../pool/device-pool.js';
import { settings } from '../settings.js';
import { compact, copyRows, indexSelect } from './kernels.js';

/** Knobs of the row copy; defaults from PAIRSLAB_ROWS_PER_WORKGROUP and PAIRSLAB_VECTOR_WIDTH. */
export interface CopyTuning {
  /** Rows one workgroup copies, 1 to 64. */
  rowsPerWorkgroup?: number;
  /** u32 words a lane moves at once: 1, 2 or 4. */
  vectorWidth?: 1 | 2 | 4;
}

/** Fields copied by one dispatch: with the list and the region they fill the eight storage bindings. */
const FIELDS_PER_DISPATCH = 3;
/** Words before the moves, ids or slot list: the count and padding. */
const HEADER = 4;
/** One (shard, up to three fields) of a kernel, its bind groups made once per source of moves or ids. */
interface Piece {
  kernel: Kernel;
  groups: Map<Region, GPUBindGroup>;
  bindings: Record<string, GPUBuffer>;
}

/**
 * Encodes row copies from a pool's shards into a slab's buffers. Each encoded update has its own region of moves,
 * so that several can share a submit; regions are used in turn.
 */
export class SlabCopier {
  private readonly pool: DevicePool;
  private readonly buffers: ReadonlyMap<string, GPUBuffer>;
  private readonly rowList: GPUBuffer;
  private readonly memory: BufferGroup;
  private readonly capacity: number;
  private readonly rowsPerWorkgroup: number;
  private readonly vectorWidth: 1 | 2 | 4;
  private readonly regions: Regions;
  private readonly staging: Uint32Array<ArrayBuffer>;
  private copies?: Piece[];
  private selects?: Piece[];
  private compaction?: { kernel: Kernel; params: GPUBuffer; list: Region; groups: Map<Region, GPUBindGroup> };
  private bounce?: GPUBuffer;

  constructor(
    pool: DevicePool,
    buffers: ReadonlyMap<string, GPUBuffer>,
    rowList: GPUBuffer,
    capacity: number,
    memory: BufferGroup,
    options: CopyTuning & { pendingUpdates?: number },
  ) {
    const defaults = settings();
    this.pool = pool;
    this.buffers = buffers;
    this.rowList = rowList;
    this.capacity = capacity;
    this.memory = memory;
    this.rowsPerWorkgroup = checkKnob(
      'rowsPerWorkgroup',
      options.rowsPerWorkgroup ?? defaults.rowsPerWorkgroup ?? 1,
      64,
    );
    this.vectorWidth = options.vectorWidth ?? defaults.vectorWidth;
    if (![1, 2, 4].includes(this.vectorWidth)) {
      throw new OptionError(`vectorWidth must be 1, 2 or 4; it is ${this.vectorWidth}.`, {
        value: this.vectorWidth,
      });
    }
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
    const { kernel, params, list, groups } = this.compaction;
    let group = groups.get(region);
    if (!group) {
      group = kernel.bind({ params, mask: region, list });
      groups.set(region, group);
    }
    encodeDispatch(pass, { kernel, group, grid: [1, 1, 1] });
    this.selects ??= this.makePieces(indexSelect);
    this.encode(pass, this.selects, list, active);
  }

  /** As `encodeMoves`, by one copyBufferToBuffer a row and field. */
  encodeCopies(encoder: GPUCommandEncoder, moves: Uint32Array, active: number): void {
    const sources = moves.filter((word, i) => i % 2 === 1 && word >= MOVE_FROM_SLAB);
    if (sources.length > 0) this.bounce ??= this.memory.storage('bounce', this.capacity * this.widestRow());
    // What can be refused comes before anything is recorded.
    const region = this.write(moves, moves.length / 2, active);
    for (const field of this.pool.fields.values()) {
      const to = this.buffers.get(field.name) as GPUBuffer;
      let bounceAt = 0;
      for (let i = 0; i < moves.length; i += 2) {
        const source = moves[i + 1];
        const at = moves[i] * field.rowBytes;
        if (source >= MOVE_FROM_SLAB) {
          const bounce = this.bounce as GPUBuffer;
          encoder.copyBufferToBuffer(
            to,
            (source - MOVE_FROM_SLAB) * field.rowBytes,
            bounce,
            bounceAt,
            field.rowBytes,
          );
          encoder.copyBufferToBuffer(bounce, bounceAt, to, at, field.rowBytes);
          bounceAt += field.rowBytes;
        } else {
          const { buffer, base } = shardOf(field, source);
          encoder.copyBufferToBuffer(buffer, (source - base) * field.rowBytes, to, at, field.rowBytes);
        }
      }
    }
    this.encodeList(encoder, region, moves);
  }

  /** Regions may be used again: what was encoded is on the queue, and the queue keeps its order. */
  submitted(): void {
    this.regions.submitted();
  }

  private encodeList(encoder: GPUCommandEncoder, region: Region, moves: Uint32Array): void {
    // Four bytes a move, straight from the moves: [count] then, per pool row, its id.
    encoder.copyBufferToBuffer(region.buffer, region.offset + 4, this.rowList, 0, 4);
    for (let i = 0; i < moves.length; i += 2) {
      const to = 4 * (HEADER + moves[i]);
      const { buffer, offset } = region;
      if (moves[i + 1] < MOVE_FROM_SLAB)
        encoder.copyBufferToBuffer(buffer, offset + 4 * (HEADER + i + 1), this.rowList, to, 4);
      else {
        const from = 4 * (HEADER + moves[i + 1] - MOVE_FROM_SLAB);
        const bounce = this.bounce as GPUBuffer;
        encoder.copyBufferToBuffer(this.rowList, from, bounce, 0, 4);
        encoder.copyBufferToBuffer(bounce, 0, this.rowList, to, 4);
      }
    }
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

  private encode(pass: GPUComputePassEncoder, pieces: readonly Piece[], region: Region, count: number): void {
    // At least one workgroup even without moves: it keeps the row count.
    const [x, y] = foldGrid(this.pool.device, Math.max(1, Math.ceil(count / this.rowsPerWorkgroup)));
    for (const { kernel, groups, bindings } of pieces) {
      let group = groups.get(region);
      if (!group) {
        group = kernel.bind({ ...bindings, region, ids: region });
        groups.set(region, group);
      }
      encodeDispatch(pass, { kernel, group, grid: [x, y, 1] });
    }
  }

  private makePieces(table: KernelTable): Piece[] {
    const { device } = this.pool;
    const fields = [...this.pool.fields.values()];
    const pieces: Piece[] = [];
    for (let f = 0; f < fields.length; f += FIELDS_PER_DISPATCH) {
      const some = fields.slice(f, f + FIELDS_PER_DISPATCH);
      const made = kernel(device, table, {
        slots: { vector: String(this.vectorWidth), fields: String(some.length) },
        constants: { ROWS: this.rowsPerWorkgroup },
      });
      some[0].shards.forEach((shard, s) => {
        const vectors = [0, 1, 2, 3].map((k) => (some[k] ? some[k].rowBytes / 4 / this.vectorWidth : 0));
        const lead = f === 0 && s === 0 ? 1 : 0;
        const last = table === copyRows ? (s === 0 ? 1 : 0) : this.capacity;
        const params = this.memory.uniform('copy params', [...vectors, shard.base, shard.rows, lead, last]);
        const bindings: Record<string, GPUBuffer> = { params, row_list: this.rowList };
        some.forEach((field, k) => {
          bindings[`pool${k}`] = field.shards[s].buffer;
          bindings[`slab${k}`] = this.buffers.get(field.name) as GPUBuffer;
        });
        pieces.push({ kernel: made, groups: new Map(), bindings });
      });
    }
    return pieces;
  }

  private makeCompaction(): NonNullable<SlabCopier['compaction']> {
    const { device, rows } = this.pool;
    const bytes = 4 * (HEADER + this.capacity);
    return {
      kernel: kernel(device, compact, { slots: { active: 'bits' } }),
      params: this.memory.uniform('compact params', [rows, this.capacity]),
      list: { buffer: this.memory.storage('ids', bytes), offset: 0, size: bytes },
      groups: new Map(),
    };
  }
}

function shardOf(field: Field, row: number): { buffer: GPUBuffer; base: number } {
  return field.shards[Math.floor(row / field.shards[0].rows)];
}

function checkKnob(name: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new OptionError(`${name} must be an integer from 1 to ${most}; it is ${value}.`, { name, value });
}
