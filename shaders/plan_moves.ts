/** Bit 31 of a move's source: it is a slot of the slab, not a row of the pool. */
const FROM_SLAB = 0x80000000;

/** What the kernel leaves for one step. `moves` [moves, 2] as (to, source). */
export interface PlannedMoves {
  moves: Uint32Array;
  active: number;
  added: number;
  removed: number;
}

/**
 * The tight plan from the rows in each slot, `held` [m], to the rows `wanted`, ascending ids. Null where they are more
 * than `capacity`: nothing moves then.
 */
export function planMoves(
  held: ArrayLike<number>,
  wanted: readonly number[],
  capacity: number,
): PlannedMoves | null {
  const active = wanted.length;
  if (active > capacity) return null;
  const rows = Array.from(held);
  const stays = (slot: number) => slot < rows.length && wanted.includes(rows[slot]);
  const added = wanted.filter((row) => !rows.includes(row));
  const holes: number[] = [];
  const survivors: number[] = [];
  for (let slot = 0; slot < active; slot++) if (!stays(slot)) holes.push(slot);
  for (let slot = active; slot < rows.length; slot++) if (stays(slot)) survivors.push(FROM_SLAB + slot);
  const sources = [...added, ...survivors];
  return {
    moves: Uint32Array.from(holes.flatMap((to, i) => [to, sources[i]])),
    active,
    added: added.length,
    removed: rows.length - active + added.length,
  };
}
