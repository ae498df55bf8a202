import { OptionError, ShapeError } from '../../errors.js';
import { Bitmask } from '../../mask/index.js';
import type { Policy } from '../policy.js';

/**
 * The `pinned` rows that were used most where it was measured (of equals the lowest ids) stay once they are loaded;
 * `rest` decides among the others. Where those are not enough (a step may use nearly all slots), pinned rows go too, the
 * least used first.
 */
export class Pinned implements Policy {
  readonly name: string;
  /** The pinned rows. */
  readonly hot: Bitmask;
  /** The pinned rows, the least used first. */
  readonly #order: Uint32Array;
  readonly #rest: Policy;

  /**
   * `counts` is [N], how often each row was used. Rows that never were are not pinned.
   * @throws ShapeError when there are no counts; OptionError when pinned is not an integer from 0 to N, or a count is
   *   not a finite number of at least 0.
   */
  constructor(counts: ArrayLike<number>, pinned: number, rest: Policy) {
    const rows = counts.length;
    if (rows === 0) throw new ShapeError('pinning needs a count for every row; there are none');
    if (!Number.isInteger(pinned) || pinned < 0 || pinned > rows) {
      throw new OptionError(`${pinned} rows cannot be pinned; it is an integer from 0 to the ${rows} rows`, {
        pinned,
        rows,
      });
    }
    for (let row = 0; row < rows; row++) {
      if (!(counts[row] >= 0 && counts[row] < Number.POSITIVE_INFINITY)) {
        throw new OptionError(`the count of row ${row} is ${counts[row]}; it must be finite and at least 0`, {
          row,
        });
      }
    }
    const used = Uint32Array.from({ length: rows }, (_, row) => row).filter((row) => counts[row] > 0);
    used.sort((a, b) => counts[b] - counts[a] || a - b);
    this.name = `pinned+${rest.name}`;
    this.#order = used.slice(0, pinned).reverse();
    this.hot = Bitmask.fromIds(this.#order, rows);
    this.#rest = rest;
  }

  victims(count: number, resident: Bitmask, wanted: Bitmask): number[] {
    const kept = wanted.union(this.hot);
    const others = resident.without(kept).count();
    const out = [...this.#rest.victims(Math.min(count, others), resident, kept)];
    for (const row of this.#order) {
      if (out.length >= count) break;
      if (resident.has(row) && !wanted.has(row)) out.push(row);
    }
    return out;
  }

  admit(rows: Uint32Array): void {
    this.#rest.admit(rows);
  }

  note(rows: Uint32Array): void {
    this.#rest.note(rows);
  }

  endStep(): void {
    this.#rest.endStep();
  }
}
