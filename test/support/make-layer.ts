/** Random layers for tests of `SparseMLP`. */
import { decodeBf16, decodeF16, encodeBf16, encodeF16 } from '../../src/dtype.js';
import type { SparseMLPOptions, SparseMLPWeights } from '../../src/mlp/sparse-mlp.js';
import type { Strategy } from '../../src/mlp/strategy.js';
import type { LayerWeights } from './layer-twin.js';
import { randomSource } from './make-model.js';
import { stored } from './stored.js';

/** A layer's weights and options; `strategies` and `batches` are for tests that go through many. */
export interface LayerConfig extends SparseMLPOptions {
  rows: number;
  hidden: number;
  plain?: boolean;
  biases?: readonly ('gate' | 'up' | 'down')[];
  /** Given as 16-bit patterns instead of f32. */
  given?: 'f16' | 'bf16';
  downRows?: boolean;
  /** Ways and batches to try; lavapipe takes up to a second to compile a variant, so not all are tried with all. */
  strategies?: readonly Strategy[];
  batches?: readonly number[];
}

export const randoms = (random: () => number, length: number, scale: number) =>
  Float32Array.from({ length }, () => (2 * random() - 1) * scale);

/** Random weights, as the layer takes them and as the twin does (rounded to what is stored). */
export function makeLayer(config: LayerConfig, seed = 1): { weights: SparseMLPWeights; twin: LayerWeights } {
  const { rows, hidden, plain, biases = [], given, downRows, dtype } = config;
  const random = randomSource(seed);
  const round = (values: Float32Array, columns = false): Float32Array => {
    const form = { f16: () => decodeF16(encodeF16(values)), bf16: () => decodeBf16(encodeBf16(values)) };
    const first = given ? form[given]() : values;
    return stored(first, hidden, dtype ?? 'f32', columns);
  };
  const give = (values: Float32Array) =>
    given === undefined
      ? values
      : { data: given === 'f16' ? encodeF16(values) : encodeBf16(values), dtype: given };
  const raw = {
    gate: randoms(random, rows * hidden, 2 / Math.sqrt(hidden)),
    up: randoms(random, rows * hidden, 2 / Math.sqrt(hidden)),
    down: randoms(random, rows * hidden, 1),
  };
  const bias = {
    gateBias: biases.includes('gate') ? randoms(random, rows, 1) : undefined,
    upBias: biases.includes('up') ? randoms(random, rows, 1) : undefined,
    downBias: biases.includes('down') ? randoms(random, hidden, 1) : undefined,
  };
  const turned = new Float32Array(rows * hidden);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < hidden; c++) turned[r * hidden + c] = raw.down[c * rows + r];
  return {
    weights: {
      hidden,
      gate: plain ? undefined : give(raw.gate),
      up: give(raw.up),
      down: give(downRows ? turned : raw.down),
      downRows,
      ...bias,
    },
    twin: {
      hidden,
      gate: plain ? undefined : round(raw.gate),
      up: round(raw.up),
      down: round(raw.down, true),
      ...bias,
    },
  };
}
