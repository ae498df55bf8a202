import type { RowStorage } from '../../src/gpu/storage.js';
import { STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import {
  type Arm,
  type ArmTimes,
  FIXED,
  fastestOf,
  LayerBench,
  takenBy,
  timeArms,
  type Writes,
} from '../lib/arms.js';
import { Ceilings, type ReadCeilings } from '../../src/tune/ceilings.js';
import { hostBytes, makeLayer, memoryShortage, type Shape, SHAPES, shapeOf } from '../lib/layers.js';
import { Lazy } from '../lib/lazy.js';
import { MeasuredCosts } from '../lib/measured-costs.js';
import type { CostOptions } from '../../src/tune/costs.js';
import { MaskRing } from '../../src/tune/mask-ring.js';
import type { DeviceContext, Result, Skipped, SuiteOutcome } from '../lib/report.js';
import { storageOf } from '../lib/storage.js';
import { randomSource, ratioOf, type Stats, statsOf } from '../../src/tune/stats.js';
import { type DeviceTimer, deviceTimer } from '../../src/tune/timer.js';

const ARMS: readonly Arm[] = [...FIXED, 'auto'];
const READERS: readonly Arm[] = ['dense', 'indexed', 'auto'];
const DENSITIES = [1, 5, 10, 25, 50, 100];

/** What a quick run makes do with: costs of as few rounds as there can be, and no slab of all rows. */
const QUICK_COSTS: CostOptions = { budgetMs: 0 };
const QUICK_MOST = 50;

/** Of the case that most is said of: with seven rounds its ratio to dense was sure to a third at most on a shared machine. */
const HEADLINE_ROUNDS = 21;
const isHeadline = ({ shape, dtype, density, writes, reuse }: Case): boolean =>
  shape.name === 'llama1b' && dtype === 'f32' && density === 10 && writes === 1 && reuse === 1;

/** One group of arms that are timed side by side. */
interface Case {
  shape: Shape;
  dtype: StoredDtype;
  /** Active rows in percent of N. */
  density: number;
  /** Share of the active rows that each new mask replaces; none can be at 100 %. */
  writes: number;
  /** Steps that each mask is used for. */
  reuse: number;
}

/** What is kept of a case: everything else is worked out from it. */
interface Measured {
  times: ArmTimes;
  /** The read ceilings, round by round. */
  ceilings: ReadCeilings<number[]>;
  writes: Writes | null;
  /** Bytes of one stored row, scales and padding included. */
  rowBytes: number;
}

const activeOf = ({ shape, density }: Case): number => Math.max(1, Math.round((shape.rows * density) / 100));
const nameOf = ({ shape, dtype, density, writes, reuse }: Case): string =>
  `${shape.name} ${dtype} d${density} w${writes} r${reuse}`;

/**
 * One MLP layer, mask in, by every strategy: device time of a step, several steps in one submit and divided, masks made
 * before the clock starts; and wall time, mask in hand to GPU done.
 *
 * Caches: what a step reads anew (writes/m of its rows) was last read before the rest of the layer was; at
 * writes/m = 1 every step reads rows that none of the last N/m - 1 steps has read, and the figures `read_fraction`
 * are of those. At a smaller writes/m, and when a mask is used 8 times, rows are read again soon after, as they would
 * be in use, and may come from a cache where they fit: compare strategies there, not fractions of the ceiling.
 *
 * `readGbps` counts the weights of the active rows, which is what the result needs: once a step, whatever the strategy
 * reads besides (dense: all rows; repack and paired: the rows they copy). `readFraction` is its share of the read
 * ceiling of storage buffers, whatever the layer's rows are in, so that all files compare and what is above 1 shows what a
 * layer in buffers could not reach; `readFractionOfBest` its share of the faster of that and the ceiling of textures. Both
 * ceilings have their turn among the arms in each round, since machines change their pace from one second to the next.
 *
 * Rows are in what the adapter reads faster (`storage` of a result: what dense and indexed read; repack and paired read a
 * slab, which is in buffers). Where that is textures, one arm of a layer in buffers has its turns beside the strategies at
 * 10 and 100 % (`texture_speedup`: its time over that of the same strategy).
 */
export async function mlpSuite(context: DeviceContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const costs = new MeasuredCosts(device);
  const storage = storageOf(context);
  const cases = casesFor(context);
  const results: Result[] = [];
  const skipped: Skipped[] = [];
  const summary: Record<string, number> = {};
  let regret: number | null = null;
  let done = 0;
  try {
    for (const group of groupsOf(cases)) {
      const { shape, dtype } = group[0];
      const packs = (one: Case): boolean => !context.quick || one.density <= QUICK_MOST;
      const capacity = Math.max(...group.filter(packs).map(activeOf));
      const shortage = memoryShortage(hostBytes(shape, dtype, capacity));
      const layer = new Lazy(async () => {
        // Half the rows are enough to be beyond caches, and cost half the time.
        if (context.quick)
          await costs.measure({ ...shape, rows: shape.rows / 2, dtype, storage }, QUICK_COSTS);
        else await costs.measure({ ...shape, dtype, storage });
        return new Layer(await makeLayer(device, shape, dtype, capacity, { storage }), timer);
      });
      const inBuffers = new Lazy(
        async () => new Layer(await makeLayer(device, shape, dtype, 1, { storage: 'buffer' }), timer),
      );
      for (const one of group) {
        const name = nameOf(one);
        context.progress(done++, cases.length, name);
        if (shortage) {
          skipped.push({ case: name, reason: shortage });
          continue;
        }
        const rival = storage === 'texture' ? rivalOf(one) : undefined;
        const kept = await context.measured(name, async () => {
          const other = rival && { bench: (await inBuffers.get()).bench, arm: rival };
          return measure(await layer.get(), one, packs(one) ? ARMS : READERS, other, ceilings, context);
        });
        for (const [arm, reason] of Object.entries(kept.times.skipped)) {
          skipped.push({ case: `${name} ${arm}`, reason });
        }
        const rows = rowsOf(one, kept, storage);
        results.push(...rows);
        summarise(one, rows, summary);
        const faster = rival && ratioOf(kept.times.rival?.deviceMs ?? [], kept.times.deviceMs[rival] ?? []);
        if (rival && faster) {
          results.push(rivalRow(one, kept, rival, faster));
          summary[`mlp.${shape.name}.d${one.density}.texture_speedup`] = faster.median;
        }
        const judged = judge(kept.times);
        if (judged) regret = Math.max(regret ?? 0, judged.regret.median);
        context.log(
          `${name}: ms ${rows.map((row) => `${row.strategy} ${row.deviceMs.median.toFixed(2)}`).join(', ')}` +
            (judged
              ? `; auto ${judged.took}, behind ${judged.best} by ${percent(judged.regret.median)}`
              : '') +
            (faster ? `; ${rival} ${faster.median.toFixed(2)} times as fast as from buffers` : ''),
        );
      }
      await layer.destroy();
      await inBuffers.destroy();
    }
  } finally {
    costs.restore();
    ceilings.destroy();
    timer.destroy();
  }
  if (regret !== null) summary['mlp.auto_worst_regret'] = regret;
  return { results, summary, skipped };
}

/** The layer and what runs it, destroyed together. */
class Layer {
  readonly bench: LayerBench;

  constructor(mlp: Awaited<ReturnType<typeof makeLayer>>, timer: DeviceTimer) {
    this.bench = new LayerBench(mlp, timer);
  }

  destroy(): void {
    this.bench.destroy();
    this.bench.mlp.destroy();
  }
}

async function measure(
  { bench }: Layer,
  one: Case,
  arms: readonly Arm[],
  rival: { bench: LayerBench; arm: Arm } | undefined,
  ceilings: Ceilings,
  context: DeviceContext,
): Promise<Measured> {
  const m = activeOf(one);
  const rounds = context.full ? 15 : context.quick ? 3 : 7;
  const change = one.density === 100 ? 0 : Math.max(1, Math.round(one.writes * m));
  const ring = new MaskRing({ n: one.shape.rows, m, change }, 'random', m);
  const rates: ReadCeilings<number[]> = { buffer: [], texture: [] };
  const times = await timeArms(bench, {
    arms,
    // Dense reads every row whatever the mask: it needs no 8 steps to show what a step takes.
    chain: (sets, arm) => ring.take(sets, arm === 'dense' ? 1 : one.reuse),
    repeats: isHeadline(one) && !context.quick ? HEADLINE_ROUNDS : rounds,
    wallRounds: rounds,
    budgetMs: context.quick ? 40 : 80,
    random: randomSource(m + one.reuse),
    finalMs: context.quick ? 0 : 3000,
    beside: async () => {
      const { buffer, texture } = await ceilings.reads(1);
      rates.buffer.push(buffer.median);
      rates.texture.push(texture.median);
    },
    rival,
  });
  const writes = times.deviceMs.paired ? await bench.updateMs('paired', ring.take(4)) : null;
  return { times, writes, ceilings: rates, rowBytes: bench.mlp.pool.rowBytes };
}

/** The columns of an arm's row that its times decide; `readFraction`s round by round. */
function figuresOf(one: Case, values: readonly number[], { ceilings, rowBytes, times }: Measured) {
  const bytesNeeded = activeOf(one) * rowBytes;
  const deviceMs = statsOf(values);
  const [ofBuffers, ofTextures] = [statsOf(ceilings.buffer), statsOf(ceilings.texture)];
  const best = ofTextures.median > ofBuffers.median ? ceilings.texture : ceilings.buffer;
  const over = (ceiling: readonly number[]) =>
    statsOf(values.map((ms, r) => bytesNeeded / ms / 1e6 / ceiling[r]));
  return {
    deviceMs,
    bytesNeeded,
    readGbps: bytesNeeded / deviceMs.median / 1e6,
    readFraction: over(ceilings.buffer),
    readFractionOfBest: over(best),
    readCeiling: ofBuffers,
    textureCeiling: ofTextures,
    speedupOverDense: times.deviceMs.dense && ratioOf(times.deviceMs.dense, values),
  };
}

function rowsOf(one: Case, kept: Measured, storage: RowStorage) {
  const { times, writes, rowBytes } = kept;
  const { shape, dtype, density, reuse } = one;
  return Object.entries(times.deviceMs).map(([strategy, values]) => ({
    suite: 'mlp',
    case: `${nameOf(one)} ${strategy}`,
    shape: shape.name,
    hidden: shape.hidden,
    rows: shape.rows,
    dtype,
    storage,
    density,
    active: activeOf(one),
    strategy: strategy as Arm,
    reuse,
    writesPerM: density === 100 ? 0 : one.writes,
    realisedWritesPerM: writes?.writesPerM,
    realisedChangedPerM: writes?.changedPerM,
    steps: times.steps[strategy as Arm],
    wallMs: statsOf(times.wallMs[strategy as Arm] as number[]),
    rowBytes,
    layerBytes: shape.rows * rowBytes,
    ...figuresOf(one, values, kept),
    ...(strategy === 'auto' ? { auto: judge(times) } : {}),
  }));
}

/** What a layer in buffers runs beside the strategies of a case: the reader that is the best there. */
function rivalOf({ shape, dtype, density, writes, reuse }: Case): Arm | undefined {
  if (shape.name !== 'llama1b' || dtype !== 'f32' || reuse !== 1) return undefined;
  if (density === 100) return 'dense';
  return density === 10 && writes === 1 ? 'indexed' : undefined;
}

/** Not one of the strategies: by its own name it is a line, or a bar, of its own in the charts. */
function rivalRow(one: Case, kept: Measured, arm: Arm, textureSpeedup: Stats): Result {
  const { steps, deviceMs, wallMs } = kept.times.rival as NonNullable<ArmTimes['rival']>;
  const { shape, dtype, density, reuse } = one;
  return {
    suite: 'mlp',
    case: `${nameOf(one)} ${arm} from buffers`,
    shape: shape.name,
    hidden: shape.hidden,
    rows: shape.rows,
    dtype,
    storage: 'buffer',
    density,
    active: activeOf(one),
    strategy: `${arm} from buffers`,
    reuse,
    writesPerM: density === 100 ? 0 : one.writes,
    steps,
    wallMs: statsOf(wallMs),
    rowBytes: kept.rowBytes,
    layerBytes: shape.rows * kept.rowBytes,
    ...figuresOf(one, deviceMs, kept),
    textureSpeedup,
  };
}

/**
 * How good `auto` was: the time of what it took over that of the best of the four, less 1, pair by pair over all rounds
 * (`regret`, device time), and its own wall time, choosing included, over that of the fastest by wall (`wallRegret`).
 */
function judge({ chosen, estimates, finalMs, wallMs }: ArmTimes) {
  const took = takenBy(chosen);
  const mine = took && finalMs[took];
  if (!mine) return null;
  const best = fastestOf(mediansOf(finalMs), FIXED);
  const wallBest = fastestOf(mediansOf(wallMs), FIXED);
  const behind = (a: readonly number[], b: readonly number[]) => statsOf(a.map((ms, i) => ms / b[i] - 1));
  return {
    chosen,
    took,
    best,
    regret: behind(mine, finalMs[best] as number[]),
    wallBest,
    wallRegret: behind(wallMs.auto as number[], wallMs[wallBest] as number[]),
    estimates,
  };
}

const mediansOf = (times: Partial<Record<Arm, number[]>>): Partial<Record<Arm, number>> =>
  Object.fromEntries(Object.entries(times).map(([arm, values]) => [arm, statsOf(values).median]));

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;

/** Adds the case's figures to the summary. */
function summarise(one: Case, rows: ReturnType<typeof rowsOf>, summary: Record<string, number>): void {
  const { shape, dtype, density, writes, reuse } = one;
  if (reuse !== 1 || (writes !== 1 && density !== 100)) return;
  const medians = Object.fromEntries(rows.map((row) => [row.strategy, row.deviceMs.median]));
  const prefix = `mlp.${shape.name}.d${density}${dtype === 'f32' ? '' : `.${dtype}`}`;
  const best = fastestOf(medians, FIXED);
  const sparse = fastestOf(
    medians,
    FIXED.filter((arm) => arm !== 'dense'),
  );
  const reader = rows.find((row) => row.strategy === best);
  if (reader) {
    summary[`${prefix}.read_fraction`] = reader.readFraction.median;
    summary[`${prefix}.read_fraction_of_best`] = reader.readFractionOfBest.median;
  }
  const speedup = rows.find((row) => row.strategy === sparse)?.speedupOverDense;
  if (speedup) summary[`${prefix}.speedup_vs_dense`] = speedup.median;
}

/** Cases in runs of one layer, which is uploaded once for all of them. */
function groupsOf(cases: readonly Case[]): Case[][] {
  const groups = new Map<string, Case[]>();
  for (const one of cases) {
    const key = `${one.shape.name} ${one.dtype}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()];
}

function casesFor({ full, quick }: DeviceContext): Case[] {
  const wanted: Case[] = [];
  const add = (
    shape: Shape,
    dtype: StoredDtype,
    densities: readonly number[],
    writes: readonly number[],
    reuses: readonly number[],
  ): void => {
    for (const density of densities) {
      // With every row active nothing can change: one case stands for all.
      const shares = density === 100 ? [0] : writes;
      for (const w of shares)
        for (const reuse of reuses) wanted.push({ shape, dtype, density, writes: w, reuse });
    }
  };
  if (full) {
    for (const shape of SHAPES)
      for (const dtype of STORED_DTYPES) add(shape, dtype, DENSITIES, [0.05, 0.2, 1], [1, 8]);
    return wanted;
  }
  const llama = shapeOf('llama1b');
  const narrow = STORED_DTYPES.filter((dtype) => dtype !== 'f32');
  if (quick) {
    add(llama, 'f32', [10, 100], [1], [1]);
    return wanted;
  }
  add(llama, 'f32', DENSITIES, [1], [1]);
  add(llama, 'f32', [1, 5, 10, 25, 50], [0.2], [8]);
  for (const dtype of narrow) add(llama, dtype, [10, 100], [1], [1]);
  const published = shapeOf('published');
  add(published, 'f32', [10], [0.05, 1], [1]);
  add(published, 'f32', [10], [0.2], [1, 8]);
  return wanted;
}
