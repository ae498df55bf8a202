import { ModelFormatError, OptionError, ShapeError } from '../errors.js';
import { isObject } from '../io/byte-source.js';
import type { LlamaSession } from './session.js';

/** The file that `calibrate` writes beside a model. */
export const THRESHOLDS_FILE = 'pairslab-thresholds.json';

/** Values kept per layer: a quantile of a million is exact to about 0.1 %. */
const KEPT = 1 << 20;

export interface Calibration {
  /** The share of |act(gate)| at or below the threshold that was asked for. */
  sparsity: number;
  /** Per layer. */
  thresholds: number[];
  /** The share that the thresholds leave out on the calibration text, per layer; above `sparsity` where zeros are many. */
  leftOut: number[];
  /** Tokens looked at. */
  tokens: number;
}

export interface CalibrateOptions {
  sparsity: number;
  /** Tokens to look at, at most. Default 2048. */
  tokens?: number;
  /** Tokens per window, each from an empty cache; at most the session's prefill chunk. Default 64. */
  window?: number;
  onProgress?: (done: number, total: number) => void;
}

/**
 * Finds, per layer, the threshold on |act(gate)| that leaves out the share `sparsity` of rows on a text.
 * @throws OptionError when sparsity is not in [0, 1); ShapeError for an empty text.
 */
export async function calibrate(
  session: LlamaSession,
  ids: ArrayLike<number>,
  options: CalibrateOptions,
): Promise<Calibration> {
  const { sparsity, window = 64 } = options;
  if (!(sparsity >= 0 && sparsity < 1)) {
    throw new OptionError(`sparsity must be from 0 to below 1; it is ${sparsity}.`, { sparsity });
  }
  const total = Math.min(ids.length, options.tokens ?? 2048);
  if (total < 1) throw new ShapeError('the calibration text has no tokens.');
  const { intermediateSize: n, layers } = session.weights.config;
  // Every stride-th value, so that what is kept covers the whole text.
  const stride = Math.max(1, Math.ceil((total * n) / KEPT));
  const kept = Array.from({ length: layers }, () => new Float32Array(Math.ceil((total * n) / stride) + 1));
  const counts = new Array<number>(layers).fill(0);
  const seen = new Array<number>(layers).fill(0);
  for (let first = 0; first < total; first += window) {
    const batch = Math.min(window, total - first);
    session.reset();
    await session.visitGates(
      Array.prototype.slice.call(ids, first, first + batch),
      (l, { gates, gateStride }) => {
        for (let b = 0; b < batch; b++) {
          for (let r = 0; r < n; r++) {
            if (seen[l]++ % stride === 0) kept[l][counts[l]++] = Math.abs(gates[b * gateStride + r]);
          }
        }
      },
    );
    options.onProgress?.(first + batch, total);
  }
  const thresholds: number[] = [];
  const leftOut: number[] = [];
  kept.forEach((values, l) => {
    const sorted = values.subarray(0, counts[l]).sort();
    const t = sparsity === 0 ? 0 : sorted[Math.max(0, Math.ceil(sparsity * sorted.length) - 1)];
    thresholds.push(t);
    leftOut.push(upperBound(sorted, t) / sorted.length);
  });
  return { sparsity, thresholds, leftOut, tokens: total };
}

/** How many of the ascending `values` are at or below `limit`. */
function upperBound(values: Float32Array, limit: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Reads what `calibrate` wrote. @throws ModelFormatError when it is not that. */
export function parseThresholds(json: unknown): readonly number[] {
  const thresholds = isObject(json) ? json.thresholds : undefined;
  if (
    Array.isArray(thresholds) &&
    thresholds.every((t) => typeof t === 'number' && Number.isFinite(t) && t >= 0)
  ) {
    return thresholds;
  }
  throw new ModelFormatError(
    `${THRESHOLDS_FILE} has no list of finite thresholds; run \`pairslab calibrate\` again.`,
  );
}
