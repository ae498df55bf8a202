import { Bitmask } from '../mask/index.js';
import { randomSource, shuffle } from './stats.js';

/** Masks of a timed run: the slab holds `first` when the clock starts; then one mask a step, undefined for all rows. */
export interface Chain {
  readonly first: Bitmask;
  readonly steps: readonly (Bitmask | undefined)[];
  /** Steps that each mask is used for, one after the other. */
  readonly reuse: number;
}

/**
 * Masks of m rows, each of which drops `change` rows of the one before and takes as many others. They are a window that
 * moves around a ring of all rows, so that a row that was dropped comes back as late as it can: rows that are new to
 * a step have not been read for as long as the layer is large, and no cache flatters the step. The ring is shuffled,
 * or in row order for the block pattern, where active rows, added and dropped ones are runs.
 */
export class MaskRing {
  private readonly ring: readonly number[];
  private readonly m: number;
  private readonly change: number;
  private at = 0;

  /** `change` must leave room: at most N - m, and at most m. */
  constructor(shape: { n: number; m: number; change: number }, pattern: 'random' | 'block', seed: number) {
    const { n, m, change } = shape;
    if (change > Math.min(m, n - m)) throw new Error(`${change} rows cannot change with ${m} of ${n} active`);
    const ids = [...Array(n).keys()];
    this.ring = pattern === 'random' ? shuffle(ids, randomSource(seed)) : ids;
    this.m = m;
    this.change = change;
  }

  /** The next `sets` masks, each for `reuse` steps; goes on where the last call ended. */
  take(sets: number, reuse = 1): Chain {
    const first = this.window();
    const steps: (Bitmask | undefined)[] = [];
    for (let s = 0; s < sets; s++) {
      this.at = (this.at + this.change) % this.ring.length;
      const mask = this.m === this.ring.length ? undefined : this.window();
      for (let r = 0; r < reuse; r++) steps.push(mask);
    }
    return { first, steps, reuse };
  }

  private window(): Bitmask {
    const { ring, m, at } = this;
    const mask = Bitmask.empty(ring.length);
    for (let i = 0; i < m; i++) mask.add(ring[(at + i) % ring.length]);
    return mask;
  }
}
