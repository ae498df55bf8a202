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
import { Ceilings } from '../../src/tune/ceilings.js';
import { hostBytes, makeLayer, memoryShortage, type Shape, SHAPES, shapeOf } from '../lib/layers.js';
import { Lazy } from '../lib/lazy.js';
import { MeasuredCosts } from '../lib/measured-costs.js';
import type { CostOptions } from '../../src/tune/costs.js';
import { MaskRing } from '../../src/tune/mask-ring.js';
import type { DeviceContext, Result, Skipped, SuiteOutcome } from '../lib/report.js';
import { randomSource, ratioOf, statsOf } from '../../src/tune/stats.js';
import { type DeviceTimer, deviceTimer } from '../../src/tune/timer.js';

const ARMS: readonly Arm[] = [...FIXED, 'auto'];
const READERS: readonly Arm[] = ['dense', 'indexed', 'auto'];
const DENSITIES = [1, 5, 10, 25, 50, 100];

/** What a quick run makes do with: costs of as few rounds as there can be, and no slab of all rows. */
const QUICK_COSTS: CostOptions = { budgetMs: 0 };
const QUICK_MOST = 50;

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
  /** The read ceiling, round by round. */
  readGbps: number[];
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
 * ceiling, which has its turn among the arms in each round, since machines change their pace from one second to the next.
 */
export async function mlpSuite(context: DeviceContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const costs = new MeasuredCosts(device);
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
        if (context.quick) await costs.measure({ ...shape, rows: shape.rows / 2, dtype }, QUICK_COSTS);
        else await costs.measure({ ...shape, dtype });
        return new Layer(await makeLayer(device, shape, dtype, capacity), timer);
      });
      for (const one of group) {
        const name = nameOf(one);
        context.progress(done++, cases.length, name);
        if (shortage) {
          skipped.push({ case: name, reason: shortage });
          continue;
        }
        const kept = await context.measured(name, async () =>
          measure(await layer.get(), one, packs(one) ? ARMS : READERS, ceilings, context),
        );
        for (const [arm, reason] of Object.entries(kept.times.skipped)) {
          skipped.push({ case: `${name} ${arm}`, reason });
        }
        const rows = rowsOf(one, kept);
        results.push(...rows);
        summarise(one, rows, summary);
        const judged = judge(kept.times);
        if (judged) regret = Math.max(regret ?? 0, judged.regret.median);
        context.log(
          `${name}: ms ${rows.map((row) => `${row.strategy} ${row.deviceMs.median.toFixed(2)}`).join(', ')}` +
            (judged
              ? `; auto ${judged.took}, behind ${judged.best} by ${percent(judged.regret.median)}`
              : ''),
        );
      }
      await layer.destroy();
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
  ceilings: Ceilings,
  context: DeviceContext,
): Promise<Measured> {
  const m = activeOf(one);
  const change = one.density === 100 ? 0 : Math.max(1, Math.round(one.writes * m));
  const ring = new MaskRing({ n: one.shape.rows, m, change }, 'random', m);
  const readGbps: number[] = [];
  const times = await timeArms(bench, {
    arms,
    // Dense reads every row whatever the mask: it needs no 8 steps to show what a step takes.
    chain: (sets, arm) => ring.take(sets, arm === 'dense' ? 1 : one.reuse),
    repeats: context.full ? 15 : context.quick ? 3 : 7,
    budgetMs: context.quick ? 40 : 80,
    random: randomSource(m + one.reuse),
    finalMs: context.quick ? 0 : 3000,
    beside: async () => {
      readGbps.push((await ceilings.read(1)).median);
    },
  });
  const writes = times.deviceMs.paired ? await bench.updateMs('paired', ring.take(4)) : null;
  return { times, writes, readGbps, rowBytes: bench.mlp.pool.rowBytes };
}

function rowsOf(one: Case, { times, readGbps: ceiling, writes, rowBytes }: Measured) {
  const { shape, dtype, density, reuse } = one;
  const m = activeOf(one);
  return Object.entries(times.deviceMs).map(([strategy, values]) => {
    const deviceMs = statsOf(values);
    const readGbps = (m * rowBytes) / deviceMs.median / 1e6;
    return {
      suite: 'mlp',
      case: `${nameOf(one)} ${strategy}`,
      shape: shape.name,
      hidden: shape.hidden,
      rows: shape.rows,
      dtype,
      density,
      active: m,
      strategy: strategy as Arm,
      reuse,
      writesPerM: density === 100 ? 0 : one.writes,
      realisedWritesPerM: writes?.writesPerM,
      realisedChangedPerM: writes?.changedPerM,
      steps: times.steps[strategy as Arm],
      deviceMs,
      wallMs: statsOf(times.wallMs[strategy as Arm] as number[]),
      rowBytes,
      bytesNeeded: m * rowBytes,
      layerBytes: shape.rows * rowBytes,
      readGbps,
      readFraction: statsOf(values.map((ms, r) => (m * rowBytes) / ms / 1e6 / ceiling[r])),
      readCeiling: statsOf(ceiling),
      speedupOverDense: times.deviceMs.dense && ratioOf(times.deviceMs.dense, values),
      ...(strategy === 'auto' ? { auto: judge(times) } : {}),
    };
  });
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
  summary[`${prefix}.read_fraction`] = rows.find((row) => row.strategy === best)?.readFraction
    .median as number;
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
