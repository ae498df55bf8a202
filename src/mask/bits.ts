/** Number of set bits in the low 32 bits of `x`, by the usual halving sums. */
export function popcount32(x: number): number {
  let v = x - ((x >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  v = (v + (v >>> 4)) & 0x0f0f0f0f;
  // Math.imul keeps the product a 32-bit integer; the top byte is the sum of the four.
  return Math.imul(v, 0x01010101) >>> 24;
}

/** Position (0 to 31) of the lowest set bit of `x`, which must not be 0. */
export function lowestBit(x: number): number {
  return 31 - Math.clz32(x & -x);
}

/** Writes the positions of the set bits of `word` plus `base` to `out` from index `at`; returns the next index. */
export function unpackWord(word: number, base: number, out: Uint32Array, at: number): number {
  let next = at;
  for (let w = word; w !== 0; w &= w - 1) out[next++] = base + lowestBit(w);
  return next;
}
