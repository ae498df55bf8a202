/** [B, K]: the row of E for each token. E [N, K], tokens [B]. */
export function embed(E: ArrayLike<number>, K: number, tokens: ArrayLike<number>): Float64Array {
  const x = new Float64Array(tokens.length * K);
  for (let b = 0; b < tokens.length; b++) {
    for (let k = 0; k < K; k++) x[b * K + k] = E[tokens[b] * K + k];
  }
  return x;
}
