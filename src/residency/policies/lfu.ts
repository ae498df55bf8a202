import type { Bitmask } from '../../mask/index.js';
import { DecayedCounts, LFU_DECAY } from '../decayed-counts.js';
import { LazyHeap } from '../lazy-heap.js';
import type { Policy } from '../policy.js';

/**
 * The row with the smallest decayed count goes first: the sum over its uses of `decay` to the power of their age in
 * steps, also of uses before it was evicted. Of equals the lowest row id.
 */
export class Lfu implements Policy {
  readonly name: string;
  readonly #counts: DecayedCounts;
  readonly #heap: LazyHeap;

  /** @throws OptionError as `DecayedCounts`. */
  constructor(rows: number, decay = LFU_DECAY) {
    this.name = `lfu:${decay}`;
    this.#counts = new DecayedCounts(rows, decay);
    this.#heap = new LazyHeap(this.#counts.counts);
  }

  victims(count: number, resident: Bitmask, wanted: Bitmask): number[] {
    return this.#heap.lowest(count, resident, wanted);
  }

  admit(rows: Uint32Array): void {
    this.#heap.add(rows);
  }

  note(rows: Uint32Array): void {
    this.#counts.note(rows);
  }

  endStep(): void {
    if (this.#counts.endStep()) this.#heap.rebuild();
  }
}
