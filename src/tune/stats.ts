/** A confidence interval of the median, and how confident it is: 0.95 or a little more from six values on, less below. */
export interface Interval {
  low: number;
  high: number;
  confidence: number;
}

/** Statistics over repeats; every figure of a bench is one of these. */
export interface Stats {
  n: number;
  median: number;
  mean: number;
  p10: number;
  p90: number;
  min: number;
  max: number;
  ci: Interval;
}

export function statsOf(values: readonly number[]): Stats {
  if (values.length === 0) throw new RangeError('there is no statistic of no values');
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  const at = (q: number): number => sorted[Math.round(q * (n - 1))];
  const middle = n >> 1;
  return {
    n,
    median: n % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2,
    mean: sorted.reduce((sum, value) => sum + value, 0) / n,
    p10: at(0.1),
    p90: at(0.9),
    min: sorted[0],
    max: sorted[n - 1],
    ci: medianInterval(sorted),
  };
}

/**
 * Between two order statistics, as far from either end: of n independent values, those below the true median are
 * binomial(n, 1/2), whatever the distribution, so [x(j), x(n+1-j)] misses it with probability 2·P(B < j). j is the
 * largest with at most 5 %. (W. J. Conover, Practical Nonparametric Statistics, 3rd ed. 1999, section 3.2; the same in
 * J.-Y. Le Boudec, Performance Evaluation of Computer and Communication Systems, theorem 2.1.) Not a bootstrap: that is
 * too narrow for the three to nine repeats of a bench. Below six values even [min, max] is less sure than 95 %.
 */
function medianInterval(sorted: readonly number[]): Interval {
  const n = sorted.length;
  // P(B = i) through its logarithm: 2^-n underflows for the thousands of samples of a decode.
  let logP = -n * Math.LN2;
  let below = Math.exp(logP);
  let j = 1;
  for (; j < n / 2; j++) {
    logP += Math.log((n - j + 1) / j);
    const next = below + Math.exp(logP);
    if (2 * next > 0.05) break;
    below = next;
  }
  return { low: sorted[j - 1], high: sorted[n - j], confidence: Math.max(0, 1 - 2 * below) };
}

/** Statistics of a[i] / b[i]: ratios of runs that were made side by side. */
export function ratioOf(a: readonly number[], b: readonly number[]): Stats {
  if (a.length !== b.length) throw new RangeError(`${a.length} runs do not pair with ${b.length}`);
  return statsOf(a.map((value, i) => value / b[i]));
}

/** Seeded, so that two runs of a bench see the same masks. mulberry32. */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Fisher and Yates, in place. */
export function shuffle<T>(items: T[], random: () => number): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}
