/** One row of a sum: which row of D, and which column of a it is weighed with. */
export interface Term {
  /** null: a row of another shard, which adds nothing here. */
  row: number | null;
  column: number;
}

export interface DownInput {
  /** [N, H] */
  D: ArrayLike<number>;
  H: number;
  /** [B, columns] */
  a: ArrayLike<number>;
  columns: number;
  terms: readonly Term[];
  /** S: runs of ceil(terms / S) terms, of which the last ones may be empty. */
  splits: number;
}

/** [S, B, H]: for each run of terms the sum of a[b, column] · D[row]. */
export function down({ D, H, a, columns, terms, splits }: DownInput): Float64Array {
  const B = a.length / columns;
  const share = Math.ceil(terms.length / splits);
  const partials = new Float64Array(splits * B * H);
  terms.forEach(({ row, column }, i) => {
    if (row === null) return;
    const s = Math.floor(i / share);
    for (let b = 0; b < B; b++) {
      for (let c = 0; c < H; c++) partials[(s * B + b) * H + c] += a[b * columns + column] * D[row * H + c];
    }
  });
  return partials;
}
