import { CapacityError, ShapeError } from '../errors.js';
import { type Bitmask, diff } from '../mask/index.js';
import type { SlotMap } from './slot-map.js';
import { type Change, type Plan, StalePlanError } from './types.js';

/** What every planner starts from: a change that is known to fit. */
export interface Transition extends Change {
  /** m' */
  readonly active: number;
  /** Slots at or above m' whose row stays active, ascending: the survivors that have to move. */
  readonly stranded: Uint32Array;
  /** `SlotMap.version` of the state that it starts from. */
  readonly version: number;
}

/** A transition that was worked out before, if the map is still as it was then. @throws StalePlanError if not. */
export function stillTrue(map: SlotMap, change: Transition): Transition {
  if (change.version === map.version) return change;
  throw new StalePlanError(
    `the change was worked out in state ${change.version} and the slot map is in state ${map.version}; work it out again`,
    { planned: change.version, current: map.version },
  );
}

/** How many row ids a message spells out; `details.rows` has all. */
const NAMED = 8;

/**
 * The change from the map's state to `mask`, in O(N / 32 + A + R). Survivors at or above m' can only be in slots
 * [m', m), and there are R - A of those, so no other slot is looked at.
 *
 * @throws ShapeError when the mask has another number of rows than the map; CapacityError when it has more active
 *   rows than the map has slots. The rows named there are the additions with the highest ids: the others would fit.
 */
export function transition(map: SlotMap, mask: Bitmask): Transition {
  if (mask.size !== map.rows) {
    throw new ShapeError(
      `the mask has N = ${mask.size} rows and the slot map ${map.rows}; they must be the same`,
      {
        mask: mask.size,
        rows: map.rows,
      },
    );
  }
  const { added, removed } = diff(map.mask(), mask);
  const active = map.active + added.length - removed.length;
  if (active > map.capacity) throw capacityError(added, active, map.capacity);
  const stranded: number[] = [];
  for (let slot = active; slot < map.active; slot++) if (mask.has(map.rowAt(slot))) stranded.push(slot);
  return { added, removed, active, stranded: Uint32Array.from(stranded), version: map.version };
}

/** h, the fewest rows that have to be written: every addition and every survivor that is at or above m'. */
export function minimumWrites(change: Transition): number {
  return change.added.length + change.stranded.length;
}

/** The plan with these moves, its counts filled in. */
export function planOf(map: SlotMap, kind: Plan['kind'], change: Transition, moves: Uint32Array): Plan {
  return {
    kind,
    added: change.added,
    removed: change.removed,
    active: change.active,
    moves,
    writes: moves.length / 2,
    minimum: minimumWrites(change),
    deferred: null,
    version: map.version,
  };
}

function capacityError(added: Uint32Array, wanted: number, capacity: number): CapacityError {
  // Survivors fit where they are, so at most all additions are over.
  const rows = Array.from(added.subarray(added.length - (wanted - capacity)));
  const named = rows.slice(0, NAMED).join(', ') + (rows.length > NAMED ? ', …' : '');
  return new CapacityError(
    `the mask has ${wanted} active rows and the slab ${capacity} slots; ${rows.length} rows do not fit (${named}). ` +
      'Select fewer rows or make a slab with more slots',
    { rows, capacity, wanted },
  );
}
