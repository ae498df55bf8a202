/** Weights as they come back from being stored: what twins of kernels and models are given. */
import { packRows, rowBytes, type StoredDtype, unpackPart } from '../../src/gpu/layout.js';
import { Checkpoint } from '../../src/llama/checkpoint.js';
import { otherDtype } from '../../src/llama/weights.js';

/** A [N, cols] matrix stored by its rows. */
export function stored(
  matrix: Float32Array,
  cols: number,
  dtype: StoredDtype,
  transposed = false,
): Float32Array<ArrayBuffer> {
  const rows = matrix.length / cols;
  const { buffer } = packRows([{ data: matrix, cols, transposed }], rows, 0, rows, dtype);
  const out = new Float32Array(matrix.length);
  for (let r = 0; r < rows; r++) {
    const row = unpackPart(buffer, r * rowBytes(cols, dtype), cols, dtype);
    if (!transposed) out.set(row, r * cols);
    else for (let c = 0; c < cols; c++) out[c * rows + r] = row[c];
  }
  return out;
}

/** A [cols, N] matrix stored by its columns, as the down projection is; it stays [cols, N]. */
export const storedColumns = (matrix: Float32Array, cols: number, dtype: StoredDtype) =>
  stored(matrix, cols, dtype, true);

/** A checkpoint whose matrices went through what a device stores for `dtype`. Vectors stay as they are. */
export class StoredCheckpoint extends Checkpoint {
  readonly #from: Checkpoint;
  readonly #dtype: StoredDtype;

  constructor(from: Checkpoint, dtype: StoredDtype) {
    super(`${from.name} as ${dtype}`, from.config, new Map());
    this.#from = from;
    this.#dtype = dtype;
  }

  override async readF32(name: string, shape: readonly number[]): Promise<Float32Array<ArrayBuffer>> {
    const values = await this.#from.readF32(name, shape);
    if (shape.length !== 2) return values;
    if (name.includes('down_proj')) return storedColumns(values, shape[0], this.#dtype);
    return stored(values, shape[1], name.includes('.mlp.') ? this.#dtype : otherDtype(this.#dtype));
  }
}
