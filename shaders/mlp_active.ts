import { gateUpActive, type GateUpActiveInput } from './gate_up_active.js';

export interface MlpActiveInput extends Omit<GateUpActiveInput, 'segment' | 'all' | 'gateBias' | 'upBias'> {
  /** [N, K]: a row of D for each row of G and U. */
  down: ArrayLike<number>;
  /** [K] */
  downBias: ArrayLike<number>;
  /** [K]: what the sums are added to. */
  residual: ArrayLike<number>;
  /** Runs of rows, each ceil(N / runs) long. */
  runs: number;
}

/** The residual stream after a gated layer, of whose rows the active ones count: its value [K], and how many rows of each run were active. */
export function mlpActive(input: MlpActiveInput): { stream: Float64Array; counts: number[] } {
  const { down, downBias, residual, runs, K } = input;
  const segment = Math.ceil(down.length / K / runs);
  const segments = gateUpActive({ ...input, segment });
  const stream = Float64Array.from(residual, (value, k) => value + downBias[k]);
  for (const { ids, values } of segments) {
    ids.forEach((id, i) => {
      for (let k = 0; k < K; k++) stream[k] += values[i] * down[id * K + k];
    });
  }
  const counts = Array.from({ length: runs }, (_, run) => segments[run]?.ids.length ?? 0);
  return { stream, counts };
}
