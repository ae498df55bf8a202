import { afterEach, describe, expect, it } from 'vitest';
import { CapacityError, OptionError, ShapeError } from '../../src/errors.js';
import { Bitmask } from '../../src/mask/index.js';
import {
  type HybridOptions,
  hybridPlan,
  planUpdate,
  repackPlan,
  SlotMap,
  StalePlanError,
  transition,
} from '../../src/plan/index.js';
import { settings } from '../../src/settings.js';
import { checkState, mapWith } from './slab-sim.js';

const VARIABLES = ['PAIRSLAB_HYBRID_TAU', 'PAIRSLAB_ROWS_PER_WORKGROUP', 'PAIRSLAB_VECTOR_WIDTH'];
afterEach(() => {
  for (const variable of VARIABLES) delete process.env[variable];
});

describe('hybridPlan', () => {
  /** m' = 4 of which 2 are new: h / m' = 0.5, and A + R = 4. */
  const half = () => mapWith(16, 8, [8, 9, 10, 11]);
  const halfMask = Bitmask.fromIds([8, 9, 12, 13], 16);

  it('never repacks by default', () => {
    const map = half();
    expect(hybridPlan(map, halfMask)).toEqual(planUpdate(map, halfMask));
    expect(hybridPlan(new SlotMap(16, 8), halfMask).kind).toBe('tight');
  });

  it('repacks when writes / m is above tau, not at it', () => {
    const map = half();
    expect(hybridPlan(map, halfMask, { tau: 0.5 }).kind).toBe('tight');
    expect(hybridPlan(map, halfMask, { tau: 0.49 })).toEqual(repackPlan(map, halfMask));
    expect(hybridPlan(map, halfMask, { tau: 0 }).kind).toBe('repack');
  });

  it('takes up a transition that was worked out before, and refuses one of another state', () => {
    const map = half();
    const known = transition(map, halfMask);
    for (const tau of [0, 1]) {
      expect(hybridPlan(map, halfMask, { tau }, known)).toEqual(hybridPlan(map, halfMask, { tau }));
    }
    expect(repackPlan(map, halfMask, known)).toEqual(repackPlan(map, halfMask));
    map.commit(planUpdate(map, Bitmask.fromIds([8], 16)));
    expect(() => hybridPlan(map, halfMask, {}, known)).toThrow(StalePlanError);
    expect(() => repackPlan(map, halfMask, known)).toThrow(StalePlanError);
  });

  it('has nothing to repack without writes', () => {
    const map = half();
    for (const mask of [map.mask(), Bitmask.empty(16), Bitmask.fromIds([8], 16)]) {
      expect(hybridPlan(map, mask, { tau: 0 })).toEqual(planUpdate(map, mask));
    }
  });

  it('takes tau from the environment, and an option wins over it', () => {
    process.env.PAIRSLAB_HYBRID_TAU = '0.25';
    expect(hybridPlan(half(), halfMask).kind).toBe('repack');
    expect(hybridPlan(half(), halfMask, { tau: 1 }).kind).toBe('tight');
    process.env.PAIRSLAB_HYBRID_TAU = '2';
    expect(() => hybridPlan(half(), halfMask)).toThrow(OptionError);
  });

  it('knows the published rule: k > 0.5 · m', () => {
    const map = half();
    expect(hybridPlan(map, halfMask, { rule: 'published' })).toEqual(repackPlan(map, halfMask));
    // A + R = 2 of m' = 4 is not above a half.
    const at = Bitmask.fromIds([8, 9, 10, 12], 16);
    expect(hybridPlan(map, at, { rule: 'published' }).kind).toBe('tight');
    // A + R = 3 of m' = 5 is.
    const above = Bitmask.fromIds([8, 9, 10, 12, 13], 16);
    expect(hybridPlan(map, above, { rule: 'published' }).kind).toBe('repack');
    expect(hybridPlan(map, map.mask(), { rule: 'published' }).writes).toBe(0);
  });

  it('puts small changes off until they add up', () => {
    const map = half();
    const options = { deferBelow: 4 };
    const small = Bitmask.fromIds([8, 9, 10, 12], 16);
    const plan = hybridPlan(map, small, options);
    expect(plan).toMatchObject({ kind: 'tight', active: 4, writes: 0, minimum: 0 });
    expect(plan.deferred).toEqual({ added: Uint32Array.of(12), removed: Uint32Array.of(11) });
    expect([plan.moves.length, plan.added.length, plan.removed.length]).toEqual([0, 0, 0]);
    map.commit(plan);
    checkState(map, Bitmask.fromIds([8, 9, 10, 11], 16));
    const made = hybridPlan(map, halfMask, options);
    expect(made).toMatchObject({ writes: 2, deferred: null });
    map.commit(made);
    checkState(map, halfMask);
  });

  it('does not put off the first update, nor no change, nor what does not fit', () => {
    const one = Bitmask.fromIds([3], 16);
    const first = hybridPlan(new SlotMap(16, 8), one, { deferBelow: 10 });
    expect(first).toMatchObject({ writes: 1, deferred: null });
    const map = half();
    expect(hybridPlan(map, map.mask(), { deferBelow: 10 }).deferred).toBeNull();
    const full = mapWith(16, 4, [8, 9, 10, 11]);
    const over = Bitmask.fromIds([8, 9, 10, 11, 12], 16);
    expect(() => hybridPlan(full, over, { deferBelow: 10 })).toThrow(CapacityError);
  });

  it('refuses bad options and masks', () => {
    const bad: HybridOptions[] = [
      { tau: -0.1 },
      { tau: 1.1 },
      { tau: Number.NaN },
      { deferBelow: -1 },
      { deferBelow: 0.5 },
      { rule: 'other' as 'writes' },
    ];
    for (const options of bad) expect(() => hybridPlan(half(), halfMask, options)).toThrow(OptionError);
    expect(() => hybridPlan(half(), Bitmask.empty(15))).toThrow(ShapeError);
  });
});

describe('settings', () => {
  const defaults = { hybridTau: undefined, rowsPerWorkgroup: undefined, vectorWidth: undefined };

  it('has defaults, also for empty variables', () => {
    expect(settings()).toEqual(defaults);
    expect(settings({})).toEqual(defaults);
    expect(settings(Object.fromEntries(VARIABLES.map((v) => [v, ' '])))).toEqual(defaults);
  });

  it('reads the environment at each call', () => {
    process.env.PAIRSLAB_HYBRID_TAU = '.5';
    process.env.PAIRSLAB_ROWS_PER_WORKGROUP = '64';
    process.env.PAIRSLAB_VECTOR_WIDTH = '2';
    expect(settings()).toEqual({ hybridTau: 0.5, rowsPerWorkgroup: 64, vectorWidth: 2 });
    delete process.env.PAIRSLAB_HYBRID_TAU;
    expect(settings().hybridTau).toBeUndefined();
  });

  it.each([
    ['PAIRSLAB_HYBRID_TAU', ['-0.1', '1.01', 'x', '0x1', 'NaN', 'Infinity', '0,5', '1 2']],
    ['PAIRSLAB_ROWS_PER_WORKGROUP', ['0', '65', '1.5', '-1', '1e1', 'x']],
    ['PAIRSLAB_VECTOR_WIDTH', ['0', '3', '8', '4.0', 'x']],
  ])('names a malformed %s', (variable, values) => {
    for (const value of values) {
      expect(() => settings({ [variable]: value })).toThrow(OptionError);
      expect(() => settings({ [variable]: value })).toThrow(`${variable} is '${value}'; it must be`);
    }
  });

  it('accepts the bounds', () => {
    for (const tau of ['0', '1', '1.0', '1e-3']) {
      expect(settings({ PAIRSLAB_HYBRID_TAU: tau }).hybridTau).toBe(Number(tau));
    }
    for (const n of ['1', '64']) {
      expect(settings({ PAIRSLAB_ROWS_PER_WORKGROUP: n }).rowsPerWorkgroup).toBe(Number(n));
    }
    for (const n of ['1', '2', '4'])
      expect(settings({ PAIRSLAB_VECTOR_WIDTH: n }).vectorWidth).toBe(Number(n));
  });
});
