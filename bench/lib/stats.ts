/** Statistics over repeats; every figure of a bench is one of these. */
export interface Stats {
  n: number;
  median: number;
  p10: number;
  p90: number;
  min: number;
}

export function statsOf(values: readonly number[]): Stats {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.round(q * (sorted.length - 1)))];
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { n: sorted.length, median, p10: at(0.1), p90: at(0.9), min: sorted[0] };
}

/** Statistics of a[i] / b[i]: ratios of runs that were made side by side. */
export function ratioOf(a: readonly number[], b: readonly number[]): Stats {
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
