import { NonFiniteError, RowError, ShapeError } from '../errors.js';
import { lowestBit, popcount32, unpackWord } from './bits.js';
import { checkScores, checkThreshold } from './scores.js';
import { noSuchRow } from './no-such-row.js';

/** One more than the largest number of rows: bit 31 of a move's source means "slab", so a row id has 31 bits. */
const ROW_LIMIT = 2 ** 31;

/**
 * The rows wanted at one step: a set of row ids in [0, size), one bit a row.
 *
 * Row i is bit i % 32 of word floor(i / 32), which is also how a shader reads it. Any size from 1 to 2^31 - 1.
 */
export class Bitmask implements Iterable<number> {
  /** N, the number of rows that can be in the set. */
  readonly size: number;
  /** ceil(N / 32) words; the bits beyond N are always 0. Write through `add` and `delete`, which keep that so. */
  readonly words: Uint32Array;

  private constructor(size: number, words: Uint32Array) {
    this.size = size;
    this.words = words;
  }

  /** No row of `size`. @throws ShapeError when size is not an integer in [1, 2^31). */
  static empty(size: number): Bitmask {
    if (!Number.isInteger(size) || size < 1 || size >= ROW_LIMIT) {
      throw new ShapeError(
        `a mask of ${size} rows is not possible; the size is an integer from 1 to 2^31 - 1`,
        {
          size,
        },
      );
    }
    return new Bitmask(size, new Uint32Array(Math.ceil(size / 32)));
  }

  /** Every row of `size`. @throws ShapeError when size is not an integer in [1, 2^31). */
  static full(size: number): Bitmask {
    const mask = Bitmask.empty(size);
    mask.words.fill(0xffffffff);
    mask.words[mask.words.length - 1] &= tailBits(size);
    return mask;
  }

  /**
   * The rows of `ids`, in any order.
   *
   * @throws RowError when an id is not an integer in [0, size) or comes twice; `details.id` names it.
   * @throws ShapeError as `empty`.
   */
  static fromIds(ids: ArrayLike<number>, size: number): Bitmask {
    const mask = Bitmask.empty(size);
    for (let i = 0; i < ids.length; i++) {
      if (mask.has(ids[i])) {
        throw new RowError(`row ${ids[i]} of N = ${size} is given twice; give each row id once`, {
          id: ids[i],
          size,
        });
      }
      mask.words[ids[i] >>> 5] |= 1 << (ids[i] & 31);
    }
    return mask;
  }

  /**
   * One flag a row; a number counts as true unless it is 0.
   *
   * @throws NonFiniteError when a flag is NaN, which says neither yes nor no.
   * @throws ShapeError when there are no flags.
   */
  static fromBooleans(flags: ArrayLike<boolean | number>): Bitmask {
    const mask = Bitmask.empty(flags.length);
    for (let i = 0; i < flags.length; i++) {
      const flag = flags[i];
      if (Number.isNaN(flag)) {
        throw new NonFiniteError(`flag ${i} is NaN; give a boolean, 0 or another number`, {
          index: i,
          value: flag,
        });
      }
      if (flag) mask.words[i >>> 5] |= 1 << (i & 31);
    }
    return mask;
  }

  /**
   * The rows with score > t.
   *
   * @throws NonFiniteError when a score is NaN or infinite; ShapeError when there are none; OptionError when t is NaN.
   */
  static fromThreshold(scores: ArrayLike<number>, t: number): Bitmask {
    checkThreshold('t', t);
    checkScores(scores);
    const mask = Bitmask.empty(scores.length);
    for (let i = 0; i < scores.length; i++) if (scores[i] > t) mask.words[i >>> 5] |= 1 << (i & 31);
    return mask;
  }

  /**
   * A copy of `words`, for instance read back from a GPU buffer.
   *
   * @throws ShapeError when there are not ceil(size / 32) words, or a bit at or beyond `size` is set.
   */
  static fromWords(words: Uint32Array, size: number): Bitmask {
    const mask = Bitmask.empty(size);
    if (words.length !== mask.words.length) {
      throw new ShapeError(
        `${words.length} words were given for N = ${size} rows; ${mask.words.length} words hold them`,
        {
          words: words.length,
          expected: mask.words.length,
          size,
        },
      );
    }
    const beyond = words[words.length - 1] & ~tailBits(size);
    if (beyond !== 0) {
      const row = (words.length - 1) * 32 + lowestBit(beyond);
      throw new ShapeError(`bit ${row} is set in a mask of N = ${size} rows; clear the bits beyond N`, {
        bit: row,
        size,
      });
    }
    mask.words.set(words);
    return mask;
  }

  /** Whether row `i` is in the set. @throws RowError when i is not an integer in [0, size). */
  has(i: number): boolean {
    this.#checkRow(i);
    return ((this.words[i >>> 5] >>> (i & 31)) & 1) === 1;
  }

  /** Puts row `i` in the set, where it may be already. @throws RowError as `has`. */
  add(i: number): void {
    this.#checkRow(i);
    this.words[i >>> 5] |= 1 << (i & 31);
  }

  /** Takes row `i` out of the set, where it need not be. @throws RowError as `has`. */
  delete(i: number): void {
    this.#checkRow(i);
    this.words[i >>> 5] &= ~(1 << (i & 31));
  }

  /** How many rows are in the set, in O(N / 32). */
  count(): number {
    const { words } = this;
    let total = 0;
    for (let w = 0; w < words.length; w++) total += popcount32(words[w]);
    return total;
  }

  /** The row ids in the set, ascending. */
  ids(): Uint32Array {
    const { words } = this;
    const out = new Uint32Array(this.count());
    let at = 0;
    for (let w = 0; w < words.length; w++) at = unpackWord(words[w], w * 32, out, at);
    return out;
  }

  /** A new mask of the rows that are in this one or in `other`. @throws ShapeError when the sizes differ. */
  union(other: Bitmask): Bitmask {
    checkSameSize(this, other);
    const out = this.clone();
    for (let w = 0; w < out.words.length; w++) out.words[w] |= other.words[w];
    return out;
  }

  /** A new mask of the rows that are in this one and not in `other`. @throws ShapeError when the sizes differ. */
  without(other: Bitmask): Bitmask {
    checkSameSize(this, other);
    const out = this.clone();
    for (let w = 0; w < out.words.length; w++) out.words[w] &= ~other.words[w];
    return out;
  }

  /** Whether both have the same size and the same rows. */
  equals(other: Bitmask): boolean {
    if (this.size !== other.size) return false;
    for (let w = 0; w < this.words.length; w++) if (this.words[w] !== other.words[w]) return false;
    return true;
  }

  /** A copy that shares nothing with this one. */
  clone(): Bitmask {
    return new Bitmask(this.size, this.words.slice());
  }

  /** The row ids in the set, ascending. */
  *[Symbol.iterator](): IterableIterator<number> {
    for (let w = 0; w < this.words.length; w++) {
      for (let v = this.words[w]; v !== 0; v &= v - 1) yield w * 32 + lowestBit(v);
    }
  }

  #checkRow(i: number): void {
    if (!Number.isInteger(i) || i < 0 || i >= this.size) throw noSuchRow(i, this.size);
  }
}

/** @throws ShapeError when the two masks are over different numbers of rows. */
export function checkSameSize(a: Bitmask, b: Bitmask): void {
  if (a.size !== b.size) {
    throw new ShapeError(`one mask has N = ${a.size} rows and the other ${b.size}; they must be the same`, {
      sizes: [a.size, b.size],
    });
  }
}

/** The bits of the last word that stand for rows. `size % 32 === 0` needs all, and a shift by 32 would be one by 0. */
function tailBits(size: number): number {
  return 0xffffffff >>> (-size & 31);
}
