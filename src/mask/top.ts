/** What the selection works on: exact copies, so f32 scores stay f32 and JavaScript numbers stay f64. */
export type Values = Float32Array | Float64Array;

/** Below this many values a native sort beats another round of partitioning. */
const SORT_BELOW = 32;

/**
 * Positions of the k largest of `values`, ascending; of equal values the lowest positions win.
 *
 * The k-th largest value is found first, by quickselect on a copy; a scan in position order then takes everything
 * above it and as many equal to it as are still missing. So the result does not depend on how quickselect went.
 * O(n) on average, O(n log n) at worst. `values` must be finite and 0 <= k <= n; it is not changed.
 */
export function topPositions(values: Values, k: number): Uint32Array {
  const out = new Uint32Array(k);
  if (k === 0) return out;
  const n = values.length;
  const cut = ascendingAt(values.slice(), n - k);
  let above = 0;
  for (let i = 0; i < n; i++) if (values[i] > cut) above++;
  let ties = k - above;
  let at = 0;
  for (let i = 0; i < n && at < k; i++) {
    if (values[i] > cut) out[at++] = i;
    else if (values[i] === cut && ties > 0) {
      ties--;
      out[at++] = i;
    }
  }
  return out;
}

/** The value that would stand at `index` if `v` were sorted ascending. Reorders `v`. */
function ascendingAt(v: Values, index: number): number {
  let lo = 0;
  let hi = v.length - 1;
  // Median of three is quadratic on inputs made against it: after twice the rounds that halving would need, the
  // native sort finishes what is left.
  let budget = 2 * (32 - Math.clz32(v.length));
  while (hi - lo >= SORT_BELOW) {
    if (budget-- === 0) break;
    const pivot = median(v[lo], v[(lo + hi) >>> 1], v[hi]);
    let i = lo;
    let j = hi;
    // Hoare's scheme stops at values equal to the pivot on both sides, so many ties still split in halves.
    while (i <= j) {
      while (v[i] < pivot) i++;
      while (v[j] > pivot) j--;
      if (i <= j) {
        const t = v[i];
        v[i++] = v[j];
        v[j--] = t;
      }
    }
    if (index <= j) hi = j;
    else if (index >= i) lo = i;
    else return pivot;
  }
  v.subarray(lo, hi + 1).sort();
  return v[index];
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}
