import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { OptionError, ShapeError } from '../../src/errors.js';
import { gpuBytes } from '../../src/gpu/buffers.js';
import { rateAt } from '../../src/gpu/rates.js';
import {
  type Costs,
  measuredCosts,
  type Rates,
  type ReadCosts,
  setTuning,
  type Tuning,
} from '../../src/gpu/tuning.js';
import { parseTuning, serializeTuning } from '../../src/gpu/tuning-parse.js';
import { fasterStorage } from '../../src/gpu/texels.js';
import { Bitmask } from '../../src/mask/index.js';
import { decide, defaultCosts, estimate, type StepShape } from '../../src/mlp/cost-model.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { measuredTau, tauOf } from '../../src/slab/tau.js';
import { measureCosts } from '../../src/tune/costs.js';
import { describeAdapters } from '../support/adapters.js';

const reads = (dense: number, indexed: number, again: number, packed: number): ReadCosts => ({
  launch: 0.02,
  dense: [[1, dense]],
  indexed: [
    [0.1, indexed],
    [0.5, indexed + 40],
    [1, dense],
  ],
  again: [[1, again]],
  packed: [[1, packed]],
});
const COSTS: Costs = {
  dtype: 'f32',
  rowBytes: 10_000,
  rows: 8000,
  wait: 0.3,
  read: reads(100, 120, 110, 100),
  readBatched: reads(200, 300, 300, 200),
  move: { launch: 0.01, rates: [[0.25, 200]] },
  select: { launch: 0.01, rates: [[0.25, 100]] },
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

describe('rates', () => {
  const rates = [
    [0.1, 10],
    [0.5, 30],
    [1, 20],
  ] as const;

  it('are points with straight lines between them, and level beyond', () => {
    expect(rates.map(([share]) => rateAt(rates, share))).toEqual([10, 30, 20]);
    expect([0, 0.05, 1.5].map((share) => rateAt(rates, share))).toEqual([10, 10, 20]);
    expect(rateAt(rates, 0.3)).toBeCloseTo(20, 9);
    expect(rateAt(rates, 0.75)).toBeCloseTo(25, 9);
    expect(rateAt([[0.5, 7]], 0.2)).toBe(7);
  });
});

describe('estimate', () => {
  it('adds up launches, reads and copies', () => {
    const costs = estimate(COSTS, STEP);
    expect(costs.dense).toBeCloseTo(0.02 + 0.08 * 100, 9);
    expect(costs.indexed).toBeCloseTo(0.02 + 0.008 * 120, 9);
    expect(costs.paired).toBeCloseTo(0.02 + 0.008 * 100 + 0.01 + 0.004 * 200, 9);
    expect(costs.repack).toBeCloseTo(0.02 + 0.008 * 100 + 0.01 + 0.008 * 100, 9);
  });

  it('reads at the rate of the share of the rows', () => {
    expect(estimate(COSTS, { ...STEP, active: 2400 }).indexed).toBeCloseTo(0.02 + 0.024 * 140, 9);
    expect(estimate(COSTS, { ...STEP, active: 8000 }).indexed).toBeCloseTo(0.02 + 0.08 * 100, 9);
  });

  it('takes rows that the step before used, and all rows from the second use on, to be in a cache', () => {
    expect(estimate(COSTS, { ...STEP, fresh: 0 }).indexed).toBeCloseTo(0.02 + 0.008 * 110, 9);
    expect(estimate(COSTS, { ...STEP, fresh: 200 }).indexed).toBeCloseTo(0.02 + 0.008 * 112.5, 9);
    expect(estimate(COSTS, { ...STEP, reuse: 4 }).indexed).toBeCloseTo(0.02 + 0.008 * 112.5, 9);
    expect(estimate(COSTS, { ...STEP, active: 0, writes: 0 }).indexed).toBeCloseTo(0.02, 9);
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
    expect(tauOf(COSTS)).toBeCloseTo(0.5, 9);
    expect(tauOf({ move: COSTS.select, select: COSTS.move })).toBe(1);
    expect(tauOf({ ...COSTS, move: { launch: 0, rates: [[1, 0]] } })).toBe(1);
  });
});

describeAdapters('the cost model', (ctx) => {
  afterEach(() => setTuning(ctx.device, null));

  it('takes the least of its estimates, or one that is as good as it, whatever they are', () => {
    const time = fc.double({ min: 0, max: 1, noNaN: true });
    const rates = fc.uniqueArray(time, { minLength: 1, maxLength: 4 }).chain((shares) =>
      fc
        .array(fc.double({ min: 0, max: 500, noNaN: true }), {
          minLength: shares.length,
          maxLength: shares.length,
        })
        .map((values): Rates => shares.sort((a, b) => a - b).map((share, i) => [share, values[i]])),
    );
    const read = fc.record({ launch: time, dense: rates, indexed: rates, again: rates, packed: rates });
    const copy = fc.record({ launch: time, rates });
    const any = fc.record({
      dtype: fc.constant('f32' as const),
      rowBytes: fc.constant(10_000),
      rows: fc.constant(8000),
      wait: time,
      read,
      readBatched: read,
      move: copy,
      select: copy,
    });
    const shape = fc.record({
      active: fc.integer({ min: 0, max: 8000 }),
      batch: fc.integer({ min: 1, max: 40 }),
      reuse: fc.integer({ min: 1, max: 9 }),
      waits: fc.boolean(),
      fits: fc.boolean(),
    });
    fc.assert(
      fc.property(any, shape, time, time, (costs, some, share, fresh) => {
        setTuning(ctx.device, { entries: [], costs: [costs] });
        const writes = Math.round(some.active * share);
        const step = { ...STEP, ...some, writes, fresh: Math.round(some.active * fresh) };
        const { strategy, estimates, measured, because } = decide(ctx.device, 'f32', step);
        const open = Object.entries(estimates).filter(
          ([name]) => step.fits || name === 'dense' || name === 'indexed',
        );
        for (const [name, ms] of Object.entries(estimates))
          expect(ms >= 0 && Number.isFinite(ms), name).toBe(true);
        expect(open.map(([name]) => name)).toContain(strategy);
        expect(estimates[strategy]).toBeLessThanOrEqual(Math.min(...open.map(([, ms]) => ms)) / 0.97 + 1e-12);
        expect(measured).toBe(true);
        expect(because).toContain(`${some.active} of 8000 rows`);
      }),
      { numRuns: 200 },
    );
  });

  it('keeps less state where that is as good as equal', () => {
    const with3 = (packed: number): Tuning => ({
      entries: [],
      costs: [{ ...COSTS, read: { ...COSTS.read, packed: [[1, packed]] } }],
    });
    const step = { ...STEP, writes: 0 };
    setTuning(ctx.device, with3(119));
    expect(decide(ctx.device, 'f32', step).strategy).toBe('indexed');
    setTuning(ctx.device, with3(110));
    expect(decide(ctx.device, 'f32', step).strategy).toBe('paired');
  });

  it('goes by the costs of the layer nearest in size', () => {
    const of = (rowBytes: number, rows: number, wait: number): Costs => ({ ...COSTS, rowBytes, rows, wait });
    const costs = [of(3000, 8000, 1), of(24_000, 8000, 2), of(24_000, 1000, 3)];
    setTuning(ctx.device, { entries: [], costs });
    const near = (rowBytes: number, rows: number, dtype: 'f32' | 'f16' = 'f32') =>
      measuredCosts(ctx.device, dtype, { rowBytes, rows })?.wait;
    expect([near(2000, 9000), near(20_000, 9000), near(20_000, 900), near(1, 1)]).toEqual([1, 2, 3, 1]);
    expect(near(3000, 8000, 'f16')).toBeUndefined();
  });

  it('goes by the costs of rows in the same storage', () => {
    const texture: Costs = { ...COSTS, storage: 'texture', wait: 9, move: { launch: 0, rates: [[1, 200]] } };
    setTuning(ctx.device, { entries: [], costs: [texture, { ...COSTS, rows: 10 }] });
    const wait = (storage?: 'buffer' | 'texture') =>
      measuredCosts(ctx.device, 'f32', { ...STEP, storage })?.wait;
    expect([wait(), wait('buffer'), wait('texture')]).toEqual([0.3, 0.3, 9]);
    setTuning(ctx.device, { entries: [], costs: [{ ...texture, select: { launch: 0, rates: [[1, 50]] } }] });
    expect(measuredTau(ctx.device, 'f32', STEP)).toBe(1);
    expect(measuredTau(ctx.device, 'f32', { ...STEP, storage: 'texture' })).toBeCloseTo(0.25, 9);
    expect(decide(ctx.device, 'f32', STEP).measured).toBe(false);
    expect(decide(ctx.device, 'f32', { ...STEP, storage: 'texture' }).measured).toBe(true);
  });

  it('has defaults for textures that differ where those are read faster, and only for what is not in a slab', () => {
    const of = (storage: 'buffer' | 'texture') => {
      const step = { ...STEP, writes: 0, storage };
      return {
        ...estimate(defaultCosts(ctx.device, 'f32', step), step),
        storage: defaultCosts(ctx.device, 'f32', step).storage,
      };
    };
    const [buffer, texture] = [of('buffer'), of('texture')];
    expect([buffer.storage, texture.storage]).toEqual([undefined, 'texture']);
    expect(texture.paired).toBe(buffer.paired);
    if (fasterStorage(ctx.device) === 'texture') {
      expect(texture.dense).toBeLessThan(buffer.dense / 2);
      expect(texture.indexed).toBeLessThan(buffer.indexed / 2);
      // Packed rows, in a buffer, are not worth it then, however often they are used.
      const step = { ...STEP, reuse: 100, storage: 'texture' } as const;
      expect(decide(ctx.device, 'f32', step).strategy).toBe('indexed');
    } else expect({ ...texture, storage: undefined }).toEqual({ ...buffer, storage: undefined });
  });

  it('has defaults for an adapter on which nothing was measured', () => {
    const few = decide(ctx.device, 'f32', STEP);
    expect(few).toMatchObject({ strategy: 'indexed', measured: false, tau: 1 });
    expect(decide(ctx.device, 'f32', { ...STEP, active: 8000, writes: 8000 }).strategy).toBe('dense');
    expect(decide(ctx.device, 'q8', { ...STEP, writes: 4, reuse: 50 }).strategy).toBe('paired');
    expect(measuredTau(ctx.device, 'f32', STEP)).toBe(1);
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
            move: { launch: 0, rates: [[1, 50]] },
            read: { ...reads(900, 800, 800, 1), launch: 0 },
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
        costs: [{ ...COSTS, read: { ...reads(1, 8000, 8000, 9000), launch: 0 } }],
      });
      expect(mlp.explain({ mask }).strategy).toBe('dense');
      await near();
      expect(() => mlp.explain({ mask: Bitmask.empty(rows + 1) })).toThrow(ShapeError);
      expect(() => mlp.explain({ mask, reuse: 0 })).toThrow(OptionError);
    } finally {
      mlp.destroy();
    }
  });

  it('tells the model what its rows are read from', async () => {
    const values = new Float32Array(32 * 64).fill(0.5);
    for (const storage of ['buffer', 'texture'] as const) {
      const mlp = await SparseMLP.create(ctx.device, {
        hidden: 32,
        gate: values,
        up: values,
        down: values,
        storage,
      });
      expect(mlp.explain().step.storage).toBe(storage);
      mlp.destroy();
    }
  });

  it('counts as fresh what its last step did not use, and all rows once another layer has run', async () => {
    const [rows, hidden] = [64, 32];
    const values = Float32Array.from({ length: rows * hidden }, (_, i) => Math.sin(i));
    const weights = { hidden, gate: values, up: values, down: values };
    const [mlp, other] = [
      await SparseMLP.create(ctx.device, weights),
      await SparseMLP.create(ctx.device, weights),
    ];
    try {
      const x = new Float32Array(hidden).fill(1);
      const of = (...ids: number[]) => Bitmask.fromIds(ids, rows);
      const fresh = (mask: Bitmask) => mlp.explain({ mask }).step.fresh;
      expect(fresh(of(1, 2))).toBe(2);
      const mask = of(1, 2, 3);
      await mlp.forward(x, { mask, strategy: 'indexed' });
      // A mask is the caller's: what it becomes later is not what was used.
      mask.add(9);
      expect([fresh(of(1, 2)), fresh(of(2, 9)), fresh(of(8, 9, 10))]).toEqual([0, 1, 3]);
      await mlp.forward(x, { mask: of(9), strategy: 'paired' });
      expect(fresh(of(1, 9))).toBe(1);
      await other.forward(x, { mask: of(9), strategy: 'dense' });
      expect(fresh(of(1, 9))).toBe(2);
    } finally {
      mlp.destroy();
      other.destroy();
    }
  });

  it.each([
    [64, 700, 'buffer'],
    [32, 5, 'texture'],
  ] as const)(
    'measures finite costs of %i columns and %i rows in a %s, in the form that files have',
    async (hidden, rows, storage) => {
      const before = gpuBytes(ctx.device);
      const costs = await measureCosts(ctx.device, { hidden, rows, dtype: 'f16', storage }, { budgetMs: 1 });
      expect(gpuBytes(ctx.device)).toBe(before);
      expect(costs).toMatchObject({ dtype: 'f16', rowBytes: 6 * hidden, rows });
      expect(costs.wait).toBeGreaterThan(0);
      // The parser refuses what is no finite number of 0 or more, an empty list, and shares out of order.
      const tuning = { entries: [], costs: [costs] };
      expect(parseTuning(JSON.parse(JSON.stringify(serializeTuning(tuning, 'k'))))).toEqual(tuning);
      expect(costs.read.indexed.at(-1)?.[0]).toBe(1);
      for (const { again, indexed } of [costs.read, costs.readBatched])
        for (const [share, rate] of again)
          expect(rate).toBeLessThanOrEqual(rateAt(indexed, share) * (1 + 1e-9));
      // What a texture's rows cost all together says nothing of a slab's.
      expect(costs.storage).toBe(storage === 'texture' ? 'texture' : undefined);
      expect(costs.read.packed.at(-1)?.[0] === 1).toBe(storage === 'buffer');
    },
  );

  it('stops measuring when it is told to, and leaves nothing behind', async () => {
    const before = gpuBytes(ctx.device);
    const abort = new AbortController();
    const running = measureCosts(
      ctx.device,
      { hidden: 32, rows: 64, dtype: 'f32' },
      { signal: abort.signal, onProgress: (done) => done === 1 && abort.abort() },
    );
    await expect(running).rejects.toThrow(/abort/i);
    expect(gpuBytes(ctx.device)).toBe(before);
  });
});
