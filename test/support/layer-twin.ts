/** The CPU twin of a sparse MLP: plain loops in float64, one row after another. Too simple to be wrong. */
import type { Activation } from '../../src/mlp/activation.js';
import { erf } from './llama-twin.js';

export interface LayerWeights {
  hidden: number;
  /** [N, hidden]; without it the layer is plain. */
  gate?: Float32Array;
  /** [N, hidden] */
  up: Float32Array;
  /** [hidden, N] */
  down: Float32Array;
  gateBias?: Float32Array;
  upBias?: Float32Array;
  downBias?: Float32Array;
}

export function activate(activation: Activation, x: number): number {
  if (typeof activation === 'object') return x > activation.fatrelu ? x : 0;
  switch (activation) {
    case 'silu':
      return x / (1 + Math.exp(-x));
    case 'gelu':
      return 0.5 * x * (1 + erf(x / Math.SQRT2));
    case 'gelu_tanh':
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    case 'relu':
      return Math.max(0, x);
    case 'relu2':
      return Math.max(0, x) ** 2;
    case 'identity':
      return x;
  }
}

export interface LayerOutput {
  /** [batch, hidden] */
  y: Float64Array;
  /** [batch, hidden]: the sum of the sizes of what y sums up, by which rounding is to be judged. */
  size: Float64Array;
}

/** y = down · (act(gate · x) · (up · x)), or down · act(up · x), over `rows`; x is [batch, hidden]. */
export function layerTwin(
  weights: LayerWeights,
  activation: Activation,
  x: Float32Array,
  rows: Iterable<number>,
): LayerOutput {
  const { hidden, gate, up, down, gateBias, upBias, downBias } = weights;
  const n = up.length / hidden;
  const batch = x.length / hidden;
  const y = new Float64Array(x.length);
  const size = new Float64Array(x.length);
  const ids = [...rows];
  for (let b = 0; b < batch; b++) {
    const dot = (matrix: Float32Array, row: number): number => {
      let sum = 0;
      for (let c = 0; c < hidden; c++) sum += matrix[row * hidden + c] * x[b * hidden + c];
      return sum;
    };
    for (let c = 0; c < hidden; c++) {
      y[b * hidden + c] = downBias?.[c] ?? 0;
      size[b * hidden + c] = Math.abs(downBias?.[c] ?? 0);
    }
    for (const row of ids) {
      const u = dot(up, row) + (upBias?.[row] ?? 0);
      const a = gate
        ? activate(activation, dot(gate, row) + (gateBias?.[row] ?? 0)) * u
        : activate(activation, u);
      for (let c = 0; c < hidden; c++) {
        y[b * hidden + c] += a * down[c * n + row];
        size[b * hidden + c] += Math.abs(a * down[c * n + row]);
      }
    }
  }
  return { y, size };
}

/** Throws unless `got` is the twin's output up to f32 rounding; `where` names the case. */
export function checkOutput(got: Float32Array, { y, size }: LayerOutput, where: string): void {
  if (got.length !== y.length) throw new Error(`${where}: ${got.length} values, the twin has ${y.length}`);
  for (let i = 0; i < y.length; i++) {
    const allowed = 1e-5 * (size[i] + 0.1);
    // Written so that NaN fails.
    if (!(Math.abs(got[i] - y[i]) <= allowed)) {
      throw new Error(
        `${where}: value ${i} of ${y.length} is ${got[i]}, the twin has ${y[i]} (± ${allowed})`,
      );
    }
  }
}
