import { type Dtype, decodeBf16, decodeF16, encodeF16 } from '../dtype.js';
import { OptionError, ShapeError } from '../errors.js';
import { ROW_ALIGN, roundUp } from './buffers.js';

/** How rows are stored on the device. */
export type StoredDtype = 'f32' | 'f16';
export const STORED_DTYPES: readonly StoredDtype[] = ['f32', 'f16'];

export const BYTES_PER_VALUE: Readonly<Record<StoredDtype, number>> = { f32: 4, f16: 2 };

/** A matrix as a caller gives it: f32 values, or the 16-bit patterns of f16 or bf16. */
export interface MatrixData {
  /** Row-major values. */
  data: Float32Array | Uint16Array;
  /** What a `Uint16Array` holds; ignored for a `Float32Array`. Default f16. */
  dtype?: Dtype;
}

/** @throws OptionError when `dtype` is not one that rows can be stored as. */
export function checkStoredDtype(dtype: string): StoredDtype {
  if ((STORED_DTYPES as readonly string[]).includes(dtype)) return dtype as StoredDtype;
  throw new OptionError(`dtype "${dtype}" cannot be stored; choose one of ${STORED_DTYPES.join(', ')}.`, {
    dtype,
  });
}

/** Bytes of a stored row of `cols` values, padded to 16. */
export function rowBytes(cols: number, dtype: StoredDtype): number {
  return roundUp(cols * BYTES_PER_VALUE[dtype], ROW_ALIGN);
}

/** The row stride of activations whose rows meet stored rows of `cols` values in a dot product: a multiple of 8. */
export function activationStride(cols: number): number {
  return roundUp(cols, 8);
}

function decode(matrix: MatrixData): Float32Array {
  if (matrix.data instanceof Float32Array) return matrix.data;
  return matrix.dtype === 'bf16' ? decodeBf16(matrix.data) : decodeF16(matrix.data);
}

function encode(matrix: MatrixData, dtype: StoredDtype): Float32Array | Uint16Array {
  const halves = matrix.data instanceof Uint16Array && (matrix.dtype ?? 'f16') === 'f16';
  if (dtype === 'f16') return halves ? matrix.data : encodeF16(decode(matrix));
  return decode(matrix);
}

/** One matrix of a stored field: where its values stand in each row. */
export interface Part extends MatrixData {
  cols: number;
  /** The data is [cols, rows] and is transposed on the way in. */
  transposed?: boolean;
}

/**
 * Rows `[begin, end)` of a field in their stored form: parts side by side, each padded to 16 bytes.
 * @throws ShapeError when a part's length is not rows · cols.
 */
export function packRows(
  parts: readonly Part[],
  rows: number,
  begin: number,
  end: number,
  dtype: StoredDtype,
): Uint8Array<ArrayBuffer> {
  const strides = parts.map((part) => rowBytes(part.cols, dtype));
  const stride = strides.reduce((a, b) => a + b, 0);
  const bytes = new Uint8Array((end - begin) * stride);
  const out = dtype === 'f32' ? new Float32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
  const size = BYTES_PER_VALUE[dtype];
  let column = 0;
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
    for (let r = begin; r < end; r++) {
      const at = ((r - begin) * stride) / size + column;
      if (transposed) for (let c = 0; c < cols; c++) out[at + c] = values[c * rows + r];
      else out.set(values.subarray((r - begin) * cols, (r - begin + 1) * cols), at);
    }
    column += strides[p] / size;
  });
  return bytes;
}
