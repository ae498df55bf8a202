import { randomSource } from '../../../src/tune/stats.js';

/** Makes f32 values from -1 to 1, the same for the same seed. */
export function valuesFrom(seed: number): (count: number) => Float32Array<ArrayBuffer> {
  const random = randomSource(seed);
  return (count) => Float32Array.from({ length: count }, () => 2 * random() - 1);
}

/** The largest difference, in units of `expected`'s root mean square. */
export function errorOf(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Infinity;
  let most = 0;
  let squares = 0;
  for (let i = 0; i < expected.length; i++) {
    // A NaN must not be lost on the way.
    most = Math.max(most, Number.isNaN(found[i]) ? Infinity : Math.abs(found[i] - expected[i]));
    squares += expected[i] ** 2;
  }
  return most / Math.sqrt(squares / expected.length);
}
