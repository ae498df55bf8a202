import { NonFiniteError, OptionError, ShapeError } from '../errors.js';

/** One finite score a row. The scale is the caller's; only the order, or the comparison with a threshold, counts. */
export type Scores = Float32Array | readonly number[];

/**
 * Refuses scores that no selector can order.
 *
 * @throws ShapeError when there are none, or not `size` of them where a size is given.
 * @throws NonFiniteError at the first NaN or infinity; `details` holds its `index` and `value`.
 */
export function checkScores(scores: ArrayLike<number>, size?: number): void {
  const n = scores.length;
  if (n === 0) throw new ShapeError('the scores are empty; give one score a row', { length: 0 });
  if (size !== undefined && n !== size) {
    throw new ShapeError(`${n} scores were given for ${size} rows; give one score a row`, {
      length: n,
      size,
    });
  }
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(scores[i])) {
      throw new NonFiniteError(`score ${i} of ${n} is ${scores[i]}; every score must be a finite number`, {
        index: i,
        value: scores[i],
      });
    }
  }
}

/** @throws OptionError when `t` is not a number; infinities are allowed, since they mean "all" and "none". */
export function checkThreshold(name: string, t: number): void {
  if (typeof t !== 'number' || Number.isNaN(t)) {
    throw new OptionError(`${name} is ${String(t)}; it must be a number`, { [name]: t });
  }
}

/** @throws OptionError unless `k` is an integer in [0, n]. */
export function checkCount(k: number, n: number): void {
  if (!Number.isInteger(k) || k < 0 || k > n) {
    throw new OptionError(`k is ${k}; it must be an integer from 0 to the ${n} rows there are`, {
      k,
      rows: n,
    });
  }
}
