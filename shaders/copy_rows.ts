/** Bit 31 of a move's source: it is a slot of the slab, not a row of the pool. */
const FROM_SLAB = 0x80000000;

/**
 * The moves as they are for rows that were staged in their order, from row `first` on: what they read is that row.
 * The list of row ids still follows from the moves themselves.
 */
export function stagedMoves(moves: Uint32Array, first: number): Uint32Array {
  return moves.map((word, i) => (i % 2 === 0 || word >= FROM_SLAB ? word : first + (i - 1) / 2));
}

/**
 * slab[to] = its source row, for every move, in place.
 * slab [C, rowWords], pool [N, rowWords], moves [moves, 2] as (to, from). The kernel's list of row ids follows by the
 * same function, taken for a field of one word a row: slab = slot -> id, pool = 0, 1, 2, ...
 */
export function copyRows(slab: Uint32Array, pool: Uint32Array, rowWords: number, moves: Uint32Array): void {
  const before = slab.slice();
  for (let n = 0; n < moves.length; n += 2) {
    const to = moves[n];
    const from = moves[n + 1];
    for (let w = 0; w < rowWords; w++) {
      slab[to * rowWords + w] =
        from >= FROM_SLAB ? before[(from - FROM_SLAB) * rowWords + w] : pool[from * rowWords + w];
    }
  }
}
