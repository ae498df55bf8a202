import { type Dtype, decodeBf16, decodeF16, encodeBf16, encodeF16 } from '../dtype.js';
import { NonFiniteError, OptionError, ShapeError } from '../errors.js';
import {
  dequantizeQ4,
  dequantizeQ8,
  Q4_GROUP,
  type QuantizationMeter,
  quantizeQ4,
  quantizeQ8,
} from '../quantize.js';
import { ROW_ALIGN } from './buffers.js';
import { STORED_DTYPES, type StoredDtype } from './stored-dtype.js';

export { STORED_DTYPES, type StoredDtype };

/** Values in a vector of 16 bytes. */
const VECTOR_VALUES: Readonly<Record<StoredDtype, number>> = {
  f32: 4,
  f16: 8,
  bf16: 8,
  q8: 16,
  q4: Q4_GROUP,
};
/** Scales of q4 groups in a vector of 16 bytes. */
const VECTOR_SCALES = 8;

/** A matrix as a caller gives it: f32 values, or the 16-bit patterns of f16 or bf16. */
export interface MatrixData {
  /** Row-major values. */
  data: Float32Array | Uint16Array;
  /** What a `Uint16Array` holds; ignored for a `Float32Array`. Default f16. */
  dtype?: Dtype;
  /** What errors and reports call the matrix. Default: the field's name. */
  name?: string;
}

/** @throws OptionError when `dtype` is not one that rows can be stored as. */
export function checkStoredDtype(dtype: string): StoredDtype {
  if ((STORED_DTYPES as readonly string[]).includes(dtype)) return dtype as StoredDtype;
  throw new OptionError(`dtype "${dtype}" cannot be stored; choose one of ${STORED_DTYPES.join(', ')}.`, {
    dtype,
  });
}

/** Whether the values are integers with scales, so that storing them loses precision and columns have no stride. */
export function isQuantized(dtype: StoredDtype): dtype is 'q8' | 'q4' {
  return dtype === 'q8' || dtype === 'q4';
}

/** Vectors of 16 bytes that hold the values of one part of `cols` columns. */
export function valueVectors(cols: number, dtype: StoredDtype): number {
  return Math.ceil(cols / VECTOR_VALUES[dtype]);
}

/** Vectors of one stored part of `cols` columns: values, then scales. */
export function partVectors(cols: number, dtype: StoredDtype): number {
  const values = valueVectors(cols, dtype);
  if (dtype === 'q8') return values + 1;
  return dtype === 'q4' ? values + Math.ceil(values / VECTOR_SCALES) : values;
}

/** Bytes of a stored row of one part of `cols` columns. */
export function rowBytes(cols: number, dtype: StoredDtype): number {
  return ROW_ALIGN * partVectors(cols, dtype);
}

/** Bytes of one value of a dtype without scales. */
export function valueBytes(dtype: Exclude<StoredDtype, 'q8' | 'q4'>): number {
  return ROW_ALIGN / VECTOR_VALUES[dtype];
}

/**
 * The row stride of activations whose rows meet stored rows of `cols` values in a dot product: a multiple of 32, the
 * most values that any dtype has in a vector.
 */
export function activationStride(cols: number): number {
  return VECTOR_VALUES.q4 * valueVectors(cols, 'q4');
}

function decode(matrix: MatrixData): Float32Array {
  if (matrix.data instanceof Float32Array) return matrix.data;
  return matrix.dtype === 'bf16' ? decodeBf16(matrix.data) : decodeF16(matrix.data);
}

/** Values as they are stored, or f32 where a row is to be quantised. Nothing is converted that need not be. */
function encode(matrix: MatrixData, dtype: StoredDtype): Float32Array | Uint16Array {
  const given = matrix.data instanceof Float32Array ? 'f32' : (matrix.dtype ?? 'f16');
  if (given === dtype) return matrix.data;
  if (dtype === 'f16') return encodeF16(decode(matrix));
  if (dtype === 'bf16') return encodeBf16(decode(matrix));
  return decode(matrix);
}

/** One matrix of a stored field: where its values stand in each row. */
export interface Part extends MatrixData {
  cols: number;
  /** The data is [cols, rows] and is transposed on the way in. */
  transposed?: boolean;
}

/**
 * Rows `[begin, end)` of a field in their stored form: parts side by side, each in whole vectors.
 * @param meters One a part; they take the error of q8 and q4.
 * @throws ShapeError when a part's length is not rows · cols; NonFiniteError for values that q8 or q4 cannot hold.
 */
export function packRows(
  parts: readonly Part[],
  rows: number,
  begin: number,
  end: number,
  dtype: StoredDtype,
  meters: readonly QuantizationMeter[] = [],
): Uint8Array<ArrayBuffer> {
  const strides = parts.map((part) => rowBytes(part.cols, dtype));
  const stride = strides.reduce((a, b) => a + b, 0);
  const bytes = new Uint8Array((end - begin) * stride);
  let start = 0;
  parts.forEach((part, p) => {
    const { cols, transposed } = part;
    if (part.data.length !== rows * cols) {
      throw new ShapeError(
        `a matrix of ${rows} rows and ${cols} columns needs ${rows * cols} values; ${part.data.length} were given.`,
        { rows, cols, length: part.data.length },
      );
    }
    const slice = transposed ? part : { ...part, data: part.data.subarray(begin * cols, end * cols) };
    const values = encode(slice, dtype);
    const turned = values instanceof Float32Array ? new Float32Array(cols) : new Uint16Array(cols);
    for (let r = begin; r < end; r++) {
      let row: Float32Array | Uint16Array = turned;
      if (transposed) for (let c = 0; c < cols; c++) turned[c] = values[c * rows + r];
      else row = values.subarray((r - begin) * cols, (r - begin + 1) * cols);
      const at = (r - begin) * stride + start;
      if (isQuantized(dtype)) packQuantized(row as Float32Array, bytes.buffer, at, dtype, part, r, meters[p]);
      else if (row instanceof Float32Array) new Float32Array(bytes.buffer, at, cols).set(row);
      else new Uint16Array(bytes.buffer, at, cols).set(row);
    }
    start += strides[p];
  });
  return bytes;
}

/** Where a q8 part that starts at byte `at` has its values and its scale. */
function viewQ8(buffer: ArrayBuffer, at: number, cols: number) {
  const size = ROW_ALIGN * valueVectors(cols, 'q8');
  return { values: new Int8Array(buffer, at, size), scale: new Float32Array(buffer, at + size, 1) };
}

/** Where a q4 part that starts at byte `at` has its values and its scales. */
function viewQ4(buffer: ArrayBuffer, at: number, cols: number) {
  const groups = valueVectors(cols, 'q4');
  const size = ROW_ALIGN * groups;
  return { nibbles: new Uint8Array(buffer, at, size), scales: new Uint16Array(buffer, at + size, groups) };
}

function packQuantized(
  row: Float32Array,
  buffer: ArrayBuffer,
  at: number,
  dtype: 'q8' | 'q4',
  { name = 'a matrix' }: Part,
  index: number,
  meter?: QuantizationMeter,
): void {
  const refuse = (what: string, column: number) =>
    new NonFiniteError(`${name} cannot be stored as ${dtype}: row ${index}, column ${column} ${what}.`, {
      name,
      dtype,
      row: index,
      column,
    });
  for (let c = 0; c < row.length; c++) if (!Number.isFinite(row[c])) throw refuse(`is ${row[c]}`, c);
  const { length } = row;
  if (dtype === 'q8') {
    const { values, scale } = viewQ8(buffer, at, length);
    scale[0] = quantizeQ8(row, values);
  } else {
    const { nibbles, scales } = viewQ4(buffer, at, length);
    if (!quantizeQ4(row, nibbles, scales)) {
      const largest = row.reduce((best, value, i) => (Math.abs(value) > Math.abs(row[best]) ? i : best), 0);
      throw refuse(`is ${row[largest]}, more than f16 scales reach`, largest);
    }
  }
  meter?.add(row, unpackPart(buffer, at, length, dtype));
}

/** The f32 values of one stored part of `cols` columns that starts at byte `at`: what kernels widen it to. */
export function unpackPart(
  buffer: ArrayBuffer,
  at: number,
  cols: number,
  dtype: StoredDtype,
): Float32Array<ArrayBuffer> {
  if (dtype === 'f32') return new Float32Array(buffer, at, cols).slice();
  if (dtype === 'f16') return decodeF16(new Uint16Array(buffer, at, cols));
  if (dtype === 'bf16') return decodeBf16(new Uint16Array(buffer, at, cols));
  const out = new Float32Array(cols);
  if (dtype === 'q8') {
    const { values, scale } = viewQ8(buffer, at, cols);
    return dequantizeQ8(values, scale[0], out);
  }
  const { nibbles, scales } = viewQ4(buffer, at, cols);
  return dequantizeQ4(nibbles, scales, out);
}
