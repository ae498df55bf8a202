import { type ActivationSlot, activate } from './lib/activate.js';

export interface GateUpActiveInput {
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
  /** Keep them all the same, as zeros. */
  all?: boolean;
  /** Rows of a segment. */
  segment: number;
  /** [N] */
  gateBias?: ArrayLike<number>;
  /** [N] */
  upBias?: ArrayLike<number>;
}

/** Each segment's active rows in ascending order, and act(gate) · up of each. */
export function gateUpActive(input: GateUpActiveInput): { ids: number[]; values: number[] }[] {
  const { gate, up, x, K, activation, fat, threshold, all, segment, gateBias, upBias } = input;
  const N = gate.length / K;
  const dot = (matrix: ArrayLike<number>, row: number, bias?: ArrayLike<number>) => {
    let sum = bias ? bias[row] : 0;
    for (let k = 0; k < K; k++) sum += matrix[row * K + k] * x[k];
    return sum;
  };
  const segments = Array.from({ length: Math.ceil(N / segment) }, () => ({
    ids: [] as number[],
    values: [] as number[],
  }));
  for (let row = 0; row < N; row++) {
    const g = activate(activation, dot(gate, row, gateBias), fat);
    const keeps = !(Math.abs(g) <= threshold);
    if (!keeps && !all) continue;
    const { ids, values } = segments[Math.floor(row / segment)];
    ids.push(row);
    values.push(keeps ? g * dot(up, row, upBias) : 0);
  }
  return segments;
}
