/**
 * [B, columns]: the sum over s of partials[s, b, c], plus bias[c], plus what was there.
 * partials [S, B, stride], of which the first `columns` count; bias [columns]; add [B, columns].
 */
export function sumPartials(
  partials: ArrayLike<number>,
  bias: ArrayLike<number>,
  { splits, stride, columns }: { splits: number; stride: number; columns: number },
  add?: ArrayLike<number>,
): Float64Array {
  const B = partials.length / splits / stride;
  const out = new Float64Array(B * columns);
  for (let b = 0; b < B; b++) {
    for (let c = 0; c < columns; c++) {
      let sum = bias[c] + (add ? add[b * columns + c] : 0);
      for (let s = 0; s < splits; s++) sum += partials[(s * B + b) * stride + c];
      out[b * columns + c] = sum;
    }
  }
  return out;
}
