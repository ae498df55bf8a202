/** Rows, ascending, with a score above `threshold`. scores [N]. */
export function aboveThreshold(scores: ArrayLike<number>, threshold: number): number[] {
  return rowsWhere(scores, (score) => score > threshold);
}

/** mean + k sigma of the scores [N]: the threshold that the kernel finds in f32. */
export function sigmaThreshold(scores: ArrayLike<number>, k: number): number {
  const values = Array.from(scores);
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
  return mean + k * Math.sqrt(variance);
}

/** The `count` rows with the highest scores, ascending; of equal scores the lowest ids. scores [N]. */
export function highest(scores: ArrayLike<number>, count: number): number[] {
  const ids = rowsWhere(scores, () => true);
  const best = ids.sort((a, b) => scores[b] - scores[a] || a - b).slice(0, count);
  return best.sort((a, b) => a - b);
}

function rowsWhere(scores: ArrayLike<number>, wanted: (score: number) => boolean): number[] {
  const ids: number[] = [];
  for (let i = 0; i < scores.length; i++) if (wanted(scores[i])) ids.push(i);
  return ids;
}
