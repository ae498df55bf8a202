/** How results are compared with a twin's; the only place with tolerances. */
import type { StoredDtype } from '../../src/gpu/layout.js';
import type { Compute } from '../../src/mlp/compute.js';
import { POISON } from './lab.js';

/**
 * Allowed error of a kernel that works in f32, relative to the sum of the sizes of what it sums up. For the other
 * weights the same: the twin is given them as they were rounded or quantised (`stored`), widening f16, bf16 and integers
 * is exact, and a scale is one more f32 multiplication.
 */
export const TOLERANCE: Readonly<Record<StoredDtype, number>> = {
  f32: 1e-5,
  f16: 1e-5,
  bf16: 1e-5,
  q8: 1e-5,
  q4: 1e-5,
};

/**
 * The same for f16 arithmetic, where the twin is given x as it is: of a term's size, x is off by 2^-11, its product by as
 * much, and three sums add up to three more, 5 · 2^-11 in all; results that multiply two or three dot products have
 * two or three times that, which does not come together in more than a few terms. The sums of quads are f32.
 */
export const TOLERANCE_F16 = 2 ** -8;
/** What is smaller than 2^-14 may count as zero in f16. */
const FLUSHED_F16 = 2 ** -14;

/** What must be in an output buffer, by position; what is not said must still be poison. */
export class Expected {
  readonly length: number;
  private readonly allowed: (size: number) => number;
  private readonly values = new Map<number, { value: number; allowed: number }>();

  constructor(length: number, dtype: StoredDtype = 'f32', compute: Compute = 'f32') {
    this.length = length;
    this.allowed = (size) =>
      compute === 'f16' ? TOLERANCE_F16 * size + FLUSHED_F16 : TOLERANCE[dtype] * (size + 1e-3);
  }

  /** `size` is the sum of the sizes that `value` sums up; without it the value must be exact. */
  set(at: number, value: number, size?: number): void {
    const allowed = size === undefined ? 0 : this.allowed(size);
    this.values.set(at, { value, allowed });
  }

  /** values [rows, cols] at rows of `stride`, with their sizes [rows, cols]. */
  setRows(
    values: Float64Array,
    sizes: Float64Array | undefined,
    cols: number,
    stride: number,
    start = 0,
  ): this {
    values.forEach((value, i) => {
      this.set(start + Math.floor(i / cols) * stride + (i % cols), value, sizes?.[i]);
    });
    return this;
  }

  /** Throws unless every word is as expected. */
  check(words: Uint32Array<ArrayBuffer>): void {
    if (words.length !== this.length)
      throw new Error(`${words.length} words were read, ${this.length} expected`);
    const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
    for (let i = 0; i < words.length; i++) {
      const want = this.values.get(i);
      if (!want) {
        if (words[i] !== POISON)
          throw new Error(
            `word ${i} of ${this.length} must not be written; it became ${floats[i]} (${words[i]})`,
          );
        continue;
      }
      // Written so that NaN fails.
      if (!(Math.abs(floats[i] - want.value) <= want.allowed))
        throw new Error(
          `value ${i} of ${this.length} is ${floats[i]}; the twin has ${want.value} ± ${want.allowed}`,
        );
    }
  }
}

/** Throws at the first word that differs. */
export function checkWords(got: Uint32Array, want: Uint32Array, what: string): void {
  if (got.length !== want.length) throw new Error(`${what}: ${got.length} words, expected ${want.length}`);
  for (let i = 0; i < want.length; i++) {
    if (got[i] !== want[i])
      throw new Error(`${what}: word ${i} is 0x${got[i].toString(16)}, expected 0x${want[i].toString(16)}`);
  }
}

export const sizes = (values: ArrayLike<number>): Float64Array => Float64Array.from(values, Math.abs);
