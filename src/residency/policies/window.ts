import { OptionError } from '../../errors.js';
import type { Bitmask } from '../../mask/index.js';
import { LazyHeap } from '../lazy-heap.js';
import type { Policy } from '../policy.js';

/**
 * The rows of the last `steps` steps, the one that is planned among them, and no others; where those do not fit, the
 * least recently used goes first (of equals the lowest row id). A window of 1 is
 * `Exact`, but for steps in pieces, of which it keeps earlier pieces as long as there is room.
 */
export class Window implements Policy {
  readonly name: string;
  readonly #steps: number;
  readonly #heap: LazyHeap;
  #step = 1;

  /** @throws OptionError when steps is not an integer of at least 1. */
  constructor(rows: number, steps: number) {
    if (!Number.isInteger(steps) || steps < 1) {
      throw new OptionError(`a window of ${steps} steps is not possible; it is an integer of at least 1`, {
        steps,
      });
    }
    this.name = `window:${steps}`;
    this.#steps = steps;
    this.#heap = new LazyHeap(new Float64Array(rows));
  }

  victims(count: number, resident: Bitmask, wanted: Bitmask): number[] {
    return this.#heap.lowest(count, resident, wanted, this.#step - this.#steps + 1);
  }

  admit(rows: Uint32Array): void {
    // What was prefetched for this step has not been used, and is as new as what has.
    for (const row of rows) this.#heap.keys[row] = this.#step;
    this.#heap.add(rows);
  }

  note(rows: Uint32Array): void {
    for (const row of rows) this.#heap.keys[row] = this.#step;
  }

  endStep(): void {
    this.#step++;
  }
}
