import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CapacityError, OptionError, ShapeError } from '../../src/errors.js';
import { Bitmask } from '../../src/mask/index.js';
import { MOVE_FROM_SLAB, planUpdate, SlotMap, StalePlanError } from '../../src/plan/index.js';
import { policyNamed } from '../../src/residency/policies.js';
import type { Policy } from '../../src/residency/policy.js';
import { Residency, type ResidencyMode } from '../../src/residency/residency.js';
import { maskOf } from '../plan/slab-sim.js';
import { checkMap, fail, runMoves, stateOf, walks } from './sim.js';

const NAMES = ['exact', 'window:3', 'lru', 'lfu', 'lfu:0.5', 'pinned:0.5', 'adaptive'];

const policyOf = (name: string, rows: number) =>
  policyNamed(
    name,
    Array.from({ length: rows }, (_, row) => (row * 7) % 5),
  );

/** The fewest slots below m' that have to be written, over every order of the wanted rows. */
function bruteWrites(before: readonly number[], wanted: readonly number[], slot = 0, used = 0): number {
  if (slot === wanted.length) return 0;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < wanted.length; i++) {
    if ((used >>> i) & 1) continue;
    const write = before[slot] === wanted[i] ? 0 : 1;
    least = Math.min(least, write + bruteWrites(before, wanted, slot + 1, used | (1 << i)));
  }
  return least;
}

describe.each(['indexed', 'packed'] as const)('mode %s', (mode) => {
  const names = mode === 'indexed' ? NAMES : ['none'];

  it.each(names)('%s: the slab holds the right rows at every step, in pieces too', (name) => {
    let inPieces = 0;
    fc.assert(
      fc.property(walks(300, 12), ({ rows, capacity, masks, seed }) => {
        const policy = mode === 'indexed' ? policyOf(name, rows) : undefined;
        const residency = new Residency({ rows, capacity, mode, policy });
        const slab = new Array<number>(capacity).fill(-1);
        for (const mask of masks) {
          const before = residency.map.resident.clone();
          const pieces = residency.pieces(mask);
          if (pieces.length > 1) inPieces++;
          let loads = 0;
          let done = Bitmask.empty(rows);
          for (const [i, piece] of pieces.entries()) {
            expect(piece.more).toBe(i < pieces.length - 1);
            const active = residency.active();
            const plan = residency.plan(piece.mask, piece);
            runMoves(slab, plan, seed + i);
            residency.commit(plan);
            checkMap(residency, slab);
            loads += plan.loaded.length;
            // What the layer would read, row by row.
            const ids = [...piece.mask];
            const slots = plan.slots ?? ids.map((_, slot) => slot);
            const read = Array.from(slots, (slot) => slab[slot]);
            if (!plan.slots) read.sort((a, b) => a - b);
            if (read.join() !== ids.join()) fail('the layer reads other rows', { read, ids });
            if (plan.hits + plan.loaded.length !== ids.length) fail('hits', plan);
            if (plan.active !== ids.length) fail('active', plan);
            const added = ids.filter((row) => !active.has(row));
            const removed = [...active].filter((row) => !piece.mask.has(row));
            expect([Array.from(plan.added), Array.from(plan.removed)]).toEqual([added, removed]);
            if (done.without(piece.mask).count() !== done.count()) fail('a row comes in two pieces', ids);
            done = done.union(piece.mask);
          }
          if (!done.equals(mask)) fail('the pieces are not the step', { done: [...done], mask: [...mask] });
          // Nothing is loaded that was there, and all else once.
          expect(loads).toBe(mask.without(before).count());
        }
      }),
      { numRuns: 60 },
    );
    expect(inPieces).toBeGreaterThan(20);
  });

  it('plans the same again, and changes nothing before commit', () => {
    fc.assert(
      fc.property(walks(120, 10), fc.constantFrom(...names), ({ rows, capacity, masks }, name) => {
        const policy = mode === 'indexed' ? policyOf(name, rows) : undefined;
        const one = new Residency({ rows, capacity, mode, policy });
        const other = new Residency({ rows, capacity, mode, policy });
        for (const [i, mask] of masks.entries()) {
          for (const piece of one.pieces(mask)) {
            const before = stateOf(one);
            // Plans that are thrown away, of this step and of another.
            one.plan(one.pieces(masks[(i + 3) % masks.length])[0].mask);
            const first = one.plan(piece.mask, piece);
            expect(stateOf(one)).toEqual(before);
            const again = other.plan(piece.mask, piece);
            expect({ ...again, version: 0 }).toEqual({ ...first, version: 0 });
            one.commit(first);
            other.commit(again);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('refuses a step that does not fit, with the rows, and stays as it was', () => {
    const residency = new Residency({ rows: 10, capacity: 3, mode, policy: policyNamed('lru') });
    residency.commit(residency.plan(Bitmask.fromIds([2, 5], 10)));
    const before = stateOf(residency);
    const mask = Bitmask.fromIds([1, 2, 4, 5, 9], 10);
    let error: unknown;
    try {
      residency.plan(mask);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(CapacityError);
    expect((error as CapacityError).details).toEqual({ wanted: 5, capacity: 3, rows: [4, 9] });
    expect((error as CapacityError).message).toMatch(/5 rows .* 3 slots, 2 too few.*pieces/);
    expect(stateOf(residency)).toEqual(before);
    expect(residency.pieces(mask).map((piece) => [...piece.mask])).toEqual([
      [1, 2, 5],
      [4, 9],
    ]);
  });

  it('refuses a plan of another state, another residency, or committed before', () => {
    const make = () => new Residency({ rows: 10, capacity: 4, mode, policy: policyNamed('lru') });
    const one = make();
    const plan = one.plan(Bitmask.fromIds([1], 10));
    const late = one.plan(Bitmask.fromIds([2], 10));
    expect(() => make().commit(plan)).toThrow(StalePlanError);
    one.commit(plan);
    const before = stateOf(one);
    expect(() => one.commit(plan)).toThrow(StalePlanError);
    expect(() => one.commit(late)).toThrow(StalePlanError);
    expect(stateOf(one)).toEqual(before);
  });

  it('takes an empty step, and refuses a mask of another size', () => {
    const residency = new Residency({ rows: 10, capacity: 4, mode, policy: policyNamed('lru') });
    const [piece, ...others] = residency.pieces(Bitmask.empty(10));
    expect(others).toEqual([]);
    const plan = residency.plan(piece.mask);
    expect([plan.writes, plan.active, plan.hits]).toEqual([0, 0, 0]);
    residency.commit(plan);
    expect(() => residency.plan(Bitmask.empty(11))).toThrow(ShapeError);
    expect(() => residency.pieces(Bitmask.empty(11))).toThrow(ShapeError);
  });
});

describe('mode indexed', () => {
  it('keeps evicted rows until their slot is needed: coming back writes nothing', () => {
    const residency = new Residency({ rows: 8, capacity: 4, mode: 'indexed', policy: policyNamed('lru') });
    const step = (ids: number[]) => {
      const plan = residency.plan(Bitmask.fromIds(ids, 8));
      residency.commit(plan);
      return plan;
    };
    expect(Array.from(step([3, 6]).moves)).toEqual([0, 3, 1, 6]);
    expect(Array.from(step([1, 6]).moves)).toEqual([2, 1]);
    const back = step([3]);
    expect([back.writes, back.hits, Array.from(back.slots ?? [])]).toEqual([0, 1, [0]]);
    // One slot is free, one row must go: 1 was used at the second step, with 6, and has the lower id.
    const full = step([0, 2, 3]);
    expect(Array.from(full.moves)).toEqual([2, 0, 3, 2]);
    expect(Array.from(full.evicted)).toEqual([1]);
    expect(Array.from(full.slots ?? [])).toEqual([2, 3, 0]);
  });

  it('prefetches without a use: wrong guesses go first, and nothing else changes', () => {
    fc.assert(
      fc.property(walks(100, 10), fc.constantFrom(...NAMES), ({ rows, capacity, masks, seed }, name) => {
        const residency = new Residency({ rows, capacity, mode: 'indexed', policy: policyOf(name, rows) });
        const slab = new Array<number>(capacity).fill(-1);
        for (const [i, mask] of masks.entries()) {
          const active = residency.active();
          const guess = residency.planPrefetch(masks[(i + 1) % masks.length]);
          runMoves(slab, guess, seed);
          residency.commit(guess);
          checkMap(residency, slab);
          expect(residency.active().equals(active)).toBe(true);
          if (guess.wanted.without(residency.map.resident).count() > 0) fail('not prefetched', guess);
          for (const piece of residency.pieces(mask)) {
            const plan = residency.plan(piece.mask, piece);
            runMoves(slab, plan, seed);
            residency.commit(plan);
            checkMap(residency, slab);
          }
        }
      }),
      { numRuns: 60 },
    );
    const packed = new Residency({ rows: 4, capacity: 2, mode: 'packed' });
    expect(() => packed.planPrefetch(Bitmask.empty(4))).toThrow(OptionError);
  });

  it.each([
    ['a row that is wanted', [1], /gave row 1 to evict/],
    ['a row that is not resident', [7], /gave row 7/],
    ['a row that is none', [12], /gave row 12/],
    ['a row twice', [0, 0], /gave row 0/],
    ['too few', [], /gave 0 rows to evict where 1 are needed/],
  ])("refuses a policy's answer: %s", (_, answer, message) => {
    const odd: Policy = { name: 'odd', victims: () => answer, admit() {}, note() {}, endStep() {} };
    const residency = new Residency({ rows: 8, capacity: 2, mode: 'indexed', policy: () => odd });
    const fill = { ...odd, victims: () => [] };
    const filled = new Residency({ rows: 8, capacity: 2, mode: 'indexed', policy: () => fill });
    filled.commit(filled.plan(Bitmask.fromIds([0, 1], 8)));
    expect(filled.map.count).toBe(2);
    odd.victims = () => [];
    residency.commit(residency.plan(Bitmask.fromIds([0, 1], 8)));
    odd.victims = () => answer;
    const before = stateOf(residency);
    expect(() => residency.plan(Bitmask.fromIds([1, 5], 8))).toThrow(message);
    expect(stateOf(residency)).toEqual(before);
  });
});

describe('mode packed', () => {
  it('writes the brute-force minimum, and loads nothing that is resident', () => {
    let copies = 0;
    const input = fc.integer({ min: 1, max: 7 }).chain((rows) =>
      fc.record({
        rows: fc.constant(rows),
        capacity: fc.integer({ min: 1, max: rows }),
        masks: fc.array(fc.nat(2 ** rows - 1), { minLength: 20, maxLength: 20 }),
        seed: fc.nat(),
      }),
    );
    fc.assert(
      fc.property(input, ({ rows, capacity, masks, seed }) => {
        const residency = new Residency({ rows, capacity, mode: 'packed' });
        const slab = new Array<number>(capacity).fill(-1);
        for (const bits of masks) {
          const mask = maskOf(bits, rows);
          if (mask.count() > capacity) continue;
          const { map } = residency;
          const before = Array.from({ length: capacity }, (_, slot) => map.rowAt(slot));
          const missing = mask.without(map.resident).ids();
          const plan = residency.plan(mask);
          if (plan.writes !== bruteWrites(before, [...mask])) fail('not the minimum', { before, plan });
          expect(plan.loaded).toEqual(missing);
          for (let i = 0; i < plan.moves.length; i += 2) {
            if (plan.moves[i] >= plan.active) fail('a destination at or above the new count', plan);
            const slot = plan.moves[i + 1] - MOVE_FROM_SLAB;
            if (slot < 0) continue;
            copies++;
            if (slot < plan.active) fail('a source below the new count', plan);
          }
          runMoves(slab, plan, seed);
          residency.commit(plan);
          checkMap(residency, slab);
        }
      }),
      { numRuns: 1500 },
    );
    expect(copies).toBeGreaterThan(1000);
  });

  it('is the tight plan, move by move, while nothing else is resident', () => {
    fc.assert(
      fc.property(walks(200, 8), ({ rows, masks }) => {
        const map = new SlotMap(rows, rows);
        const fresh = () => new Residency({ rows, capacity: rows, mode: 'packed' });
        for (const mask of masks) {
          // The same rows in the same slots, and no other.
          const residency = fresh();
          for (const [slot, row] of map.slots().entries()) residency.map.put(row, slot);
          const tight = planUpdate(map, mask);
          expect(residency.plan(mask).moves).toEqual(tight.moves);
          map.commit(tight);
        }
      }),
      { numRuns: 100 },
    );
  });

  it('overwrites evicted rows of the front, and takes back what lies behind it', () => {
    const residency = new Residency({ rows: 9, capacity: 6, mode: 'packed' });
    const step = (ids: number[]) => {
      const plan = residency.plan(Bitmask.fromIds(ids, 9));
      residency.commit(plan);
      return plan;
    };
    step([0, 1, 2, 3, 4]);
    // 3 and 4 stay behind the front; 1 is overwritten by 5 and gone.
    expect(Array.from(step([0, 2, 5]).moves)).toEqual([1, 5]);
    expect([3, 4].map((row) => residency.map.slotOf(row))).toEqual([3, 4]);
    expect(residency.map.slotOf(1)).toBe(-1);
    // Wanted where it lies, since the front grows over it: no write. 4 takes the empty place of 5.
    const grown = step([0, 2, 3, 4]);
    expect(Array.from(grown.moves)).toEqual([1, MOVE_FROM_SLAB + 4]);
    expect([grown.hits, grown.loaded.length, Array.from(grown.evicted)]).toEqual([4, 0, [5]]);
    // Its old slot left the map.
    expect(residency.map.rowAt(4)).toBe(-1);
  });
});

it.each([
  ['a mode that is none', { mode: 'loose' as ResidencyMode, capacity: 2 }, OptionError],
  ['no policy', { mode: 'indexed' as const, capacity: 2 }, OptionError],
  ['no slots', { mode: 'packed' as const, capacity: 0 }, OptionError],
  ['more slots than rows', { mode: 'packed' as const, capacity: 5 }, OptionError],
])('refuses %s', (_, options, error) => {
  expect(() => new Residency({ rows: 4, ...options })).toThrow(error);
});
