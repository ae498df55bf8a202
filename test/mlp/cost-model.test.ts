import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { OptionError, ShapeError } from '../../src/errors.js';
import { type Costs, setTuning } from '../../src/gpu/tuning.js';
import { Bitmask } from '../../src/mask/index.js';
import { decide, estimate, type StepShape } from '../../src/mlp/cost-model.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { measuredTau, tauOf } from '../../src/slab/tau.js';
import { measureCosts } from '../../src/tune/costs.js';
import { describeAdapters } from '../support/adapters.js';

const COSTS: Costs = {
  dtype: 'f32',
  launch: 0.01,
  wait: 0.3,
  read: { dense: 100, indexed: 110, packed: 100 },
  readBatched: { dense: 200, indexed: 300, packed: 200 },
  move: { each: 0, gigabyte: 200 },
  select: { each: 0, gigabyte: 100 },
};
const STEP: StepShape = {
  rows: 8000,
  active: 800,
  writes: 400,
  rowBytes: 10_000,
  slabRowBytes: 10_000,
  batch: 1,
  reuse: 1,
};

describe('estimate', () => {
  it('adds up launches, reads and copies', () => {
    const costs = estimate(COSTS, STEP);
    expect(costs.dense).toBeCloseTo(0.02 + 0.08 * 100, 9);
    expect(costs.indexed).toBeCloseTo(0.02 + 0.008 * 110, 9);
    expect(costs.paired).toBeCloseTo(0.02 + 0.008 * 100 + 0.01 + 0.004 * 200, 9);
    expect(costs.repack).toBeCloseTo(0.02 + 0.008 * 100 + 0.01 + 0.008 * 100, 9);
  });

  it('shares a copy among its uses, and charges nothing where nothing is to be written', () => {
    const once = estimate(COSTS, STEP);
    const often = estimate(COSTS, { ...STEP, reuse: 8 });
    const packed = 0.02 + 0.008 * 100;
    expect(often.paired - packed).toBeCloseTo((once.paired - packed) / 8, 9);
    expect(estimate(COSTS, { ...STEP, writes: 0 }).paired).toBeCloseTo(packed, 9);
  });

  it('charges a batch by its tiles of eight, and packed ways for a mask that has to be waited for', () => {
    expect(estimate(COSTS, { ...STEP, batch: 9 }).dense).toBeCloseTo(0.02 + 2 * 0.08 * 200, 9);
    const waited = estimate(COSTS, { ...STEP, waits: true });
    expect(waited.paired - estimate(COSTS, STEP).paired).toBeCloseTo(0.3, 9);
    expect(waited.indexed).toBe(estimate(COSTS, STEP).indexed);
  });
});

describe('tau', () => {
  it('is what a gathered row costs over a moved one, and never above 1', () => {
    expect(tauOf(COSTS, 10_000)).toBeCloseTo(0.5, 9);
    expect(tauOf({ ...COSTS, move: COSTS.select, select: COSTS.move }, 10_000)).toBe(1);
    expect(tauOf({ ...COSTS, move: { each: 0, gigabyte: 0 } }, 10_000)).toBe(1);
  });
});

describeAdapters('the cost model', (ctx) => {
  afterEach(() => setTuning(ctx.device, null));

  it('takes the least of its estimates, whatever they are', () => {
    const cost = fc.double({ min: 0, max: 500, noNaN: true });
    const reads = fc.record({ dense: cost, indexed: cost, packed: cost });
    const copies = fc.record({ each: fc.constant(0), gigabyte: cost });
    const any = fc.record({
      dtype: fc.constant('f32' as const),
      launch: fc.double({ min: 0, max: 1, noNaN: true }),
      wait: fc.double({ min: 0, max: 1, noNaN: true }),
      read: reads,
      readBatched: reads,
      move: copies,
      select: copies,
    });
    const shape = fc.record({
      active: fc.integer({ min: 0, max: 8000 }),
      batch: fc.integer({ min: 1, max: 40 }),
      reuse: fc.integer({ min: 1, max: 9 }),
      waits: fc.boolean(),
      fits: fc.boolean(),
    });
    fc.assert(
      fc.property(any, shape, fc.double({ min: 0, max: 1, noNaN: true }), (costs, some, share) => {
        setTuning(ctx.device, { entries: [], costs: [costs] });
        const step = { ...STEP, ...some, writes: Math.round(some.active * share) };
        const { strategy, estimates, measured, because } = decide(ctx.device, 'f32', step);
        const open = Object.entries(estimates).filter(
          ([name]) => step.fits || name === 'dense' || name === 'indexed',
        );
        expect(estimates[strategy]).toBe(Math.min(...open.map(([, ms]) => ms)));
        expect(measured).toBe(true);
        expect(because).toContain(`${some.active} of 8000 rows`);
      }),
      { numRuns: 200 },
    );
  });

  it('has defaults for an adapter on which nothing was measured', () => {
    const few = decide(ctx.device, 'f32', STEP);
    expect(few).toMatchObject({ strategy: 'indexed', measured: false, tau: 1 });
    expect(decide(ctx.device, 'f32', { ...STEP, active: 8000, writes: 8000 }).strategy).toBe('dense');
    expect(decide(ctx.device, 'q8', { ...STEP, writes: 4, reuse: 50 }).strategy).toBe('paired');
    expect(measuredTau(ctx.device, 'f32', 1000)).toBe(1);
  });

  it('decides for a layer by what its slab holds, and runs what it decided', async () => {
    const [rows, hidden] = [64, 32];
    const values = Float32Array.from({ length: rows * hidden }, (_, i) => Math.sin(i));
    const mlp = await SparseMLP.create(ctx.device, {
      hidden,
      gate: values,
      up: values,
      down: values,
      capacity: 40,
    });
    try {
      const x = Float32Array.from({ length: hidden }, (_, i) => Math.cos(i));
      const mask = Bitmask.fromIds([1, 5, 9, 30], rows);
      const want = await mlp.forward(x, { mask, strategy: 'dense' });
      const near = async () => {
        const got = await mlp.forward(x, { mask });
        got.forEach((v, i) => void expect(Math.abs(v - want[i])).toBeLessThan(1e-4));
      };
      setTuning(ctx.device, {
        entries: [],
        costs: [
          {
            ...COSTS,
            launch: 0,
            move: { each: 0, gigabyte: 50 },
            read: { dense: 900, indexed: 800, packed: 1 },
          },
        ],
      });
      expect(mlp.explain({ mask })).toMatchObject({
        strategy: 'paired',
        step: { writes: 4, active: 4, rows },
      });
      await near();
      // The slab holds the mask now.
      expect(mlp.explain({ mask }).step.writes).toBe(0);
      expect(mlp.slab.active).toBe(4);
      // More rows than slots: packed ways are not open.
      const many = Bitmask.fromIds(
        Array.from({ length: 41 }, (_, i) => i),
        rows,
      );
      expect(mlp.explain({ mask: many }).strategy).toBe('indexed');
      setTuning(ctx.device, {
        entries: [],
        costs: [{ ...COSTS, launch: 0, read: { dense: 1, indexed: 800, packed: 900 } }],
      });
      expect(mlp.explain({ mask }).strategy).toBe('dense');
      await near();
      expect(() => mlp.explain({ mask: Bitmask.empty(rows + 1) })).toThrow(ShapeError);
      expect(() => mlp.explain({ mask, reuse: 0 })).toThrow(OptionError);
    } finally {
      mlp.destroy();
    }
  });

  it('measures finite costs, of which a dispatch is not free', async () => {
    const costs = await measureCosts(ctx.device, 'f16', { size: 'small' });
    const numbers = [costs.launch, costs.wait, costs.move.gigabyte, costs.select.gigabyte];
    numbers.push(...Object.values(costs.read), ...Object.values(costs.readBatched));
    for (const value of numbers) expect(Number.isFinite(value) && value >= 0).toBe(true);
    expect(costs.wait).toBeGreaterThan(0);
  });
});
