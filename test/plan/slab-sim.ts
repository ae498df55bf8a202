import { expect } from 'vitest';
import { Bitmask } from '../../src/mask/index.js';
import { MOVE_FROM_SLAB, type Plan, SlotMap } from '../../src/plan/index.js';

export interface Move {
  readonly to: number;
  readonly from: 'pool' | 'slab';
  /** A pool row or a slab slot. */
  readonly index: number;
}

export function decode(plan: Plan): Move[] {
  const moves: Move[] = [];
  for (let i = 0; i < plan.moves.length; i += 2) {
    const source = plan.moves[i + 1];
    const slab = source >= MOVE_FROM_SLAB;
    moves.push({
      to: plan.moves[i],
      from: slab ? 'slab' : 'pool',
      index: slab ? source - MOVE_FROM_SLAB : source,
    });
  }
  return moves;
}

/** A slab whose slots hold row ids in place of row data; what has no row yet is -1. */
export function fill(map: SlotMap): number[] {
  const slab = new Array<number>(map.capacity).fill(-1);
  map.slots().forEach((row, slot) => {
    slab[slot] = row;
  });
  return slab;
}

export function run(slab: number[], moves: readonly Move[]): void {
  for (const { to, from, index } of moves) slab[to] = from === 'pool' ? index : slab[index];
}

/** Fisher and Yates with a small generator of its own, so that a seed replays. */
export function shuffled<T>(items: readonly T[], seed: number): T[] {
  const out = [...items];
  let state = seed >>> 0;
  for (let i = out.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/**
 * Throws unless the map is a bijection between the rows of `mask` and slots [0, m), and `slab` holds just those rows.
 * Plain throws: `expect` a million times over would be most of the test's time.
 */
export function checkState(map: SlotMap, mask: Bitmask, slab?: readonly number[]): void {
  const wrong = (what: string) =>
    new Error(`${what}: slots [${map.slots()}], mask [${mask.ids()}], slab [${slab}]`);
  if (map.active !== mask.count()) throw wrong(`active is ${map.active}`);
  if (!map.mask().equals(mask)) throw wrong(`the map's mask is [${map.mask().ids()}]`);
  for (let row = 0; row < map.rows; row++) {
    const slot = map.slotOf(row);
    if (mask.has(row) !== slot >= 0) throw wrong(`slotOf(${row}) is ${slot}`);
    if (slot >= 0 && map.rowAt(slot) !== row) throw wrong(`rowAt(slotOf(${row})) is ${map.rowAt(slot)}`);
  }
  for (let slot = 0; slot < map.active; slot++) {
    if (map.slotOf(map.rowAt(slot)) !== slot) throw wrong(`slotOf(rowAt(${slot})) is another slot`);
    if (slab !== undefined && slab[slot] !== map.rowAt(slot)) throw wrong(`the slab's slot ${slot} is wrong`);
  }
}

/** Throws unless the moves of a tight or repack plan can race nothing: the promises of the design. */
export function checkParallel(map: SlotMap, plan: Plan): void {
  const wrong = (what: string) =>
    new Error(`${what} in ${JSON.stringify(decode(plan))}, m' = ${plan.active}`);
  const destinations = new Set<number>();
  const moves = decode(plan);
  for (const { to } of moves) {
    if (to >= plan.active) throw wrong(`destination ${to} is not below m'`);
    if (destinations.has(to)) throw wrong(`destination ${to} comes twice`);
    destinations.add(to);
  }
  for (const { from, index } of moves) {
    if (from === 'pool') continue;
    if (index < plan.active || index >= map.active) throw wrong(`source ${index} is not in [m', m)`);
    if (destinations.has(index)) throw wrong(`slot ${index} is read and written`);
  }
}

/** Throws unless a tight plan has the one order that all planners agree on. */
export function checkCanonical(plan: Plan): void {
  const moves = decode(plan);
  const sources = moves.map(({ from, index }) => (from === 'slab' ? 2 ** 31 + index : index));
  const pool = sources.slice(0, plan.added.length);
  const ascends = (list: readonly number[]) => list.every((v, i) => i === 0 || list[i - 1] < v);
  // Pool rows are below 2^31, so additions first and then survivors by slot is one ascending list.
  const ok =
    ascends(moves.map(({ to }) => to)) && ascends(sources) && pool.every((v, i) => v === plan.added[i]);
  if (!ok) throw new Error(`not canonical: ${JSON.stringify(moves)}, added [${plan.added}]`);
}

/** Brings a map to these rows in these slots. */
export function mapWith(rows: number, capacity: number, inSlots: readonly number[]): SlotMap {
  const map = new SlotMap(rows, capacity);
  const moves = Uint32Array.from(inSlots.flatMap((row, slot) => [slot, row]));
  map.commit({
    kind: 'tight',
    added: Uint32Array.from(inSlots).sort(),
    removed: new Uint32Array(0),
    active: inSlots.length,
    moves,
    writes: inSlots.length,
    minimum: inSlots.length,
    deferred: null,
    version: map.version,
  });
  checkState(map, Bitmask.fromIds(inSlots, rows));
  expect(Array.from(map.slots())).toEqual(inSlots);
  return map;
}

/** The mask whose bit i is bit i of `bits`, for up to 30 rows. */
export function maskOf(bits: number, rows: number): Bitmask {
  return Bitmask.fromWords(Uint32Array.of(bits & (2 ** rows - 1)), rows);
}
