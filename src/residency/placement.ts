import { OptionError } from '../errors.js';
import type { Bitmask } from '../mask/index.js';
import { MOVE_FROM_SLAB } from '../plan/types.js';
import type { Policy } from './policy.js';
import type { ResidentMap } from './resident-map.js';

/** Where rows go: what a plan says about slots, without what it says about use. */
export interface Placement {
  readonly moves: Uint32Array;
  readonly loaded: Uint32Array;
  readonly evicted: Uint32Array;
}

/**
 * Rows come to any slot: those that are wanted and not resident (`loaded`, ascending) to the lowest slots among the
 * empty ones and those of the evicted rows, ascending. Evicted rows stay until their slot is needed; what is resident
 * is never moved. O(N / 32 + loaded + evicted), and what the policy takes.
 */
export function placeAnywhere(map: ResidentMap, wanted: Bitmask, policy: Policy): Placement {
  const { resident, capacity, count } = map;
  const loaded = wanted.without(resident).ids();
  const needed = Math.max(0, loaded.length - (capacity - count));
  const evicted = Uint32Array.from(policy.victims(needed, resident, wanted)).sort();
  checkVictims(policy, evicted, needed, map, wanted);
  const slots = map.free.clone();
  for (const row of evicted) slots.add(map.slotOf(row));
  const moves = new Uint32Array(2 * loaded.length);
  let i = 0;
  for (const slot of slots) {
    if (i === moves.length) break;
    moves[i] = slot;
    moves[i + 1] = loaded[i >>> 1];
    i += 2;
  }
  return { moves, loaded, evicted };
}

/** A policy may be the user's own: what it says must not break the map. */
function checkVictims(
  policy: Policy,
  evicted: Uint32Array,
  needed: number,
  { resident, rows }: ResidentMap,
  wanted: Bitmask,
): void {
  const wrong = evicted.find(
    (row, i) => row >= rows || !resident.has(row) || wanted.has(row) || row === evicted[i - 1],
  );
  if (wrong !== undefined) {
    throw new OptionError(
      `policy ${policy.name} gave row ${wrong} to evict, which is wanted, not resident, or given twice`,
      { policy: policy.name, row: wrong },
    );
  }
  if (evicted.length < needed) {
    throw new OptionError(
      `policy ${policy.name} gave ${evicted.length} rows to evict where ${needed} are needed`,
      {
        policy: policy.name,
        given: evicted.length,
        needed,
      },
    );
  }
}

/**
 * Rows come to the front, slots [0, m'). A wanted row that is there stays; every other slot of the front, empty or with
 * a row that is not wanted, is written once: first by the rows from the pool, by id, then by the wanted rows that are
 * resident at or above m', by slot. What is overwritten is evicted; a row that was copied leaves its old slot empty. So
 * every destination is below m' and every slab source at or above it. The fewest writes, and of those the fewest from
 * the pool. Where only the front was occupied this is `planUpdate`. O(N / 32 + m').
 */
export function placeInFront(map: ResidentMap, wanted: Bitmask): Placement {
  const active = wanted.count();
  const missing = wanted.without(map.resident);
  const loaded = missing.ids();
  const above: number[] = [];
  for (const row of wanted.without(missing)) {
    const slot = map.slotOf(row);
    if (slot >= active) above.push(slot);
  }
  above.sort((a, b) => a - b);
  const moves: number[] = [];
  const evicted: number[] = [];
  let filled = 0;
  for (let slot = 0; slot < active; slot++) {
    const row = map.rowAt(slot);
    if (row >= 0 && wanted.has(row)) continue;
    if (row >= 0) evicted.push(row);
    const source = filled < loaded.length ? loaded[filled] : MOVE_FROM_SLAB + above[filled - loaded.length];
    moves.push(slot, source);
    filled++;
  }
  return { moves: Uint32Array.from(moves), loaded, evicted: Uint32Array.from(evicted).sort() };
}
