import { OptionError, RowError, ShapeError } from '../errors.js';
import { Bitmask } from '../mask/index.js';
import { MOVE_FROM_SLAB, type Plan, StalePlanError } from './types.js';
import { noSuchRow } from '../mask/no-such-row.js';

const ABSENT = -1;

// Counted over all maps, so that a plan made from one map is stale in every other.
let lastVersion = 0;

/**
 * Which row is in which slot: an exact bijection between the m active rows and the slots [0, m). It holds no row
 * data; a slab keeps one beside its buffers, and changes it only by committing the plan whose work was encoded.
 */
export class SlotMap {
  /** N, the rows of the pool. */
  readonly rows: number;
  /** C, the slots of the slab. */
  readonly capacity: number;
  #active = 0;
  #version = ++lastVersion;
  #mask: Bitmask;
  readonly #slotOf: Int32Array;
  readonly #rowAt: Uint32Array;
  /** The last commit, if nothing came after it: how many rows there were, where it wrote, and what was there. */
  #last: { readonly active: number; readonly moves: Uint32Array; readonly rows: Uint32Array } | null = null;

  /**
   * An empty map. Memory: 4 N + 4 C + N / 8 bytes.
   *
   * @throws ShapeError when rows is not an integer in [1, 2^31); OptionError when capacity is not one in [1, rows].
   */
  constructor(rows: number, capacity: number) {
    this.#mask = Bitmask.empty(rows);
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > rows) {
      throw new OptionError(
        `capacity is ${capacity}; it must be an integer from 1 to the ${rows} rows there are`,
        {
          capacity,
          rows,
        },
      );
    }
    this.rows = rows;
    this.capacity = capacity;
    this.#slotOf = new Int32Array(rows).fill(ABSENT);
    this.#rowAt = new Uint32Array(capacity);
  }

  /** m, the rows that are active now. */
  get active(): number {
    return this.#active;
  }

  /** Names this state. It changes with every commit that changes rows or slots, and no other map ever has it. */
  get version(): number {
    return this.#version;
  }

  /** The slot that holds `row`, or -1 when it is not active. @throws RowError when row is not an integer in [0, N). */
  slotOf(row: number): number {
    const slot = this.#slotOf[row];
    if (slot === undefined) throw noSuchRow(row, this.rows);
    return slot;
  }

  /** The row in `slot`. @throws RowError when slot is not an integer in [0, m). */
  rowAt(slot: number): number {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.#active) {
      throw new RowError(`slot ${slot} is not an integer in [0, m) with m = ${this.#active} active rows`, {
        slot,
        active: this.#active,
      });
    }
    return this.#rowAt[slot];
  }

  /** The active rows, as a copy that is the caller's. O(N / 32). */
  mask(): Bitmask {
    return this.#mask.clone();
  }

  /** `[m]`: the row in each slot, as a copy that is the caller's. O(m). */
  slots(): Uint32Array {
    return this.#rowAt.slice(0, this.#active);
  }

  /**
   * Makes the plan's outcome this map's state, in O(rows that change + moves). Call it once the row writes are
   * encoded, so that map and slab stay together.
   *
   * @throws StalePlanError when the plan was made from another state or another map; nothing changes then.
   */
  commit(plan: Plan): void {
    if (plan.version !== this.#version) {
      throw new StalePlanError(
        `the plan was made from state ${plan.version} and the slot map is in state ${this.#version}; plan again`,
        { planned: plan.version, current: this.#version },
      );
    }
    const { added, removed, moves, active } = plan;
    const rows = new Uint32Array(moves.length / 2);
    if (moves.length === 0 && added.length === 0 && removed.length === 0) return;
    for (const row of removed) {
      this.#slotOf[row] = ABSENT;
      this.#mask.delete(row);
    }
    for (const row of added) this.#mask.add(row);
    // In the order given: a published plan reads slots that it wrote before.
    for (let i = 0; i < moves.length; i += 2) {
      const source = moves[i + 1];
      rows[i / 2] = this.#rowAt[moves[i]];
      this.#rowAt[moves[i]] = source >= MOVE_FROM_SLAB ? this.#rowAt[source - MOVE_FROM_SLAB] : source;
    }
    // Only now is a slot's row final. Slots at or above m' may hold rows that are gone or live elsewhere.
    for (let i = 0; i < moves.length; i += 2) {
      if (moves[i] < active) this.#slotOf[this.#rowAt[moves[i]]] = moves[i];
    }
    this.#last = { active: this.#active, moves, rows };
    this.#active = active;
    this.#version = ++lastVersion;
  }

  /**
   * Makes this map what it was before the last commit, whose row writes came to nothing; where that is not known (none
   * was made, or it was taken back already), an empty one. O(N).
   */
  takeBack(): void {
    const { active, moves, rows } = this.#last ?? { active: 0, moves: [], rows: [] };
    // The other way round: a slot that was written twice had its first row first.
    for (let i = rows.length - 1; i >= 0; i--) this.#rowAt[moves[2 * i]] = rows[i];
    this.restore(this.#rowAt.slice(0, active));
  }

  /**
   * Makes this the map of `rows`, where slot s holds rows[s]: what was planned elsewhere. O(N).
   *
   * @throws ShapeError when they are more than the slots; RowError when one is not an integer in [0, N) or comes twice.
   * Nothing changes then.
   */
  restore(rows: ArrayLike<number>): void {
    if (rows.length > this.capacity) {
      throw new ShapeError(`${rows.length} rows were given for ${this.capacity} slots`, {
        rows: rows.length,
        capacity: this.capacity,
      });
    }
    this.#mask = Bitmask.fromIds(rows, this.rows);
    this.#slotOf.fill(ABSENT);
    for (let slot = 0; slot < rows.length; slot++) {
      this.#slotOf[rows[slot]] = slot;
      this.#rowAt[slot] = rows[slot];
    }
    this.#last = null;
    this.#active = rows.length;
    this.#version = ++lastVersion;
  }
}
