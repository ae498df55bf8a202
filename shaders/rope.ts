/**
 * Rotary embedding of one token's heads: dimensions d and d + half of a head, as a complex number, times
 * e^(i · position · frequencies[d]). x [heads, 2 · half], frequencies [half]; a new array of x's shape.
 */
export function rope(x: ArrayLike<number>, position: number, frequencies: ArrayLike<number>): Float64Array {
  const half = frequencies.length;
  const out = new Float64Array(x.length);
  for (let head = 0; head < x.length; head += 2 * half) {
    for (let d = 0; d < half; d++) {
      const angle = position * frequencies[d];
      const re = x[head + d];
      const im = x[head + half + d];
      out[head + d] = re * Math.cos(angle) - im * Math.sin(angle);
      out[head + half + d] = re * Math.sin(angle) + im * Math.cos(angle);
    }
  }
  return out;
}
