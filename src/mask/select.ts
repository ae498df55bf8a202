import { NonFiniteError, OptionError, ShapeError } from '../errors.js';
import { Bitmask } from './bitmask.js';
import { checkCount, checkScores, type Scores } from './scores.js';
import { topPositions, type Values } from './top.js';

/**
 * The rows with score > t. `scores` is [N].
 *
 * @throws NonFiniteError when a score is NaN or infinite; ShapeError when there are none; OptionError when t is NaN.
 */
export function threshold(scores: Scores, t: number): Bitmask {
  return Bitmask.fromThreshold(scores, t);
}

/**
 * The rows that stand out: score > mean + k · sigma, with sigma the population's standard deviation. `scores` is [N].
 * Scores that are all equal give the empty mask for k >= 0.
 *
 * @throws NonFiniteError when a score is NaN or infinite, or their spread overflows; ShapeError when there are none;
 *   OptionError when k is not finite.
 */
export function sigma(scores: Scores, { k = 2 }: { k?: number } = {}): Bitmask {
  if (!Number.isFinite(k)) throw new OptionError(`k is ${k}; it must be a finite number of sigmas`, { k });
  checkScores(scores);
  const n = scores.length;
  // Sums are of differences from the first score: exact when all are equal, where a plain mean may round to just
  // below the scores and so select every row.
  const origin = scores[0];
  let sum = 0;
  for (let i = 0; i < n; i++) sum += scores[i] - origin;
  const shift = sum / n;
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (scores[i] - origin - shift) ** 2;
  const t = origin + shift + k * Math.sqrt(squares / n);
  if (!Number.isFinite(t)) {
    throw new NonFiniteError(`mean + ${k} sigma of the ${n} scores is ${t}; scale the scores down`, {
      value: t,
    });
  }
  return Bitmask.fromThreshold(scores, t);
}

/**
 * The k rows with the highest scores; of equal scores the lowest row ids win, so the mask is the same everywhere.
 * `scores` is [N]; k = 0 gives the empty mask. O(N) on average.
 *
 * @throws OptionError when k is not an integer in [0, N]; NonFiniteError when a score is NaN or infinite;
 *   ShapeError when there are none.
 */
export function topK(scores: Scores, k: number): Bitmask {
  checkScores(scores);
  checkCount(k, scores.length);
  const mask = Bitmask.empty(scores.length);
  addTop(mask, values(scores), k);
  return mask;
}

/**
 * The union of the top k of every row of a batch, so between k and batch · k rows. `scores` is [batch, N], flattened.
 *
 * @throws ShapeError when the scores are empty or not a whole number of rows; OptionError when batch is not a
 *   positive integer or k not an integer in [0, N]; NonFiniteError when a score is NaN or infinite (`index` counts
 *   in the flattened scores).
 */
export function topKUnion(scores: Scores, { batch }: { batch: number }, k: number): Bitmask {
  if (!Number.isInteger(batch) || batch < 1) {
    throw new OptionError(`batch is ${batch}; it must be a positive integer`, { batch });
  }
  checkScores(scores);
  if (scores.length % batch !== 0) {
    throw new ShapeError(
      `${scores.length} scores do not divide into a batch of ${batch}; give [batch, N] scores`,
      {
        length: scores.length,
        batch,
      },
    );
  }
  const n = scores.length / batch;
  checkCount(k, n);
  const all = values(scores);
  const mask = Bitmask.empty(n);
  for (let b = 0; b < batch; b++) addTop(mask, all.subarray(b * n, (b + 1) * n), k);
  return mask;
}

function addTop(mask: Bitmask, scores: Values, k: number): void {
  for (const row of topPositions(scores, k)) mask.words[row >>> 5] |= 1 << (row & 31);
}

function values(scores: Scores): Values {
  return scores instanceof Float32Array ? scores : Float64Array.from(scores);
}
