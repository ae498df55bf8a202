import { encodeF16 } from '../dtype.js';
import { OptionError, ShapeError } from '../errors.js';
import { activationStride } from '../gpu/layout.js';

/** Row r is predicted active where expand[r] · (project · x) exceeds limits[r]. On the device `expand` and limits are f16. */
export interface LowRankPredictor {
  readonly kind: 'low_rank';
  readonly rank: number;
  /** [rank, hidden] */
  readonly project: Float32Array<ArrayBuffer>;
  /** [rows, rank] */
  readonly expand: Float32Array<ArrayBuffer>;
  /** [rows] */
  readonly limits: Float32Array<ArrayBuffer>;
}

/**
 * Row r is predicted active where the dot product of its levels and the input's exceeds limits[r]. A level of b bits is
 * 2q + 1 - 2^b, q from 0 to 2^b - 1: with one bit, the sign. Bit p of q stands for 2^p or -2^p, so that the product is
 * found by XNOR and popcount, a plane of one by a plane of the other.
 */
export interface SignPredictor {
  readonly kind: 'signs';
  /** Of a row's levels, 1 to 4. */
  readonly bits: number;
  /** Of the input's, 1 to 4. */
  readonly inputBits: number;
  /** The input's q is floor(x · scale + 2^(inputBits - 1)), within its range. */
  readonly scale: number;
  /** [rows, bits, words of 32 columns], the lowest plane and the lowest column first. */
  readonly planes: Uint32Array<ArrayBuffer>;
  /** [rows] */
  readonly limits: Float32Array<ArrayBuffer>;
}

/** What says, of a layer's normed input, which rows' gates are worth computing. */
export type RowPredictor = LowRankPredictor | SignPredictor;

/** Most bits of a level, of rows and of inputs. */
export const MOST_BITS = 4;

/** Words of 32 columns. */
export const planeWords = (columns: number): number => Math.ceil(columns / 32);

/**
 * @throws OptionError for bits out of range or a scale that is none; ShapeError when the matrices do not fit a layer of
 * `rows` rows over `columns` values.
 */
export function checkPredictor(predictor: RowPredictor, rows: number, columns: number): void {
  const wanted: Record<string, [ArrayLike<number>, number]> = { limits: [predictor.limits, rows] };
  if (predictor.kind === 'low_rank') {
    const { rank, project, expand } = predictor;
    if (!Number.isInteger(rank) || rank < 1)
      throw new OptionError(`a predictor's rank must be an integer of 1 or more; it is ${rank}.`, { rank });
    wanted.project = [project, rank * columns];
    wanted.expand = [expand, rows * rank];
  } else {
    const { bits, inputBits, scale, planes } = predictor;
    for (const [name, value] of Object.entries({ bits, inputBits })) {
      if (!Number.isInteger(value) || value < 1 || value > MOST_BITS)
        throw new OptionError(`${name} must be an integer from 1 to ${MOST_BITS}; it is ${value}.`, {
          name,
          value,
        });
    }
    if (!(scale > 0) || !Number.isFinite(scale))
      throw new OptionError(`a predictor's scale must be finite and above 0; it is ${scale}.`, { scale });
    wanted.planes = [planes, rows * bits * planeWords(columns)];
  }
  for (const [name, [values, length]] of Object.entries(wanted)) {
    if (values.length !== length) {
      throw new ShapeError(
        `a predictor's ${name} has ${values.length} values; ${rows} rows over ${columns} columns need ${length}.`,
        { name, length: values.length, needed: length },
      );
    }
  }
}

/** A predictor as `gate_up_predicted` reads it: of each row `vectors` vec4<u32>, in panels of one vector of every row. */
export interface PredictorCodes {
  readonly vectors: number;
  readonly data: Uint32Array<ArrayBuffer>;
}

/** The codes of a predictor of rows over `columns` values. */
export function predictorCodes(predictor: RowPredictor, columns: number): PredictorCodes {
  return predictor.kind === 'low_rank' ? lowRankCodes(predictor) : signCodes(predictor, columns);
}

/** Values of z = project · x with the 1 after them, padded to what the kernel reads. */
export const latentValues = (rank: number): number => Math.ceil((rank + 1) / 8) * 8;

function lowRankCodes({ rank, expand, limits }: LowRankPredictor): PredictorCodes {
  const vectors = latentValues(rank) / 8;
  const rows = limits.length;
  const values = new Float32Array(vectors * rows * 8);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k <= rank; k++) {
      const value = k === rank ? -limits[r] : expand[r * rank + k];
      values[(Math.floor(k / 8) * rows + r) * 8 + (k % 8)] = value;
    }
  }
  const halves = encodeF16(values);
  return { vectors, data: new Uint32Array(halves.buffer, halves.byteOffset, halves.length / 2) };
}

function signCodes({ bits, inputBits, planes, limits }: SignPredictor, columns: number): PredictorCodes {
  const words = bits * planeWords(columns);
  const vectors = Math.ceil((1 + words) / 4);
  const rows = limits.length;
  const data = new Uint32Array(vectors * rows * 4);
  const asFloat = new Float32Array(data.buffer);
  const most = (2 ** bits - 1) * (2 ** inputBits - 1) * columns;
  for (let r = 0; r < rows; r++) {
    // dot = most - 2 · (weighted bits that differ) > limit.
    asFloat[r * 4] = (most - limits[r]) / 2;
    for (let w = 0; w < words; w++) {
      data[(Math.floor((1 + w) / 4) * rows + r) * 4 + ((1 + w) % 4)] = planes[r * words + w];
    }
  }
  return { vectors, data };
}

/** The planes [bits, words] of levels q [columns]. */
export function packPlanes(
  q: ArrayLike<number>,
  bits: number,
  into: Uint32Array = new Uint32Array(bits * planeWords(q.length)),
  at = 0,
): Uint32Array {
  const words = planeWords(q.length);
  into.fill(0, at, at + bits * words);
  for (let c = 0; c < q.length; c++) {
    for (let p = 0; p < bits; p++) into[at + p * words + (c >>> 5)] |= ((q[c] >>> p) & 1) << (c & 31);
  }
  return into;
}

/** The q of an input's level. */
export function inputLevel(x: number, scale: number, bits: number): number {
  return Math.max(0, Math.min(2 ** bits - 1, Math.floor(x * scale + 2 ** (bits - 1))));
}

/** Scores of all rows for one normed input [columns], to be compared with their limits: as the device finds them, in f64. */
export function predictorScores(
  predictor: RowPredictor,
  x: ArrayLike<number>,
  into: Float64Array,
): Float64Array {
  if (predictor.kind === 'low_rank') {
    const { rank, project, expand } = predictor;
    const z = new Float64Array(rank);
    for (let k = 0; k < rank; k++) {
      let sum = 0;
      for (let c = 0; c < x.length; c++) sum += project[k * x.length + c] * x[c];
      z[k] = sum;
    }
    for (let r = 0; r < into.length; r++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += expand[r * rank + k] * z[k];
      into[r] = sum;
    }
    return into;
  }
  const { bits, inputBits, scale, planes } = predictor;
  const words = planeWords(x.length);
  const levels = Uint8Array.from({ length: x.length }, (_, c) => inputLevel(x[c], scale, inputBits));
  const input = packPlanes(levels, inputBits);
  const most = (2 ** bits - 1) * (2 ** inputBits - 1) * x.length;
  for (let r = 0; r < into.length; r++) {
    let differing = 0;
    for (let p = 0; p < bits; p++) {
      const row = (r * bits + p) * words;
      for (let q = 0; q < inputBits; q++) {
        let n = 0;
        for (let w = 0; w < words; w++) n += ones(planes[row + w] ^ input[q * words + w]);
        differing += n * 2 ** (p + q);
      }
    }
    into[r] = most - 2 * differing;
  }
  return into;
}

function ones(word: number): number {
  let n = word - ((word >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return Math.imul((n + (n >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** GPU bytes of a predictor of `rows` rows over `columns` values. */
export function predictorBytes(predictor: RowPredictor, columns: number): number {
  const { limits } = predictor;
  if (predictor.kind === 'signs')
    return Math.ceil((1 + predictor.bits * planeWords(columns)) / 4) * 16 * limits.length;
  return latentValues(predictor.rank) * 2 * limits.length + predictor.rank * activationStride(columns) * 4;
}
