import { type ActivationSlot, activate } from './lib/activate.js';

export interface GateUpPredictedInput {
  /** [N, K] */
  gate: ArrayLike<number>;
  /** [N, K] */
  up: ArrayLike<number>;
  /** [K] */
  x: ArrayLike<number>;
  K: number;
  activation: ActivationSlot;
  /** FATReLU's threshold. */
  fat?: number;
  /** Rows whose |act(gate)| does not exceed it are left out. */
  threshold: number;
  /** Rows of a segment. */
  segment: number;
  /** [N]: what each row's score is above 0 by, or less. */
  scores: ArrayLike<number>;
}

/** Each segment's predicted rows, and those of them that are active, ascending, with act(gate) · up of each. */
export function gateUpPredicted(
  input: GateUpPredictedInput,
): { predicted: number[]; ids: number[]; values: number[] }[] {
  const { gate, up, x, K, activation, fat, threshold, segment, scores } = input;
  const N = gate.length / K;
  const dot = (matrix: ArrayLike<number>, row: number) => {
    let sum = 0;
    for (let k = 0; k < K; k++) sum += matrix[row * K + k] * x[k];
    return sum;
  };
  const segments = Array.from({ length: Math.ceil(N / segment) }, () => ({
    predicted: [] as number[],
    ids: [] as number[],
    values: [] as number[],
  }));
  for (let row = 0; row < N; row++) {
    if (!(scores[row] > 0)) continue;
    const { predicted, ids, values } = segments[Math.floor(row / segment)];
    predicted.push(row);
    const g = activate(activation, dot(gate, row), fat);
    if (Math.abs(g) <= threshold) continue;
    ids.push(row);
    values.push(g * dot(up, row));
  }
  return segments;
}

/** [N]: expand · (project · x) - limits. */
export function lowRankScores(
  {
    project,
    expand,
    limits,
  }: { project: ArrayLike<number>; expand: ArrayLike<number>; limits: ArrayLike<number> },
  x: ArrayLike<number>,
): Float64Array {
  const N = limits.length;
  const rank = expand.length / N;
  return Float64Array.from({ length: N }, (_, row) => {
    let score = -limits[row];
    for (let k = 0; k < rank; k++)
      for (let c = 0; c < x.length; c++) score += expand[row * rank + k] * project[k * x.length + c] * x[c];
    return score;
  });
}

/** [N]: the dot product of levels [N, K] and the input's, of `bits` bits, less the limits. */
export function signScores(
  {
    levels,
    bits,
    scale,
    limits,
  }: { levels: ArrayLike<number>; bits: number; scale: number; limits: ArrayLike<number> },
  x: ArrayLike<number>,
): Float64Array {
  const most = 2 ** bits - 1;
  return Float64Array.from({ length: limits.length }, (_, row) => {
    let score = -limits[row];
    for (let c = 0; c < x.length; c++) {
      // The odd number from -most to most that is nearest to 2 · scale · x.
      const level = Math.max(-most, Math.min(most, 2 * Math.floor(scale * x[c] + 2 ** bits / 2) - most));
      score += levels[row * x.length + c] * level;
    }
    return score;
  });
}
