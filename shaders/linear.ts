import { type ActivationSlot, activate } from './lib/activate.js';

export interface LinearInput {
  /** [N, K] */
  W: ArrayLike<number>;
  /** [B, K] */
  x: ArrayLike<number>;
  K: number;
  /** Ids of the M rows taken, in order; all N without it. */
  rows?: readonly number[];
  /** [N] */
  bias?: ArrayLike<number>;
  activation?: ActivationSlot;
  /** FATReLU's threshold. */
  fat?: number;
  /** Results whose size does not exceed it become zero. */
  threshold?: number;
  /** [B]: ids of the rows that are not set to zero; all without it. */
  keep?: readonly ReadonlySet<number>[];
  /** [B, N]: what each result is multiplied with, by row id. */
  gate?: ArrayLike<number>;
  /** [B, M]: what the result is added to. */
  add?: ArrayLike<number>;
}

/** [B, M]: act(W[row] · x[b] + bias[row]), cut off by threshold and mask, times the gate, plus what was there. */
export function linear(input: LinearInput): Float64Array {
  const { W, x, K, bias, activation = 'identity', fat, threshold = -1, keep, gate, add } = input;
  const N = W.length / K;
  const B = x.length / K;
  const rows = input.rows ?? Array.from({ length: N }, (_, i) => i);
  const M = rows.length;
  const out = new Float64Array(B * M);
  for (let b = 0; b < B; b++) {
    for (let i = 0; i < M; i++) {
      const row = rows[i];
      let sum = bias ? bias[row] : 0;
      for (let k = 0; k < K; k++) sum += W[row * K + k] * x[b * K + k];
      let value = activate(activation, sum, fat);
      if (!(Math.abs(value) > threshold) || (keep && !keep[b].has(row))) value = 0;
      if (gate) value *= gate[b * N + row];
      out[b * M + i] = value + (add ? add[b * M + i] : 0);
    }
  }
  return out;
}
