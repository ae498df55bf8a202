import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OptionError, PairslabError, RowError, ShapeError } from '../../src/errors.js';
import { Bitmask } from '../../src/mask/index.js';
import { planUpdate, publishedPlan, repackPlan, SlotMap, StalePlanError } from '../../src/plan/index.js';
import { checkState, mapWith, maskOf } from './slab-sim.js';

describe('SlotMap', () => {
  it('starts empty', () => {
    const map = new SlotMap(40, 10);
    expect([map.rows, map.capacity, map.active]).toEqual([40, 10, 0]);
    expect(map.slots()).toEqual(new Uint32Array(0));
    expect(map.slotOf(39)).toBe(-1);
    checkState(map, Bitmask.empty(40));
  });

  it('refuses sizes that are not possible', () => {
    for (const rows of [0, -1, 1.5, 2 ** 31]) expect(() => new SlotMap(rows, 1)).toThrow(ShapeError);
    for (const capacity of [0, -1, 1.5, 5, Number.NaN]) {
      expect(() => new SlotMap(4, capacity)).toThrow(OptionError);
    }
    expect(() => new SlotMap(4, 5)).toThrow(/capacity is 5.*1 to the 4 rows/);
  });

  it('refuses rows and slots that are not there', () => {
    const map = mapWith(8, 4, [5, 2]);
    for (const row of [-1, 8, 1.5, Number.NaN]) expect(() => map.slotOf(row)).toThrow(RowError);
    for (const slot of [-1, 2, 0.5, Number.NaN]) expect(() => map.rowAt(slot)).toThrow(RowError);
    expect(map.rowAt(1)).toBe(2);
    expect(map.slotOf(5)).toBe(0);
  });

  it('gives copies away', () => {
    const map = mapWith(8, 4, [5, 2]);
    map.mask().add(0);
    map.slots()[0] = 7;
    checkState(map, Bitmask.fromIds([2, 5], 8));
  });

  it.each([planUpdate, publishedPlan, repackPlan])(
    'refuses a stale plan of %o and changes nothing',
    (planner) => {
      const map = mapWith(8, 4, [5, 2, 7]);
      const stale = planner(map, Bitmask.fromIds([1, 2], 8));
      map.commit(planUpdate(map, Bitmask.fromIds([0, 2, 7], 8)));
      const [slots, version] = [map.slots(), map.version];
      expect(() => map.commit(stale)).toThrow(StalePlanError);
      expect(map.slots()).toEqual(slots);
      expect(map.version).toBe(version);
      checkState(map, Bitmask.fromIds([0, 2, 7], 8));
    },
  );

  it('takes back the last commit, whatever planned it, and only that one', () => {
    const masks = fc.array(fc.nat(2 ** 12 - 1), { minLength: 2, maxLength: 6 });
    fc.assert(
      fc.property(masks, fc.constantFrom(planUpdate, publishedPlan, repackPlan), (all, planner) => {
        const map = new SlotMap(12, 12);
        for (const bits of all) {
          const before = map.slots();
          const mask = map.mask();
          const { version } = map;
          map.commit(planner(map, maskOf(bits, 12)));
          if (map.version === version) continue;
          const after = map.slots();
          const wanted = map.mask();
          map.takeBack();
          expect(map.slots()).toEqual(before);
          checkState(map, mask);
          expect(map.version).not.toBe(version);
          // Where nothing is known of the state before, there is none that could be relied on.
          const twin = mapWith(12, 12, [...after]);
          twin.takeBack();
          checkState(twin, Bitmask.empty(12));
          map.restore(after);
          checkState(map, wanted);
        }
      }),
    );
  });

  it('refuses a plan twice, and one from another map in the same state', () => {
    const map = new SlotMap(8, 4);
    const twin = new SlotMap(8, 4);
    const plan = planUpdate(map, Bitmask.fromIds([3], 8));
    expect(() => twin.commit(plan)).toThrow(StalePlanError);
    expect(twin.active).toBe(0);
    map.commit(plan);
    expect(() => map.commit(plan)).toThrow(PairslabError);
    checkState(map, Bitmask.fromIds([3], 8));
  });

  it('keeps its version when nothing changes', () => {
    const map = mapWith(8, 4, [5, 2]);
    const plan = planUpdate(map, Bitmask.fromIds([0, 2], 8));
    map.commit(planUpdate(map, map.mask()));
    map.commit(plan);
    checkState(map, Bitmask.fromIds([0, 2], 8));
  });
});
