import fc from 'fast-check';
import { Bitmask } from '../../src/mask/index.js';
import { MOVE_FROM_SLAB } from '../../src/plan/index.js';
import type { Residency } from '../../src/residency/residency.js';
import type { ResidencyPlan } from '../../src/residency/types.js';
import { shuffled } from '../plan/slab-sim.js';

export function fail(what: string, context: unknown): never {
  throw new Error(`${what}: ${JSON.stringify(context)}`);
}

/** Runs a plan's moves on a slab of row ids, in shuffled order, and checks that no order could matter. */
export function runMoves(slab: number[], plan: ResidencyPlan, seed: number): void {
  const moves = Array.from({ length: plan.writes }, (_, i) => [plan.moves[2 * i], plan.moves[2 * i + 1]]);
  const destinations = new Set(moves.map(([to]) => to));
  if (destinations.size !== moves.length) fail('a destination comes twice', moves);
  for (const [to, from] of moves) {
    if (to >= slab.length) fail('a destination beyond the slab', moves);
    if (from >= MOVE_FROM_SLAB && destinations.has(from - MOVE_FROM_SLAB)) fail('read and written', moves);
  }
  for (const [to, from] of shuffled(moves, seed)) {
    slab[to] = from >= MOVE_FROM_SLAB ? slab[from - MOVE_FROM_SLAB] : from;
  }
}

/** Throws unless the map is a bijection onto what the slab really holds, and its sets say the same. */
export function checkMap({ map }: Residency, slab: readonly number[]): void {
  let count = 0;
  for (let row = 0; row < map.rows; row++) {
    const slot = map.slotOf(row);
    if (map.resident.has(row) !== slot >= 0) fail(`row ${row} is resident or not`, slot);
    if (slot < 0) continue;
    count++;
    if (map.rowAt(slot) !== row) fail(`rowAt(slotOf(${row}))`, map.rowAt(slot));
    if (slab[slot] !== row) fail(`the slab's slot ${slot} should hold row ${row}`, slab);
  }
  if (count !== map.count) fail('resident rows', { count, said: map.count });
  for (let slot = 0; slot < map.capacity; slot++) {
    if (map.free.has(slot) !== map.rowAt(slot) < 0) fail(`slot ${slot} is free or not`, map.rowAt(slot));
  }
}

/** What can be seen of a residency, to compare before and after. */
export function stateOf({ map, active }: Residency & { active(): Bitmask }): unknown {
  const slots = Array.from({ length: map.capacity }, (_, slot) => map.rowAt(slot));
  return { slots, resident: [...map.resident], free: [...map.free], active };
}

/** Steps over a few hundred rows where some are used far more often than others, as in a model. */
export const walks = (most: number, steps: number) =>
  fc.integer({ min: 2, max: most }).chain((rows) =>
    fc.record({
      rows: fc.constant(rows),
      capacity: fc.integer({ min: 1, max: rows }),
      seed: fc.nat(),
      masks: fc
        .array(fc.record({ density: fc.double({ min: 0, max: 0.5, noNaN: true }), seed: fc.nat() }), {
          minLength: steps,
          maxLength: steps,
        })
        .map((list) => list.map(({ density, seed }) => skewedMask(rows, density, seed))),
    }),
  );

/** Low rows are likelier than high ones. */
function skewedMask(rows: number, density: number, seed: number): Bitmask {
  const mask = Bitmask.empty(rows);
  let state = seed >>> 0;
  for (let row = 0; row < rows; row++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    if (state / 2 ** 32 < density * (2 - (2 * row) / rows)) mask.add(row);
  }
  return mask;
}
