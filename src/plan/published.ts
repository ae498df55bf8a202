import type { Bitmask } from '../mask/index.js';
import type { SlotMap } from './slot-map.js';
import { planOf, transition } from './transition.js';
import { MOVE_FROM_SLAB, type Plan } from './types.js';

/**
 * The scheme of the published work, kept as a reference to compare with; `planUpdate` never writes more.
 *
 * The i-th addition takes the slot of the i-th removal (both by row id); surplus additions are appended. Surplus
 * removals are swapped with the last row one after another: one write each, unless the removed row is the last. The
 * last row may itself be one that is about to go, so rows are moved that nobody wants: about max(A, R) writes.
 *
 * The moves are a SERIAL CHAIN: a slot may be written twice and read in between, also at or above m'. They must be
 * applied in order. `writes` counts them, `minimum` is the tight plan's count. O(N / 32 + m); the map is not changed.
 *
 * @throws CapacityError and ShapeError as `planUpdate`.
 */
export function publishedPlan(map: SlotMap, mask: Bitmask): Plan {
  const change = transition(map, mask);
  const { added, removed } = change;
  const moves: number[] = [];
  const paired = Math.min(added.length, removed.length);
  for (let i = 0; i < paired; i++) moves.push(map.slotOf(removed[i]), added[i]);
  for (let i = paired; i < added.length; i++) moves.push(map.active + i - paired, added[i]);

  const rowIn = map.slots();
  for (let i = 0; i < paired; i++) rowIn[map.slotOf(removed[i])] = added[i];
  // Rows that the chain has moved so far are not where the map says.
  const movedTo = new Map<number, number>();
  let last = map.active - 1;
  for (let i = paired; i < removed.length; i++, last--) {
    const hole = movedTo.get(removed[i]) ?? map.slotOf(removed[i]);
    if (hole === last) continue;
    moves.push(hole, MOVE_FROM_SLAB + last);
    rowIn[hole] = rowIn[last];
    movedTo.set(rowIn[hole], hole);
  }
  return planOf(map, 'published', change, Uint32Array.from(moves));
}
