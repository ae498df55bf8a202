import { describe, expect, it } from 'vitest';
import { CapacityError, ShapeError } from '../../src/errors.js';
import { Bitmask } from '../../src/mask/index.js';
import { MOVE_FROM_SLAB, planUpdate, publishedPlan, repackPlan, SlotMap } from '../../src/plan/index.js';
import { checkState, decode, fill, mapWith, run } from './slab-sim.js';

const SLAB = MOVE_FROM_SLAB;

describe('planUpdate', () => {
  it('fills an empty map in row order', () => {
    const plan = planUpdate(new SlotMap(40, 4), Bitmask.fromIds([33, 2, 9], 40));
    expect(plan).toMatchObject({ kind: 'tight', active: 3, writes: 3, minimum: 3, deferred: null });
    expect(plan.moves).toEqual(Uint32Array.of(0, 2, 1, 9, 2, 33));
    expect(plan.added).toEqual(Uint32Array.of(2, 9, 33));
    expect(plan.removed).toEqual(new Uint32Array(0));
  });

  it('is canonical where as many come as go: holes by slot, additions by row', () => {
    // Rows 7 and 3 leave, from slots 0 and 2; 1 and 6 come.
    const plan = planUpdate(mapWith(8, 4, [7, 5, 3]), Bitmask.fromIds([6, 5, 1], 8));
    expect(plan.moves).toEqual(Uint32Array.of(0, 1, 2, 6));
  });

  it('is canonical where more come: holes of removed rows first, then the end', () => {
    const plan = planUpdate(mapWith(8, 8, [7, 5, 3]), Bitmask.fromIds([7, 3, 0, 1, 2], 8));
    expect(plan.moves).toEqual(Uint32Array.of(1, 0, 3, 1, 4, 2));
  });

  it('is canonical where more go: additions first, then survivors by slot', () => {
    // m' = 4; slots 0, 1 and 3 lose their rows, and 5 and 6 hold the survivors above.
    const map = mapWith(10, 8, [9, 8, 7, 6, 5, 4, 3]);
    const plan = planUpdate(map, Bitmask.fromIds([7, 4, 3, 0], 10));
    expect(plan.moves).toEqual(Uint32Array.of(0, 0, 1, SLAB + 5, 3, SLAB + 6));
    expect(plan).toMatchObject({ active: 4, writes: 3, minimum: 3 });
    map.commit(plan);
    expect(map.slots()).toEqual(Uint32Array.of(0, 4, 7, 3));
  });

  it('moves nothing when only the last slots go, or all', () => {
    const map = mapWith(8, 4, [7, 5, 3]);
    expect(planUpdate(map, Bitmask.fromIds([7], 8))).toMatchObject({ active: 1, writes: 0, minimum: 0 });
    const plan = planUpdate(map, Bitmask.empty(8));
    expect(plan).toMatchObject({ active: 0, writes: 0, minimum: 0 });
    map.commit(plan);
    checkState(map, Bitmask.empty(8));
  });

  it('does nothing for no change', () => {
    const map = mapWith(8, 4, [7, 5, 3]);
    const plan = planUpdate(map, map.mask());
    expect(plan).toMatchObject({ active: 3, writes: 0, minimum: 0 });
    expect([plan.moves.length, plan.added.length, plan.removed.length]).toEqual([0, 0, 0]);
    expect(planUpdate(new SlotMap(8, 4), Bitmask.empty(8))).toMatchObject({ active: 0, writes: 0 });
  });

  it('fills every slot, and every row, there is', () => {
    const map = new SlotMap(33, 33);
    map.commit(planUpdate(map, Bitmask.full(33)));
    checkState(map, Bitmask.full(33));
  });

  it("needs about half of the published writes in the design's example", () => {
    // m = 512, A = 0, R = 256, the removed rows spread evenly at random: about 127 against 255.
    let state = 1;
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    let tight = 0;
    let published = 0;
    const rounds = 50;
    for (let round = 0; round < rounds; round++) {
      const map = new SlotMap(512, 512);
      map.commit(planUpdate(map, Bitmask.full(512)));
      const order = Array.from({ length: 512 }, (_, row) => ({ row, key: random() }));
      const kept = order.sort((a, b) => a.key - b.key).slice(0, 256);
      const mask = Bitmask.fromIds(
        kept.map(({ row }) => row),
        512,
      );
      const plan = planUpdate(map, mask);
      expect(plan.writes).toBe(256 - kept.filter(({ row }) => row < 256).length);
      tight += plan.writes / rounds;
      published += publishedPlan(map, mask).writes / rounds;
    }
    expect(tight).toBeGreaterThan(124);
    expect(tight).toBeLessThan(132);
    expect(published).toBeGreaterThan(250);
    expect(published).toBeLessThanOrEqual(256);
  });
});

describe('publishedPlan', () => {
  it('pairs removals with additions and appends the rest', () => {
    const map = mapWith(8, 8, [7, 5, 3]);
    const plan = publishedPlan(map, Bitmask.fromIds([7, 0, 1, 2], 8));
    expect(plan).toMatchObject({ kind: 'published', active: 4, writes: 3, minimum: 3 });
    // Row 3 leaves slot 2 and row 5 slot 1.
    expect(plan.moves).toEqual(Uint32Array.of(2, 0, 1, 1, 3, 2));
    map.commit(plan);
    expect(map.slots()).toEqual(Uint32Array.of(7, 1, 0, 2));
  });

  it('moves rows that are about to go', () => {
    // Rows 1 and 3 leave. The swap for row 1 brings row 3 down from the last slot, and then it goes in its turn.
    const map = mapWith(4, 4, [0, 1, 2, 3]);
    const mask = Bitmask.fromIds([0, 2], 4);
    const plan = publishedPlan(map, mask);
    expect(plan.moves).toEqual(Uint32Array.of(1, SLAB + 3, 1, SLAB + 2));
    expect(plan).toMatchObject({ writes: 2, minimum: 1, active: 2 });
    expect(planUpdate(map, mask).writes).toBe(1);
    const slab = fill(map);
    run(slab, decode(plan));
    map.commit(plan);
    checkState(map, mask, slab);
  });

  it('does not write for the last row', () => {
    const plan = publishedPlan(mapWith(4, 4, [0, 1, 2, 3]), Bitmask.fromIds([0, 1, 2], 4));
    expect(plan).toMatchObject({ writes: 0, active: 3 });
  });
});

describe('repackPlan', () => {
  it('takes all rows from the pool in ascending order', () => {
    const map = mapWith(40, 8, [35, 5, 3]);
    const plan = repackPlan(map, Bitmask.fromIds([35, 3, 2, 33], 40));
    expect(plan).toMatchObject({ kind: 'repack', active: 4, writes: 4, minimum: 2 });
    expect(plan.moves).toEqual(Uint32Array.of(0, 2, 1, 3, 2, 33, 3, 35));
    map.commit(plan);
    expect(map.slots()).toEqual(Uint32Array.of(2, 3, 33, 35));
    checkState(map, Bitmask.fromIds([35, 3, 2, 33], 40));
  });

  it('puts unchanged rows in order', () => {
    const map = mapWith(8, 4, [5, 2, 7]);
    const plan = repackPlan(map, map.mask());
    expect(plan).toMatchObject({ writes: 3, minimum: 0 });
    map.commit(plan);
    expect(map.slots()).toEqual(Uint32Array.of(2, 5, 7));
    checkState(map, Bitmask.fromIds([2, 5, 7], 8));
  });
});

describe.each([planUpdate, publishedPlan, repackPlan])('%o', (planner) => {
  it('refuses a mask that does not fit and names the rows', () => {
    const map = mapWith(32, 4, [5, 2, 7]);
    const mask = Bitmask.fromIds([1, 2, 3, 5, 9, 11], 32);
    let error: unknown;
    try {
      planner(map, mask);
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(CapacityError);
    // 2 and 5 stay where they are, and 1 and 3 still fit.
    expect((error as CapacityError).details).toEqual({ rows: [9, 11], capacity: 4, wanted: 6 });
    expect((error as CapacityError).message).toMatch(/6 active rows.*4 slots.*2 rows.*9, 11/);
    checkState(map, Bitmask.fromIds([2, 5, 7], 32));
    // And without the rows that it names, the mask fits.
    for (const row of [9, 11]) mask.delete(row);
    map.commit(planner(map, mask));
    checkState(map, mask);
  });

  it('keeps the message short when many do not fit', () => {
    const map = new SlotMap(1000, 1);
    expect(() => planner(map, Bitmask.full(1000))).toThrow(
      /999 rows do not fit \(1, 2, 3, 4, 5, 6, 7, 8, …\)/,
    );
  });

  it('refuses a mask of another size', () => {
    expect(() => planner(new SlotMap(32, 4), Bitmask.empty(31))).toThrow(ShapeError);
  });
});
