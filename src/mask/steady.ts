import { OptionError, ShapeError } from '../errors.js';
import { Bitmask } from './bitmask.js';
import { checkCount, checkScores, checkThreshold, type Scores } from './scores.js';
import { topK } from './select.js';
import { topPositions } from './top.js';

/**
 * k rows of which a share persists: floor(share · k) rows of `previous` (all of them where it has fewer) are kept,
 * those with the highest scores; the best other rows, dropped ones among them, fill up to k. Ties go to the lowest
 * row id. At most k - kept rows are new, which bounds what a slab has to write. `scores` is [N]; `previous` null
 * (the first step) gives the plain top k.
 *
 * @throws OptionError when k is not an integer in [0, N] or share not in [0, 1]; ShapeError when the scores are empty
 *   or `previous` has another size; NonFiniteError when a score is NaN or infinite.
 */
export function sticky(previous: Bitmask | null, scores: Scores, k: number, share: number): Bitmask {
  if (!(share >= 0 && share <= 1)) {
    throw new OptionError(`share is ${share}; it must be from 0 to 1`, { share });
  }
  if (previous === null) return topK(scores, k);
  checkScores(scores, previous.size);
  checkCount(k, scores.length);
  const mask = Bitmask.empty(previous.size);
  const old = previous.ids();
  addBest(mask, scores, old, Math.min(Math.floor(share * k), old.length));
  const kept = mask.clone();
  const others = new Uint32Array(previous.size - kept.count());
  for (let row = 0, at = 0; row < previous.size; row++) if (!kept.has(row)) others[at++] = row;
  addBest(mask, scores, others, k - (previous.size - others.length));
  return mask;
}

/** Adds the `count` rows of `rows` with the highest scores; `rows` ascends, so ties go to the lowest id. */
function addBest(mask: Bitmask, scores: Scores, rows: Uint32Array, count: number): void {
  const values = new Float64Array(rows.length);
  for (let i = 0; i < rows.length; i++) values[i] = scores[rows[i]];
  for (const position of topPositions(values, count)) mask.add(rows[position]);
}

/**
 * Exponential smoothing of scores over steps, so that a row does not leave for one low score:
 * s = alpha · s + (1 - alpha) · x. The first push takes x as it is. The state is f32.
 */
export class Smoother {
  readonly size: number;
  readonly alpha: number;
  #state: Float32Array | null = null;

  /** @throws ShapeError when size is not a positive integer; OptionError unless 0 <= alpha < 1. */
  constructor(size: number, alpha: number) {
    checkSize(size);
    if (!(alpha >= 0 && alpha < 1)) {
      // At 1 nothing after the first push would count.
      throw new OptionError(`alpha is ${alpha}; it must be at least 0 and less than 1`, { alpha });
    }
    this.size = size;
    this.alpha = alpha;
  }

  /**
   * Takes the scores ([size]) of one step and returns the smoothed ones, a copy that is the caller's.
   *
   * @throws ShapeError when the length is not `size`; NonFiniteError when a score, or its value in f32, is NaN or
   *   infinite. After an error the state is as before.
   */
  push(scores: Scores): Float32Array {
    checkScores(scores, this.size);
    const { alpha } = this;
    const next = Float32Array.from(scores);
    const last = this.#state;
    if (last !== null) {
      for (let i = 0; i < next.length; i++) next[i] = alpha * last[i] + (1 - alpha) * scores[i];
    }
    checkScores(next);
    this.#state = next;
    return next.slice();
  }
}

/** A mask with two thresholds, so that a score that hovers about one does not flip its row at every step. */
export class Hysteresis {
  readonly size: number;
  readonly enter: number;
  readonly leave: number;
  #state: Bitmask;

  /** @throws ShapeError when size is not a positive integer; OptionError unless enter >= leave. */
  constructor(size: number, { enter, leave }: { enter: number; leave: number }) {
    checkSize(size);
    checkThreshold('enter', enter);
    checkThreshold('leave', leave);
    if (enter < leave) {
      throw new OptionError(`enter is ${enter} and leave ${leave}; enter must not be below leave`, {
        enter,
        leave,
      });
    }
    this.size = size;
    this.enter = enter;
    this.leave = leave;
    this.#state = Bitmask.empty(size);
  }

  /**
   * Takes the scores ([size]) of one step: a row enters above `enter`, stays while it is not below `leave`, and
   * leaves below that. Returns a copy that is the caller's.
   *
   * @throws ShapeError when the length is not `size`; NonFiniteError when a score is NaN or infinite. After an error
   *   the state is as before.
   */
  push(scores: Scores): Bitmask {
    checkScores(scores, this.size);
    const next = this.#state.clone();
    for (let row = 0; row < this.size; row++) {
      if (scores[row] > this.enter) next.add(row);
      else if (scores[row] < this.leave) next.delete(row);
    }
    this.#state = next;
    return next.clone();
  }
}

function checkSize(size: number): void {
  if (!Number.isInteger(size) || size < 1) {
    throw new ShapeError(`size is ${size}; it must be a positive integer`, { size });
  }
}
