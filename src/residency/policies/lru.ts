import type { Bitmask } from '../../mask/index.js';
import { LazyHeap } from '../lazy-heap.js';
import type { Policy } from '../policy.js';

/** The least recently used row goes first; of rows last used in the same step the lowest id. */
export class Lru implements Policy {
  readonly name = 'lru';
  readonly #heap: LazyHeap;
  #step = 1;

  constructor(rows: number) {
    this.#heap = new LazyHeap(new Float64Array(rows));
  }

  victims(count: number, resident: Bitmask, wanted: Bitmask): number[] {
    return this.#heap.lowest(count, resident, wanted);
  }

  admit(rows: Uint32Array): void {
    this.#heap.add(rows);
  }

  note(rows: Uint32Array): void {
    for (const row of rows) this.#heap.keys[row] = this.#step;
  }

  endStep(): void {
    this.#step++;
  }
}
