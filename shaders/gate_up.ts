import { type ActivationSlot, activate } from './lib/activate.js';

export interface GateUpInput {
  /** [N, K] */
  gate: ArrayLike<number>;
  /** [N, K] */
  up: ArrayLike<number>;
  /** [B, K] */
  x: ArrayLike<number>;
  K: number;
  activation: ActivationSlot;
  /** FATReLU's threshold. */
  fat?: number;
  /** Ids of the M rows taken, in order; all N without it. */
  rows?: readonly number[];
  /** [N] */
  gateBias?: ArrayLike<number>;
  /** [N] */
  upBias?: ArrayLike<number>;
  /** [B]: ids of the rows that are not set to zero; all without it. */
  keep?: readonly ReadonlySet<number>[];
}

/** [B, M]: act(gate[row] · x[b] + gateBias[row]) · (up[row] · x[b] + upBias[row]). */
export function gateUp(input: GateUpInput): Float64Array {
  const { gate, up, x, K, activation, fat, gateBias, upBias, keep } = input;
  const B = x.length / K;
  const rows = input.rows ?? Array.from({ length: gate.length / K }, (_, i) => i);
  const M = rows.length;
  const out = new Float64Array(B * M);
  for (let b = 0; b < B; b++) {
    for (let i = 0; i < M; i++) {
      const row = rows[i];
      let g = gateBias ? gateBias[row] : 0;
      let u = upBias ? upBias[row] : 0;
      for (let k = 0; k < K; k++) {
        g += gate[row * K + k] * x[b * K + k];
        u += up[row * K + k] * x[b * K + k];
      }
      out[b * M + i] = keep && !keep[b].has(row) ? 0 : activate(activation, g, fat) * u;
    }
  }
  return out;
}
