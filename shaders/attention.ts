export interface AttentionInput {
  /** [B, heads, dim] */
  q: ArrayLike<number>;
  /** [positions, kvHeads, dim] */
  keys: ArrayLike<number>;
  /** [positions, kvHeads, dim] */
  values: ArrayLike<number>;
  heads: number;
  kvHeads: number;
  dim: number;
  /** The first query's; query b sees positions 0 to position + b. */
  position: number;
  scale: number;
}

/** [B, heads, dim]: softmax(scale · q · keys) · values, each group of heads / kvHeads heads sharing keys and values. */
export function attention(input: AttentionInput): Float64Array {
  const { q, keys, values, heads, kvHeads, dim, position, scale } = input;
  const out = new Float64Array(q.length);
  const B = q.length / heads / dim;
  for (let b = 0; b < B; b++) {
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor(head / (heads / kvHeads));
      const start = (b * heads + head) * dim;
      const scores: number[] = [];
      for (let p = 0; p <= position + b; p++) {
        let dot = 0;
        for (let d = 0; d < dim; d++) dot += q[start + d] * keys[(p * kvHeads + kv) * dim + d];
        scores.push(scale * dot);
      }
      const best = Math.max(...scores);
      let total = 0;
      for (const score of scores) total += Math.exp(score - best);
      scores.forEach((score, p) => {
        const weight = Math.exp(score - best) / total;
        for (let d = 0; d < dim; d++) out[start + d] += weight * values[(p * kvHeads + kv) * dim + d];
      });
    }
  }
  return out;
}
