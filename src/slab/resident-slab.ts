import { allocate } from '../gpu/allocate.js';
import { BufferGroup, checkBindingSize } from '../gpu/buffers.js';
import { checkLost } from '../gpu/lost.js';
import { type Region, Regions } from '../gpu/regions.js';
import { Bitmask, diff } from '../mask/index.js';
import type { OffDevicePool } from '../pool/pool.js';
import type { PolicyFactory } from '../residency/policy.js';
import { Residency } from '../residency/residency.js';
import type { ResidencyPlan } from '../residency/types.js';
import { ArrivingRows } from './arriving-rows.js';
import type { SlabField } from './copier.js';
import { RowsAhead } from './rows-ahead.js';
import { slabFields } from './slab-fields.js';
import { StagedCopier, stageMoves } from './staged-copier.js';
import { tight, type UpdateStats } from './update-stats.js';
import type { UploadRing } from './upload-ring.js';
import type { CopyTuning } from './variants.js';

export interface ResidentSlabOptions extends CopyTuning {
  /** C, the slots: fewer than N, or there would be no need of it. */
  capacity: number;
  /** Who gives up a slot. */
  policy: PolicyFactory;
  /** Staging memory, which slabs of one device share. */
  ring: UploadRing;
  label?: string;
}

/** Where a step's work is recorded. */
export interface StepRecorder {
  readonly pass: GPUComputePassEncoder;
  /** Submits what was recorded so far; further work goes to a new pass. */
  flush(): void;
}

/** One part of a step, whose rows are all in the slab once what is recorded has run. */
export interface StepPiece {
  /** Its active rows as lib/rows_slots.wgsl reads them. Good until the next submit. */
  readonly list: Region;
  /** m of the list. */
  readonly count: number;
  readonly index: number;
  /** How many pieces the step has. */
  readonly of: number;
}

/** What a slab has on its ring's device. */
interface ResidentParts {
  readonly memory: BufferGroup;
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  readonly rowList: GPUBuffer;
  readonly copier: StagedCopier;
  readonly lists: Regions;
  destroy(): void;
}

/**
 * C slots on the device over a pool of N rows that is not on it. Rows lie in any slot and stay, used or not, until a
 * policy gives theirs up. A step that uses more than C rows comes in pieces: every row of it is computed.
 */
export class ResidentSlab {
  readonly pool: OffDevicePool;
  readonly label: string;
  /** C. */
  readonly capacity: number;
  readonly fields: ReadonlyMap<string, SlabField>;
  private readonly options: ResidentSlabOptions;
  private parts: ResidentParts;
  private readonly words: Uint32Array<ArrayBuffer>;
  private residency: Residency;
  /** What the last step used. */
  private used: Bitmask;
  /** The rows that were fetched for the next step by a guess, those on their way among them. */
  private guessed?: Bitmask;
  private ahead?: RowsAhead;

  /**
   * @throws OptionError for a capacity outside 1..N or a ring that cannot hold a row; DeviceLimitError when a field does
   * not fit in one binding. Nothing stays allocated then.
   */
  constructor(pool: OffDevicePool, options: ResidentSlabOptions) {
    const { capacity, label = 'resident slab' } = options;
    this.pool = pool;
    this.label = label;
    this.capacity = capacity;
    this.options = options;
    this.residency = this.nothing();
    this.used = Bitmask.empty(pool.rows);
    this.fields = slabFields(pool);
    this.words = new Uint32Array(4 + 2 * capacity);
    this.parts = this.makeParts();
  }

  get device(): GPUDevice {
    return this.parts.memory.device;
  }

  /** [C, field.rowBytes] each. Other buffers after `rebuild`. */
  get buffers(): ReadonlyMap<string, GPUBuffer> {
    return this.parts.buffers;
  }

  /** Slot → row id on the device: [_, 0, 0, 0, ids …], 0 where nothing was written yet. Another after `rebuild`. */
  get rowList(): GPUBuffer {
    return this.parts.rowList;
  }

  /** GPU bytes of slots, lists and moves; the ring is counted by itself. */
  get bytes(): number {
    return this.parts.memory.bytes;
  }

  /** Where each step's last piece leaves its list on the device: [m, 0, 0, 0, (slot, row id) …] of the rows that it used. */
  get lastList(): Region {
    return this.parts.lists.first;
  }

  /** The rows that are resident, as a copy. */
  get resident(): Bitmask {
    return this.residency.map.resident.clone();
  }

  /**
   * Records what brings the mask's rows in, piece by piece, and calls `use` after each of them to record the work over
   * it. Rows are read before anything of their piece is recorded: when a read fails, the slab holds what it is said to
   * hold, and the step can be tried again. Call `submitted` after each submit.
   *
   * @throws ShapeError when the mask is not over N rows; what the pool's `read` throws.
   */
  async encodeStep(
    recorder: StepRecorder,
    mask: Bitmask,
    arriving: ArrivingRows,
    use: (piece: StepPiece) => void,
  ): Promise<UpdateStats> {
    checkLost(this.device);
    const pieces = this.residency.pieces(mask);
    const { guessed } = this;
    let [uploads, hits, evicted] = [0, 0, 0];
    for (const [index, { mask: part, more }] of pieces.entries()) {
      if (index > 0) recorder.flush();
      const plan = this.residency.plan(part, { more });
      await this.encodeRows(recorder, plan, arriving);
      const list = this.writeList(plan);
      this.residency.commit(plan);
      use({ list, count: plan.active, index, of: pieces.length });
      uploads += plan.loaded.length;
      hits += plan.hits;
      evicted += plan.evicted.length;
    }
    const { added, removed } = diff(this.used, mask);
    this.used = mask.clone();
    const prefetched = guessed && this.endGuess(guessed, mask);
    // Rows in host memory were uploaded by the guess, right or wrong; others are only when they are wanted.
    if (guessed && prefetched && this.pool.readNow) {
      uploads += guessed.count();
      hits -= prefetched.used;
    }
    const residency = { hits, evicted, pieces: pieces.length, prefetched };
    const change = { added: added.length, removed: removed.length, active: mask.count(), writes: uploads };
    return { ...tight('paired', change, this.pool.rowBytes), residency };
  }

  /**
   * Fetches rows that the next step may use, those of the guess that are not resident. From host memory they are
   * uploaded by what is recorded here, into slots that the policy gives up; others begin to be read, and are uploaded by
   * the step that wants them. To be called after this step's work was recorded and before the next step's submit.
   */
  prefetch(recorder: StepRecorder, guess: Bitmask): void {
    this.ahead?.cancel();
    this.ahead = undefined;
    const { pool, residency } = this;
    const { copier } = this.parts;
    const missing = guess.without(residency.map.resident).ids();
    if (missing.length === 0) return;
    if (!pool.readNow) {
      this.guessed = Bitmask.fromIds(missing, pool.rows);
      this.ahead = new RowsAhead(pool, missing);
      return;
    }
    // Of a guess that is too large for one upload, or for the slots, the rest is left to the step.
    const most = Math.min(copier.room, this.capacity);
    if (most === 0) return;
    this.guessed = Bitmask.fromIds(missing.subarray(0, most), pool.rows);
    const plan = residency.planPrefetch(this.guessed);
    const staged = stageMoves(plan.moves);
    copier.encode(recorder.pass, staged, 0, staged.ids.length, 0);
    residency.commit(plan);
  }

  /** Counts all rows as gone: the next step uploads all that it uses. */
  forget(): void {
    this.residency = this.nothing();
  }

  /**
   * Makes the slab anew on the device of its ring, which must have been rebuilt: the same rows in the same slots, uploaded
   * again; what the policy knows stays.
   * @throws DeviceLimitError, DeviceLostError; what the pool's `read` throws. The slab is then as it was.
   */
  async rebuild(arriving: ArrivingRows = new ArrivingRows()): Promise<void> {
    const { pool } = this;
    const { map } = this.residency;
    const ids = map.resident.ids();
    const fromPool = new Uint32Array(2 * ids.length);
    for (const [i, row] of ids.entries()) fromPool.set([map.slotOf(row), row], 2 * i);
    const { device } = this.options.ring;
    const parts = await allocate(device, () => this.makeParts(), this.label);
    try {
      let rows: Uint8Array<ArrayBuffer> | undefined;
      if (!pool.readNow) {
        rows = arriving.room(ids.length * pool.rowBytes);
        if (ids.length > 0) await pool.read(ids, rows);
      }
      parts.copier.submit({ ids, fromPool, fromSlab: new Uint32Array(0) }, ids.length, rows);
    } catch (error) {
      parts.destroy();
      throw error;
    }
    this.parts.destroy();
    this.parts = parts;
  }

  /** What was recorded has been submitted, or thrown away before anything was. */
  submitted(): void {
    this.parts.copier.submitted();
    this.parts.lists.submitted();
  }

  destroy(): void {
    this.ahead?.cancel();
    this.parts.destroy();
  }

  private makeParts(): ResidentParts {
    const { pool, label, capacity, fields, words, options } = this;
    const { ring } = options;
    const { device } = ring;
    for (const { name, rowBytes } of fields.values())
      checkBindingSize(device, `${label} ${name}`, capacity * rowBytes);
    const memory = new BufferGroup(device);
    try {
      const buffers = new Map<string, GPUBuffer>();
      for (const { name, rowBytes } of fields.values())
        buffers.set(name, memory.storage(`${label} ${name}`, capacity * rowBytes));
      const rowList = memory.storage(`${label} rows`, 16 + 4 * capacity);
      // Every piece but the last is submitted before the next, so none ever shares a submit with another of this slab.
      const once = { ...options, pendingUpdates: 1 };
      const copier = new StagedCopier(pool, fields, buffers, rowList, capacity, memory, ring, once);
      const lists = new Regions(memory, `${label} list`, words.length, 1);
      return { memory, buffers, rowList, copier, lists, destroy: () => memory.destroy() };
    } catch (error) {
      memory.destroy();
      throw error;
    }
  }

  private nothing(): Residency {
    const { pool, capacity } = this;
    const { policy } = this.options;
    return new Residency({ rows: pool.rows, capacity, mode: 'indexed', policy });
  }

  private async encodeRows(
    recorder: StepRecorder,
    { moves, active }: ResidencyPlan,
    arriving: ArrivingRows,
  ): Promise<void> {
    if (moves.length === 0) return;
    const { pool } = this;
    const { copier } = this.parts;
    const staged = stageMoves(moves);
    const { ids } = staged;
    let rows: Uint8Array<ArrayBuffer> | undefined;
    if (!pool.readNow) {
      rows = arriving.room(ids.length * pool.rowBytes);
      await (this.ahead ?? pool).read(ids, rows, arriving.reading);
    }
    for (let begin = 0; begin < ids.length; ) {
      if (begin > 0 || copier.room === 0) recorder.flush();
      const end = Math.min(ids.length, begin + copier.room);
      const bytes = rows?.subarray(begin * pool.rowBytes, end * pool.rowBytes);
      copier.encode(recorder.pass, staged, begin, end, active, bytes);
      begin = end;
    }
  }

  /** What came of a guess, which ends with the step that it was for. */
  private endGuess(guessed: Bitmask, mask: Bitmask): { guessed: number; used: number } {
    this.guessed = undefined;
    this.ahead = undefined;
    const all = guessed.count();
    return { guessed: all, used: all - guessed.without(mask).count() };
  }

  private writeList({ slots, wanted, active }: ResidencyPlan): Region {
    const { words } = this;
    words[0] = active;
    let at = 4;
    let i = 0;
    for (const row of wanted) {
      words[at++] = (slots as Uint32Array)[i++];
      words[at++] = row;
    }
    return this.parts.lists.write(words, at);
  }
}
