/** [B, K]: x[b] / sqrt(mean(x[b]²) + eps) · weight. x [B, K], weight [K]. */
export function rmsNorm(x: ArrayLike<number>, weight: ArrayLike<number>, eps: number): Float64Array {
  const K = weight.length;
  const out = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += K) {
    let squares = 0;
    for (let k = 0; k < K; k++) squares += x[start + k] ** 2;
    for (let k = 0; k < K; k++) out[start + k] = (x[start + k] / Math.sqrt(squares / K + eps)) * weight[k];
  }
  return out;
}
