import type { Bitmask } from '../mask/index.js';
import type { SlotMap } from './slot-map.js';
import { planOf, type Transition, transition } from './transition.js';
import { MOVE_FROM_SLAB, type Plan } from './types.js';

/**
 * The tight plan: the fewest row writes that turn the map's state into `mask`, for active rows packed in [0, m').
 *
 * A row that sits below m' and stays active needs no write; every other slot below m', a hole, needs exactly one. So
 * h = m' - (survivors below m') writes are both needed and enough: A when A >= R, else A + (survivors at or above
 * m'), and never more than max(A, R). Every destination is below m' and every slab source at or above it, so no write
 * can race a read: the moves run in any order, all at once.
 *
 * Canonical: holes ascending, filled first by the additions by row id, then by the survivors at or above m' by slot.
 * O(N / 32 + k log k) with k = A + R; the map is not changed. No change gives no moves.
 *
 * @throws CapacityError when the mask has more rows than the map has slots (`details`: rows, capacity, wanted);
 *   ShapeError when it has another N.
 */
export function planUpdate(map: SlotMap, mask: Bitmask): Plan {
  return tightPlan(map, transition(map, mask));
}

/** `planUpdate` for a change that is known already. */
export function tightPlan(map: SlotMap, change: Transition): Plan {
  const { added, stranded } = change;
  const holes = findHoles(map, change);
  const moves = new Uint32Array(2 * holes.length);
  for (let i = 0; i < holes.length; i++) {
    moves[2 * i] = holes[i];
    moves[2 * i + 1] = i < added.length ? added[i] : MOVE_FROM_SLAB + stranded[i - added.length];
  }
  return planOf(map, 'tight', change, moves);
}

/** Slots below m' that hold no survivor, ascending: those of removed rows, then [m, m') where the slab grows. */
function findHoles(map: SlotMap, { added, removed, stranded, active }: Transition): Uint32Array {
  const holes = new Uint32Array(added.length + stranded.length);
  let count = 0;
  for (const row of removed) {
    const slot = map.slotOf(row);
    if (slot < active) holes[count++] = slot;
  }
  holes.subarray(0, count).sort();
  for (let slot = map.active; slot < active; slot++) holes[count++] = slot;
  return holes;
}
