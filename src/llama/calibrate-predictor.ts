import { OptionError, ShapeError } from '../errors.js';
import type { RowPredictor } from '../mlp/predictor.js';
import { predictorScores } from '../mlp/predictor.js';
import type { LlamaSession } from './session.js';

/** A layer's inputs on a text, and the rows that were active there. */
export interface LayerSample {
  readonly tokens: number;
  readonly columns: number;
  /** [tokens, columns] */
  readonly inputs: Float32Array;
  /** Active rows of token t: from `starts[t]` to `starts[t + 1]`, with their |act(gate)|. */
  readonly starts: Uint32Array;
  readonly rows: Uint32Array;
  readonly sizes: Float32Array;
}

export interface SampleOptions {
  /** Tokens to look at, at most. Default 4096. */
  tokens?: number;
  /** Tokens per window, each from an empty cache; at most the session's prefill chunk. Default 64. */
  window?: number;
  onProgress?: (done: number, total: number) => void;
}

/**
 * Runs a text, every row computed, and keeps each layer's inputs and active rows: 4 bytes for each value of an input and
 * 8 for each active row, in host memory.
 * @throws ShapeError for an empty text.
 */
export async function sampleGates(
  session: LlamaSession,
  ids: ArrayLike<number>,
  { tokens = 4096, window = 64, onProgress }: SampleOptions = {},
): Promise<LayerSample[]> {
  const total = Math.min(ids.length, tokens);
  if (total < 1) throw new ShapeError('the calibration text has no tokens.');
  const { hiddenSize: columns, intermediateSize: n, layers } = session.weights.config;
  const found = Array.from({ length: layers }, () => ({
    inputs: new Float32Array(total * columns),
    starts: new Uint32Array(total + 1),
    rows: [] as Uint32Array[],
    sizes: [] as Float32Array[],
  }));
  for (let first = 0; first < total; first += window) {
    const batch = Math.min(window, total - first);
    session.reset();
    const part: number[] = Array.prototype.slice.call(ids, first, first + batch);
    await session.visitGates(part, (l, { gates, gateStride, inputs, inputStride }) => {
      const layer = found[l];
      for (let b = 0; b < batch; b++) {
        layer.inputs.set(inputs.subarray(b * inputStride, b * inputStride + columns), (first + b) * columns);
        const values = gates.subarray(b * gateStride, b * gateStride + n);
        const rows = Uint32Array.from(values.keys()).filter((r) => values[r] !== 0);
        layer.rows.push(rows);
        layer.sizes.push(Float32Array.from(rows, (r) => Math.abs(values[r])));
        layer.starts[first + b + 1] = layer.starts[first + b] + rows.length;
      }
    });
    onProgress?.(first + batch, total);
  }
  return found.map(({ inputs, starts, rows, sizes }) => {
    const kept = { rows: new Uint32Array(starts[total]), sizes: new Float32Array(starts[total]) };
    for (let t = 0; t < total; t++) {
      kept.rows.set(rows[t], starts[t]);
      kept.sizes.set(sizes[t], starts[t]);
    }
    return { tokens: total, columns, inputs, starts, ...kept };
  });
}

/** A predictor without its limits: row r's gate is about gain[r] · score + offset[r]. Gains are above 0. */
export interface PredictorFit {
  readonly predictor: RowPredictor;
  readonly gain: Float64Array;
  readonly offset: Float64Array;
}

/** The predictor that predicts rows whose gate seems to exceed `t`. */
export function withLimit({ predictor, gain, offset }: PredictorFit, t: number): RowPredictor {
  return { ...predictor, limits: Float32Array.from(gain, (k, r) => (t - offset[r]) / k) };
}

/** What a sample's active rows seemed to be, ascending, and the sum of their true sizes up to each. */
export interface RankedActive {
  readonly seeming: Float64Array;
  readonly mass: Float64Array;
}

/** Ranks the sample's active rows by what the fit makes of them. Of every `each`-th token. */
export function rankActive(fit: PredictorFit, sample: LayerSample, each = 1): RankedActive {
  const { tokens, columns, inputs, starts, rows, sizes } = sample;
  const found: { seems: number; size: number }[] = [];
  const scores = new Float64Array(fit.gain.length);
  for (let t = 0; t < tokens; t += each) {
    predictorScores(fit.predictor, inputs.subarray(t * columns, (t + 1) * columns), scores);
    for (let i = starts[t]; i < starts[t + 1]; i++) {
      const r = rows[i];
      found.push({ seems: fit.gain[r] * scores[r] + fit.offset[r], size: sizes[i] });
    }
  }
  found.sort((a, b) => a.seems - b.seems);
  const mass = new Float64Array(found.length);
  let sum = 0;
  found.forEach(({ size }, i) => {
    sum += size;
    mass[i] = sum;
  });
  return { seeming: Float64Array.from(found, ({ seems }) => seems), mass };
}

/**
 * The highest limit at which what is predicted makes up at least the share `recall` of all |act(gate)|.
 * @throws OptionError unless recall is above 0 and at most 1.
 */
export function limitFor({ seeming, mass }: RankedActive, recall: number): number {
  if (!(recall > 0 && recall <= 1))
    throw new OptionError(`recall must be above 0 and at most 1; it is ${recall}.`, { recall });
  const n = seeming.length;
  if (n === 0) return 0;
  const missable = (1 - recall) * mass[n - 1];
  let low = 0;
  let high = n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (mass[middle] <= missable) low = middle + 1;
    else high = middle;
  }
  // What is at the limit is missed; a little below the first that must not be, or nothing is.
  if (low === 0) return seeming[0] - 1e-3 * (Math.abs(seeming[0]) + 1);
  return seeming[low - 1];
}

/** How good a layer's predictor is on a sample. */
export interface PredictorQuality {
  /** Share of the active rows that were predicted. */
  recall: number;
  /** Share of |act(gate)| that those make up. */
  massRecall: number;
  /** Share of the predicted rows that were active. */
  precision: number;
  /** Share of all rows that were predicted, and that were active. */
  density: number;
  active: number;
}

/** Judges a predictor on every `each`-th token of a sample. */
export function judgePredictor(predictor: RowPredictor, sample: LayerSample, each = 1): PredictorQuality {
  const { tokens, columns, inputs, starts, rows, sizes } = sample;
  const { limits } = predictor;
  const scores = new Float64Array(limits.length);
  const sum = { rows: 0, predicted: 0, active: 0, hits: 0, mass: 0, hitMass: 0 };
  for (let t = 0; t < tokens; t += each) {
    predictorScores(predictor, inputs.subarray(t * columns, (t + 1) * columns), scores);
    sum.rows += limits.length;
    for (let r = 0; r < limits.length; r++) if (scores[r] > limits[r]) sum.predicted++;
    for (let i = starts[t]; i < starts[t + 1]; i++) {
      const hit = scores[rows[i]] > limits[rows[i]];
      sum.active++;
      sum.mass += sizes[i];
      if (hit) sum.hits++;
      if (hit) sum.hitMass += sizes[i];
    }
  }
  const share = (a: number, b: number) => (b === 0 ? 1 : a / b);
  return {
    recall: share(sum.hits, sum.active),
    massRecall: share(sum.hitMass, sum.mass),
    precision: share(sum.hits, sum.predicted),
    density: sum.predicted / sum.rows,
    active: sum.active / sum.rows,
  };
}
