import type { Bitmask } from '../mask/index.js';

/**
 * The resident rows with the lowest keys, for policies whose keys change only when a row is used, and then only rise.
 *
 * A binary heap that is put right when it is looked at: a row whose key rose is moved down when it comes to the top,
 * and an evicted row is dropped then. So a use costs one store, and `lowest` O((count + rows used since) log C).
 * Ties go to the lowest row id.
 */
export class LazyHeap {
  /** `[N]`: each row's key, resident or not. Whoever owns it writes a higher one at will. */
  readonly keys: Float64Array;
  /** `[N]`: the key by which the heap holds a row; at most its key. */
  readonly #held: Float64Array;
  readonly #inside: Uint8Array;
  readonly #heap: Uint32Array;
  #size = 0;

  /** Looks at `keys`, [N], which may serve other heaps too. Memory: 13 N bytes and the keys. */
  constructor(keys: Float64Array) {
    const rows = keys.length;
    this.keys = keys;
    this.#held = new Float64Array(rows);
    this.#inside = new Uint8Array(rows);
    this.#heap = new Uint32Array(rows);
  }

  /** Takes rows in; those that are inside stay as they are. */
  add(rows: ArrayLike<number>): void {
    for (let i = 0; i < rows.length; i++) if (this.#inside[rows[i]] === 0) this.#push(rows[i]);
  }

  /**
   * The `count` rows of `resident` and not of `wanted` with the lowest keys, and all others whose key is below
   * `limit`; fewer where there are fewer. Lowest first. The rows stay inside until they are no longer resident.
   */
  lowest(count: number, resident: Bitmask, wanted: Bitmask, limit = Number.NEGATIVE_INFINITY): number[] {
    const found: number[] = [];
    const aside: number[] = [];
    while (this.#size > 0) {
      const row = this.#heap[0];
      if (!resident.has(row)) {
        this.#pop();
        continue;
      }
      if (this.#held[row] !== this.keys[row]) {
        this.#held[row] = this.keys[row];
        this.#down(0);
        continue;
      }
      if (found.length >= count && !(this.keys[row] < limit)) break;
      this.#pop();
      aside.push(row);
      if (!wanted.has(row)) found.push(row);
    }
    // The plan may not be committed.
    for (const row of aside) this.#push(row);
    return found;
  }

  /** To be called when keys fell, or became equal. O(N). */
  rebuild(): void {
    this.#held.set(this.keys);
    for (let i = (this.#size >>> 1) - 1; i >= 0; i--) this.#down(i);
  }

  #before(a: number, b: number): boolean {
    return this.#held[a] < this.#held[b] || (this.#held[a] === this.#held[b] && a < b);
  }

  #push(row: number): void {
    this.#held[row] = this.keys[row];
    this.#inside[row] = 1;
    const heap = this.#heap;
    let i = this.#size++;
    while (i > 0) {
      const parent = (i - 1) >>> 1;
      if (!this.#before(row, heap[parent])) break;
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = row;
  }

  #pop(): void {
    this.#inside[this.#heap[0]] = 0;
    this.#heap[0] = this.#heap[--this.#size];
    if (this.#size > 0) this.#down(0);
  }

  #down(start: number): void {
    const heap = this.#heap;
    const row = heap[start];
    let i = start;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#before(heap[child + 1], heap[child])) child++;
      if (!this.#before(heap[child], row)) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = row;
  }
}
