import type { Bitmask } from '../mask/index.js';
import type { SlotMap } from './slot-map.js';
import { planOf, stillTrue, type Transition, transition } from './transition.js';
import type { Plan } from './types.js';

/**
 * Copies all m' rows anew from the pool, in ascending row order: slot i gets the i-th row of the mask. It never writes
 * less than `planUpdate`; it is for a copy that is faster when contiguous, or where the order of the rows matters.
 * Its m' moves run in any order. O(N / 32 + m'); the map is not changed.
 *
 * @param known The transition to `mask`, if it was worked out already.
 * @throws CapacityError and ShapeError as `planUpdate`; StalePlanError when the map is no longer as `known` found it.
 */
export function repackPlan(map: SlotMap, mask: Bitmask, known?: Transition): Plan {
  return repackTo(map, mask, known ? stillTrue(map, known) : transition(map, mask));
}

/** `repackPlan` for a change that is known already. */
export function repackTo(map: SlotMap, mask: Bitmask, change: Transition): Plan {
  const rows = mask.ids();
  const moves = new Uint32Array(2 * rows.length);
  for (let slot = 0; slot < rows.length; slot++) {
    moves[2 * slot] = slot;
    moves[2 * slot + 1] = rows[slot];
  }
  return planOf(map, 'repack', change, moves);
}
