import { OptionError, RowError } from '../errors.js';
import { Bitmask } from '../mask/index.js';
import { noSuchRow } from '../mask/no-such-row.js';

const ABSENT = -1;

/**
 * Which rows are in which of C slots: resident rows, of which those that the last step used are active. Any slot may be
 * empty. It holds no row data; `Residency` changes it, by committing plans.
 */
export class ResidentMap {
  /** N, the rows of the pool. */
  readonly rows: number;
  /** C, the slots of the slab. */
  readonly capacity: number;
  readonly #resident: Bitmask;
  readonly #free: Bitmask;
  readonly #slotOf: Int32Array;
  readonly #rowAt: Int32Array;
  #count = 0;

  /**
   * All slots empty. Memory: 4 (N + C) + (N + C) / 8 bytes.
   * @throws ShapeError when rows is not an integer in [1, 2^31); OptionError when capacity is not one in [1, rows].
   */
  constructor(rows: number, capacity: number) {
    this.#resident = Bitmask.empty(rows);
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > rows) {
      throw new OptionError(
        `capacity is ${capacity}; it must be an integer from 1 to the ${rows} rows there are`,
        { capacity, rows },
      );
    }
    this.rows = rows;
    this.capacity = capacity;
    this.#free = Bitmask.full(capacity);
    this.#slotOf = new Int32Array(rows).fill(ABSENT);
    this.#rowAt = new Int32Array(capacity).fill(ABSENT);
  }

  /** How many rows are resident. */
  get count(): number {
    return this.#count;
  }

  /** The resident rows; not a copy, so look only. */
  get resident(): Bitmask {
    return this.#resident;
  }

  /** The empty slots; not a copy, so look only. */
  get free(): Bitmask {
    return this.#free;
  }

  /** The slot that holds `row`, or -1 when it is not resident. @throws RowError when row is not an integer in [0, N). */
  slotOf(row: number): number {
    const slot = this.#slotOf[row];
    if (slot === undefined) throw noSuchRow(row, this.rows);
    return slot;
  }

  /** The row in `slot`, or -1 when it is empty. @throws RowError when slot is not an integer in [0, C). */
  rowAt(slot: number): number {
    const row = this.#rowAt[slot];
    if (row === undefined) {
      throw new RowError(`slot ${slot} is not an integer in [0, C) with C = ${this.capacity}`, {
        slot,
        capacity: this.capacity,
      });
    }
    return row;
  }

  /** Empties the slot of a resident row. */
  remove(row: number): void {
    const slot = this.#slotOf[row];
    this.#slotOf[row] = ABSENT;
    this.#rowAt[slot] = ABSENT;
    this.#resident.delete(row);
    this.#free.add(slot);
    this.#count--;
  }

  /** Puts a row that is not resident in an empty slot. */
  put(row: number, slot: number): void {
    this.#slotOf[row] = slot;
    this.#rowAt[slot] = row;
    this.#resident.add(row);
    this.#free.delete(slot);
    this.#count++;
  }
}
