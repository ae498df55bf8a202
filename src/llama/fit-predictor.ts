import { OptionError } from '../errors.js';
import { inputLevel, MOST_BITS, packPlanes, planeWords, predictorScores } from '../mlp/predictor.js';
import type { LayerSample, PredictorFit } from './calibrate-predictor.js';

/** Tokens that a regression of a row on its scores looks at. */
const REGRESSED = 1024;

/**
 * Signs (and with more bits levels) of a gate's rows and of the input. Steps are those with the least square error, of
 * each row and of the inputs; gains and offsets a regression of each row's gate on its score.
 *
 * @param gate [rows, columns]
 * @throws OptionError for bits outside 1 to 4.
 */
export function fitSigns(
  gate: Float32Array,
  sample: LayerSample,
  { bits, inputBits }: { bits: number; inputBits: number },
): PredictorFit {
  for (const [name, value] of Object.entries({ bits, 'input bits': inputBits })) {
    if (!Number.isInteger(value) || value < 1 || value > MOST_BITS)
      throw new OptionError(`${name} must be an integer from 1 to ${MOST_BITS}; it is ${value}.`, {
        name,
        value,
      });
  }
  const { columns, inputs, tokens } = sample;
  const rows = gate.length / columns;
  const size = bits * planeWords(columns);
  const planes = new Uint32Array(rows * size);
  const q = new Uint8Array(columns);
  for (let r = 0; r < rows; r++) {
    const row = gate.subarray(r * columns, (r + 1) * columns);
    const scale = bestScale(row, bits, 1);
    for (let c = 0; c < columns; c++) q[c] = inputLevel(row[c], scale, bits);
    packPlanes(q, bits, planes, r * size);
  }
  const scale = bestScale(inputs, inputBits, Math.max(1, Math.floor((tokens * columns) / 2 ** 14)));
  const predictor = {
    kind: 'signs',
    bits,
    inputBits,
    scale,
    planes,
    limits: new Float32Array(rows),
  } as const;
  return { predictor, ...regress(predictor, gate, sample) };
}

/** The scale (`inputLevel`) at which levels over twice of it are nearest to the values: of every `each`-th one. */
function bestScale(values: Float32Array, bits: number, each: number): number {
  let squares = 0;
  let count = 0;
  for (let i = 0; i < values.length; i += each, count++) squares += values[i] ** 2;
  const rms = Math.sqrt(squares / count) || 1;
  let best = { error: Number.POSITIVE_INFINITY, scale: 1 / rms };
  for (let i = 0; i < 24; i++) {
    // The largest level stands for 0.6 to 3.7 times the root mean square; of one bit it says nothing.
    const largest = 0.6 * 1.082 ** i * rms;
    const scale = (2 ** bits - 1) / (2 * largest);
    let error = 0;
    for (let v = 0; v < values.length; v += each) {
      const level = 2 * inputLevel(values[v], scale, bits) + 1 - 2 ** bits;
      error += (level / (2 * scale) - values[v]) ** 2;
    }
    if (error < best.error) best = { error, scale };
  }
  return best.scale;
}

function regress(
  predictor: PredictorFit['predictor'],
  gate: Float32Array,
  { columns, inputs, tokens }: LayerSample,
): Pick<PredictorFit, 'gain' | 'offset'> {
  const rows = gate.length / columns;
  const [sums, squares, products, gates, scores] = Array.from({ length: 5 }, () => new Float64Array(rows));
  const each = Math.max(1, Math.floor(tokens / REGRESSED));
  let count = 0;
  for (let t = 0; t < tokens; t += each, count++) {
    const x = inputs.subarray(t * columns, (t + 1) * columns);
    predictorScores(predictor, x, scores);
    for (let r = 0; r < rows; r++) {
      let g = 0;
      for (let c = 0; c < columns; c++) g += gate[r * columns + c] * x[c];
      sums[r] += scores[r];
      squares[r] += scores[r] ** 2;
      products[r] += scores[r] * g;
      gates[r] += g;
    }
  }
  const gain = new Float64Array(rows);
  const offset = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    const spread = squares[r] - sums[r] ** 2 / count;
    const slope = spread > 0 ? (products[r] - (sums[r] * gates[r]) / count) / spread : 0;
    // A row whose score says nothing of it is predicted by its mean alone.
    gain[r] = Math.max(slope, 1e-9);
    offset[r] = (gates[r] - gain[r] * sums[r]) / count;
  }
  return { gain, offset };
}

/** Eigenvalues, ascending or not, and the vectors that go with them, in columns: of a symmetric [n, n] matrix. */
export type SymmetricEigen = (
  matrix: Float64Array,
  n: number,
) => { values: ArrayLike<number>; vectors: Float64Array };

/**
 * The product of rank r that is nearest to the gate: in the mean square of the gates on the sample (`weighted`), which is
 * the truncated SVD of gate · C^½ with C the covariance of the inputs, or in that of its elements, which is the gate's.
 *
 * @param gate [rows, columns]
 * @throws OptionError when rank is not an integer from 1 to the columns.
 */
export function fitLowRank(
  gate: Float32Array,
  sample: LayerSample,
  { rank, weighted = true, eigen }: { rank: number; weighted?: boolean; eigen: SymmetricEigen },
): PredictorFit {
  const { columns: n } = sample;
  if (!Number.isInteger(rank) || rank < 1 || rank > n)
    throw new OptionError(`rank must be an integer from 1 to ${n}; it is ${rank}.`, { rank, columns: n });
  const rows = gate.length / n;
  const { mean, root, inverse } = weighted ? rootsOf(sample, eigen) : { ...plain(sample) };
  // The right singular vectors of M = gate · root are the eigenvectors of its Gram matrix.
  const M = product(gate, root, rows, n, n);
  const { values, vectors } = eigen(gram(M, rows, n), n);
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => values[b] - values[a]);
  const expand = new Float32Array(rows * rank);
  const project = new Float32Array(rank * n);
  for (let k = 0; k < rank; k++) {
    const column = order[k];
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let c = 0; c < n; c++) sum += M[r * n + c] * vectors[c * n + column];
      expand[r * rank + k] = sum;
    }
    for (let c = 0; c < n; c++) {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += vectors[i * n + column] * inverse[i * n + c];
      project[k * n + c] = sum;
    }
  }
  const offset = new Float64Array(rows);
  const predictor = { kind: 'low_rank', rank, project, expand, limits: new Float32Array(rows) } as const;
  const scores = predictorScores(predictor, mean, new Float64Array(rows));
  for (let r = 0; r < rows; r++) {
    let sum = 0;
    for (let c = 0; c < n; c++) sum += gate[r * n + c] * mean[c];
    offset[r] = sum - scores[r];
  }
  return { predictor, gain: new Float64Array(rows).fill(1), offset };
}

function plain({ columns: n }: LayerSample) {
  const root = new Float64Array(n * n);
  for (let i = 0; i < n; i++) root[i * n + i] = 1;
  return { mean: new Float64Array(n), root, inverse: root };
}

/** The inputs' mean, and the square root of their covariance with its inverse: [n, n], symmetric. */
function rootsOf({ columns: n, inputs, tokens }: LayerSample, eigen: SymmetricEigen) {
  const mean = new Float64Array(n);
  for (let t = 0; t < tokens; t++) for (let c = 0; c < n; c++) mean[c] += inputs[t * n + c] / tokens;
  const centred = new Float64Array(tokens * n);
  for (let t = 0; t < tokens; t++)
    for (let c = 0; c < n; c++) centred[t * n + c] = inputs[t * n + c] - mean[c];
  const C = gram(centred, tokens, n);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += C[i * n + i];
  // Directions that the text never went are not free: a millionth of the mean variance each.
  const least = (1e-6 * trace) / n || 1;
  const { values, vectors } = eigen(C, n);
  const sizes = Array.from({ length: n }, (_, i) => Math.sqrt(Math.max(values[i], 0) + least));
  const of = (size: (i: number) => number): Float64Array => {
    const scaled = new Float64Array(n * n);
    const turned = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < n; k++) {
        scaled[i * n + k] = vectors[i * n + k] * size(k);
        turned[k * n + i] = vectors[i * n + k];
      }
    }
    return product(scaled, turned, n, n, n);
  };
  return { mean, root: of((k) => sizes[k]), inverse: of((k) => 1 / sizes[k]) };
}

/** A [a, b] · B [b, c]. */
function product(A: ArrayLike<number>, B: ArrayLike<number>, a: number, b: number, c: number): Float64Array {
  const out = new Float64Array(a * c);
  for (let i = 0; i < a; i++) {
    for (let k = 0; k < b; k++) {
      const f = A[i * b + k];
      for (let j = 0; j < c; j++) out[i * c + j] += f * B[k * c + j];
    }
  }
  return out;
}

/** Aᵀ A of A [rows, n]. */
function gram(A: ArrayLike<number>, rows: number, n: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < n; i++) {
      const f = A[r * n + i];
      for (let j = i; j < n; j++) out[i * n + j] += f * A[r * n + j];
    }
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) out[i * n + j] = out[j * n + i];
  return out;
}
