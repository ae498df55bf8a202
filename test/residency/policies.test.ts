import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OptionError, ShapeError } from '../../src/errors.js';
import { Bitmask } from '../../src/mask/index.js';
import { beladyLoads } from '../../src/residency/belady.js';
import { policyNamed } from '../../src/residency/policies.js';
import { Pinned } from '../../src/residency/policies/pinned.js';
import { Lru } from '../../src/residency/policies/lru.js';
import type { Policy } from '../../src/residency/policy.js';
import { replay } from '../../src/residency/replay.js';
import { maskOf } from '../plan/slab-sim.js';
import { fail, walks } from './sim.js';

/** What happened so far, as lists: all that the references look at. */
interface Past {
  rows: number;
  /** The rows that each step used. */
  steps: readonly (readonly number[])[];
}

const lastUse = ({ steps }: Past, row: number): number => steps.findLastIndex((used) => used.includes(row));
const decayedUses = ({ steps }: Past, row: number, decay: number): number =>
  steps.reduce((sum, used, i) => sum + (used.includes(row) ? decay ** (steps.length - 1 - i) : 0), 0);
const byKey =
  (key: (row: number) => number) =>
  (a: number, b: number): number =>
    key(a) - key(b) || a - b;

type Reference = (count: number, candidates: readonly number[], past: Past) => number[];

const COUNTS = [5, 0, 9, 2, 9, 1, 0, 7, 3, 4, 8, 6];
const ROWS = COUNTS.length;
const HOT = [2, 4, 10];

const REFERENCES: Record<string, Reference> = {
  exact: (_, candidates) => [...candidates],
  lru: (count, candidates, past) => candidates.toSorted(byKey((row) => lastUse(past, row))).slice(0, count),
  'window:3': (count, candidates, past) => {
    const ordered = candidates.toSorted(byKey((row) => lastUse(past, row)));
    // The step that is planned is the third of the window.
    const old = ordered.filter((row) => lastUse(past, row) < past.steps.length - 2);
    return ordered.slice(0, Math.max(count, old.length));
  },
  // A half is exact in binary, so that even ties are the same.
  'lfu:0.5': (count, candidates, past) =>
    candidates.toSorted(byKey((row) => decayedUses(past, row, 0.5))).slice(0, count),
  'lfu:1': (count, candidates, past) =>
    candidates.toSorted(byKey((row) => decayedUses(past, row, 1))).slice(0, count),
  'pinned:0.5': (count, candidates, past) => {
    const dynamic = candidates
      .filter((row) => !HOT.includes(row))
      .toSorted(byKey((row) => decayedUses(past, row, 0.97)));
    // Of the pinned, the least used first; of equals the higher id, since the lower was pinned before it.
    const hot = [10, 4, 2].filter((row) => candidates.includes(row));
    return [...dynamic.slice(0, count), ...hot.slice(0, Math.max(0, count - dynamic.length))];
  },
  adaptive: (count, candidates, past) => {
    const decays = [0.9, 0.97, 0.99];
    const misses = decays.map((decay) => shadowMisses(past, decay));
    const best = decays[misses.indexOf(Math.min(...misses))];
    return candidates.toSorted(byKey((row) => decayedUses(past, row, best))).slice(0, count);
  },
};

/** Recent misses of a slab of CAPACITY slots under LFU with this decay, told by the whole past again. */
function shadowMisses({ rows, steps }: Past, decay: number): number {
  let misses = 0;
  let held: number[] = [];
  steps.forEach((used, i) => {
    const missing = used.filter((row) => !held.includes(row));
    const past = { rows, steps: steps.slice(0, i) };
    const candidates = held
      .filter((row) => !used.includes(row))
      .sort(byKey((row) => decayedUses(past, row, decay)));
    const over = Math.max(0, held.length + missing.length - CAPACITY);
    held = held.filter((row) => !candidates.slice(0, over).includes(row)).concat(missing);
    misses = (misses + missing.length) * 0.95;
  });
  return misses;
}

const CAPACITY = 6;

describe('each policy evicts what its definition says', () => {
  const histories = fc.array(fc.uniqueArray(fc.nat(ROWS - 1), { maxLength: CAPACITY }), {
    minLength: 1,
    maxLength: 40,
  });

  it.each(Object.keys(REFERENCES))('%s', (name) => {
    let evictions = 0;
    fc.assert(
      fc.property(histories, (history) => {
        const policy = policyNamed(name, COUNTS)(ROWS, CAPACITY);
        const past: number[][] = [];
        const resident = Bitmask.empty(ROWS);
        for (const used of history) {
          const wanted = Bitmask.fromIds(used, ROWS);
          const missing = wanted.without(resident).ids();
          const needed = Math.max(0, resident.count() + missing.length - CAPACITY);
          const candidates = [...resident.without(wanted)];
          const expected = REFERENCES[name](needed, candidates, { rows: ROWS, steps: past });
          const got = [...policy.victims(needed, resident, wanted)];
          if (got.toSorted().join() !== expected.toSorted().join())
            fail('evicts', { got, expected, past, needed });
          evictions += got.length;
          for (const row of got) resident.delete(row);
          for (const row of missing) resident.add(row);
          policy.admit(missing);
          policy.note(wanted.ids());
          policy.endStep();
          past.push([...wanted]);
        }
      }),
      { numRuns: 200 },
    );
    expect(evictions).toBeGreaterThan(200);
  });

  it('lfu goes on when its weights are scaled down', () => {
    // 2^-10 a step passes 2^256 every 26 steps.
    const decay = 2 ** -10;
    const policy = policyNamed(`lfu:${decay}`)(64, 16);
    const lru = new Lru(64);
    const resident = Bitmask.empty(64);
    let state = 1;
    for (let step = 0; step < 400; step++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const row = state >>> 26;
      const wanted = Bitmask.fromIds([row], 64);
      const needed = resident.has(row) || resident.count() < 16 ? 0 : 1;
      const got = policy.victims(needed, resident, wanted);
      // One use now outweighs any number before, so it is LRU; rows are used again before their count is 0.
      expect(got).toEqual(lru.victims(needed, resident, wanted));
      for (const gone of got) resident.delete(gone);
      resident.add(row);
      for (const one of [policy, lru]) {
        one.admit(Uint32Array.of(row));
        one.note(Uint32Array.of(row));
        one.endStep();
      }
    }
  });

  it('window:1 is exact, where steps fit', () => {
    fc.assert(
      fc.property(walks(100, 12), ({ capacity, masks: all }) => {
        const masks = all.filter((mask) => mask.count() <= capacity);
        const run = (name: string) => replay(masks, { capacity, mode: 'indexed', policy: policyNamed(name) });
        expect(run('window:1')).toEqual(run('exact'));
      }),
      { numRuns: 60 },
    );
  });
});

describe('policyNamed', () => {
  it.each([
    '',
    'mru',
    'lru:3',
    'lfu:0',
    'lfu:1.5',
    'lfu:x',
    'lfu:0.5:1',
    'window:0',
    'window:1.5',
    'exact:1',
    'adaptive:2',
  ])('refuses "%s"', (text) => expect(() => policyNamed(text)).toThrow(OptionError));
  it('refuses a share beyond 1, and pinned without counts', () => {
    expect(() => policyNamed('pinned:1.5', COUNTS)).toThrow(OptionError);
    expect(() => policyNamed('pinned')).toThrow(/counts/);
  });
  it('pins at most what there is, and never rows that were not used', () => {
    const rest: Policy = new Lru(4);
    expect([...new Pinned([0, 3, 0, 3], 4, rest).hot]).toEqual([1, 3]);
    expect([...new Pinned([1, 3, 2, 3], 1, rest).hot]).toEqual([1]);
    expect(() => new Pinned([], 0, rest)).toThrow(ShapeError);
    expect(() => new Pinned([1], 2, rest)).toThrow(OptionError);
    expect(() => new Pinned([1, Number.NaN], 1, rest)).toThrow(OptionError);
  });
});

/** Every choice of what to keep, tried out: the fewest loads from `resident` on. */
function bruteLoads(
  masks: readonly number[],
  capacity: number,
  rows: number,
  seen = new Map<string, number>(),
) {
  const from = (step: number, resident: number): number => {
    if (step === masks.length) return 0;
    const key = `${step},${resident}`;
    const known = seen.get(key);
    if (known !== undefined) return known;
    const all = resident | masks[step];
    let least = Number.POSITIVE_INFINITY;
    const must = count(masks[step]) <= capacity ? masks[step] : 0;
    for (let kept = 0; kept < 2 ** rows; kept++) {
      if ((kept & ~all) !== 0 || (must & ~kept) !== 0 || count(kept) > capacity) continue;
      least = Math.min(least, from(step + 1, kept));
    }
    const total = count(masks[step] & ~resident) + least;
    seen.set(key, total);
    return total;
  };
  return from(0, 0);
}
const count = (bits: number): number => bits.toString(2).replaceAll('0', '').length;
const total = (values: Iterable<number>): number => [...values].reduce((sum, value) => sum + value, 0);

describe("Belady's optimum", () => {
  it('is the least of all choices, N <= 6', () => {
    const input = fc.integer({ min: 1, max: 6 }).chain((rows) =>
      fc.record({
        rows: fc.constant(rows),
        capacity: fc.integer({ min: 1, max: rows }),
        masks: fc.array(fc.nat(2 ** rows - 1), { minLength: 1, maxLength: 12 }),
      }),
    );
    fc.assert(
      fc.property(input, ({ rows, capacity, masks }) => {
        const loads = beladyLoads(
          masks.map((bits) => maskOf(bits, rows)),
          capacity,
        );
        expect(total(loads)).toBe(bruteLoads(masks, capacity, rows));
      }),
      { numRuns: 300 },
    );
  });

  it.each(['exact', 'window:3', 'lru', 'lfu', 'lfu:0.5', 'pinned:0.5', 'adaptive', 'packed'])(
    'is at most what %s loads',
    (name) => {
      let above = 0;
      fc.assert(
        fc.property(walks(80, 25), ({ rows, capacity, masks }) => {
          const counts = Array.from({ length: rows }, (_, row) => rows - row);
          const options =
            name === 'packed'
              ? ({ capacity, mode: 'packed' } as const)
              : ({ capacity, mode: 'indexed', policy: policyNamed(name, counts) } as const);
          const steps = replay(masks, options);
          const loads = total(steps.map((step) => step.loads));
          const bound = total(beladyLoads(masks, capacity));
          if (loads < bound) fail('below the optimum', { loads, bound });
          if (loads > bound) above++;
          for (const [i, step] of steps.entries()) {
            if (step.active !== masks[i].count() || step.hits + step.loads !== step.active)
              fail('sums', step);
          }
        }),
        { numRuns: 60 },
      );
      expect(above).toBeGreaterThan(0);
    },
  );

  it('refuses a capacity that is none, and takes no steps', () => {
    expect(() => beladyLoads([], 0)).toThrow(OptionError);
    expect(beladyLoads([], 3)).toEqual(new Uint32Array(0));
  });
});
