/**
 * slab[i] = pool[ids[i]] for the first `capacity` ids, in place.
 * slab [capacity, rowWords], pool [N, rowWords], ids [count].
 */
export function indexSelect(
  slab: Uint32Array,
  pool: Uint32Array,
  rowWords: number,
  ids: Uint32Array,
  capacity: number,
): void {
  for (let i = 0; i < ids.length && i < capacity; i++) {
    for (let w = 0; w < rowWords; w++) slab[i * rowWords + w] = pool[ids[i] * rowWords + w];
  }
}
