import type { SymmetricEigen } from '../llama/fit-predictor.js';

/** Eigenvectors of symmetric matrices; the library is loaded when first asked for, by `calibrate` alone. */
export async function loadEigen(): Promise<SymmetricEigen> {
  const { EigenvalueDecomposition, Matrix } = await import('ml-matrix');
  return (matrix, n) => {
    const found = new EigenvalueDecomposition(Matrix.from1DArray(n, n, matrix), { assumeSymmetric: true });
    return { values: found.realEigenvalues, vectors: Float64Array.from(found.eigenvectorMatrix.to1DArray()) };
  };
}
