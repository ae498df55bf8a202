import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CapacityError } from '../../src/errors.js';
import { Bitmask } from '../../src/mask/index.js';
import { type Plan, planUpdate, publishedPlan, repackPlan, SlotMap } from '../../src/plan/index.js';
import {
  checkCanonical,
  checkParallel,
  checkState,
  decode,
  fill,
  maskOf,
  run,
  shuffled,
} from './slab-sim.js';

/**
 * The definition of the minimum, tried out: over every assignment of the wanted rows to slots [0, m'), the fewest
 * slots whose row is not the one that is there now. m'! assignments.
 */
function bruteMinimum(before: ArrayLike<number>, wanted: readonly number[], slot = 0, used = 0): number {
  if (slot === wanted.length) return 0;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < wanted.length; i++) {
    if ((used >>> i) & 1) continue;
    const write = before[slot] === wanted[i] ? 0 : 1;
    least = Math.min(least, write + bruteMinimum(before, wanted, slot + 1, used | (1 << i)));
  }
  return least;
}

const survivorsBelow = (map: SlotMap, mask: Bitmask, active: number) =>
  Array.from(map.slots().subarray(0, active)).filter((row) => mask.has(row)).length;

function check(ok: boolean, what: string, plan: Plan): void {
  if (!ok) throw new Error(`${what}: ${JSON.stringify({ ...plan, moves: decode(plan) })}`);
}

describe('tight plans, N <= 7', () => {
  it('write the brute-force minimum, in any order, over 100,000 random transitions', () => {
    const runs = 3000;
    const steps = 45;
    let transitions = 0;
    let refused = 0;
    const input = fc.integer({ min: 1, max: 7 }).chain((rows) =>
      fc.record({
        rows: fc.constant(rows),
        // Mostly room for all, so that few steps are refused.
        capacity: fc.oneof({ weight: 5, arbitrary: fc.constant(rows) }, fc.integer({ min: 1, max: rows })),
        masks: fc.array(fc.nat(2 ** rows - 1), { minLength: steps, maxLength: steps }),
        seed: fc.nat(),
      }),
    );
    fc.assert(
      fc.property(input, ({ rows, capacity, masks, seed }) => {
        const map = new SlotMap(rows, capacity);
        let current = Bitmask.empty(rows);
        for (const bits of masks) {
          const mask = maskOf(bits, rows);
          if (mask.count() > capacity) {
            expect(() => planUpdate(map, mask)).toThrow(CapacityError);
            checkState(map, current);
            refused++;
            continue;
          }
          const slab = fill(map);
          const plan = planUpdate(map, mask);
          checkState(map, current, slab);
          const wanted = Array.from(mask.ids());
          check(plan.writes === bruteMinimum(map.slots(), wanted), 'not the minimum', plan);
          check(plan.writes === plan.minimum && plan.writes * 2 === plan.moves.length, 'miscounted', plan);
          checkParallel(map, plan);
          checkCanonical(plan);
          run(slab, shuffled(decode(plan), seed + transitions));
          map.commit(plan);
          current = mask;
          checkState(map, mask, slab);
          transitions++;
        }
      }),
      { numRuns: runs },
    );
    expect(transitions).toBeGreaterThanOrEqual(100_000);
    expect(refused).toBeGreaterThan(0);
  });
});

/** Masks of several hundred rows, each either a small change of the last or a new one. */
const walk = fc.integer({ min: 33, max: 500 }).chain((rows) =>
  fc.record({
    rows: fc.constant(rows),
    seed: fc.nat(),
    steps: fc.array(
      fc.record({
        fresh: fc.boolean(),
        rows: fc.uniqueArray(fc.nat(rows - 1), { maxLength: rows, size: 'max' }),
        flips: fc.uniqueArray(fc.nat(rows - 1), { maxLength: 40, size: 'max' }),
      }),
      { minLength: 8, maxLength: 8 },
    ),
  }),
);

function next(mask: Bitmask, step: { fresh: boolean; rows: number[]; flips: number[] }): Bitmask {
  if (step.fresh) return Bitmask.fromIds(step.rows, mask.size);
  const out = mask.clone();
  for (const row of step.flips) {
    if (out.has(row)) out.delete(row);
    else out.add(row);
  }
  return out;
}

describe('plans, N up to 500', () => {
  it('tight: writes are m less the survivors below it, at most max(A, R), in any order', () => {
    fc.assert(
      fc.property(walk, ({ rows, seed, steps }) => {
        const map = new SlotMap(rows, rows);
        const slab = fill(map);
        let mask = map.mask();
        for (const step of steps) {
          mask = next(mask, step);
          const plan = planUpdate(map, mask);
          const h = mask.count() - survivorsBelow(map, mask, mask.count());
          check(plan.writes === h && plan.minimum === h, `the minimum is ${h}`, plan);
          check(plan.writes <= Math.max(plan.added.length, plan.removed.length), 'above max(A, R)', plan);
          checkParallel(map, plan);
          checkCanonical(plan);
          run(slab, shuffled(decode(plan), seed));
          map.commit(plan);
          checkState(map, mask, slab);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('published: the serial chain ends right, and writes no less than the tight plan', () => {
    let more = 0;
    fc.assert(
      fc.property(walk, ({ rows, steps }) => {
        const map = new SlotMap(rows, rows);
        const slab = fill(map);
        let mask = map.mask();
        for (const step of steps) {
          mask = next(mask, step);
          const plan = publishedPlan(map, mask);
          const tight = planUpdate(map, mask);
          check(
            plan.minimum === tight.writes && plan.writes >= tight.writes,
            `tight is ${tight.writes}`,
            plan,
          );
          check(plan.writes <= Math.max(plan.added.length, plan.removed.length), 'above max(A, R)', plan);
          if (plan.writes > tight.writes) more++;
          run(slab, decode(plan));
          map.commit(plan);
          checkState(map, mask, slab);
        }
      }),
      { numRuns: 300 },
    );
    expect(more).toBeGreaterThan(100);
  });

  it('kinds mix: each plan starts from what the last one left', () => {
    const planners = [planUpdate, publishedPlan, repackPlan];
    fc.assert(
      fc.property(walk, ({ rows, seed, steps }) => {
        const map = new SlotMap(rows, rows);
        const slab = fill(map);
        let mask = map.mask();
        steps.forEach((step, i) => {
          mask = next(mask, step);
          const plan = planners[(seed + i * (1 + (seed % 2))) % 3](map, mask);
          if (plan.kind !== 'published') checkParallel(map, plan);
          run(slab, plan.kind === 'published' ? decode(plan) : shuffled(decode(plan), seed));
          map.commit(plan);
          checkState(map, mask, slab);
        });
      }),
      { numRuns: 200 },
    );
  });
});
