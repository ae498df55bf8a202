import { STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { type Arm, type ArmTimes, LayerBench, takenBy, timeArms } from '../lib/arms.js';
import { Ceilings, type Framed, framedReads, type ReadCeilings } from '../../src/tune/ceilings.js';
import { fractionsOf } from '../lib/fractions.js';
import { hostBytes, makeLayer, memoryShortage, type Shape, SHAPES, shapeOf } from '../lib/layers.js';
import { Lazy } from '../lib/lazy.js';
import { MeasuredCosts } from '../lib/measured-costs.js';
import { MaskRing } from '../../src/tune/mask-ring.js';
import type { BenchContext, Result, Skipped, SuiteOutcome } from '../lib/report.js';
import { storageOf } from '../lib/storage.js';
import { randomSource, ratioOf, type Stats, statsOf } from '../../src/tune/stats.js';
import { deviceTimer } from '../../src/tune/timer.js';

const ARMS: readonly Arm[] = ['dense', 'indexed', 'packed', 'paired', 'repack'];
/** From so many percent on no slab is made: what is left is whether `auto` sees that a list does not pay. */
const TOO_DENSE = 60;
const READERS: readonly Arm[] = ['dense', 'indexed'];
/** Those that copy rows, and the one that may: their masks change from step to step. */
const WRITERS: readonly Arm[] = ['paired', 'repack', 'auto'];
/** From so many elements on, a step takes so long that none comes before those that are timed. */
const LONG = 16;
/** Share of the active rows that each step's mask replaces: what `paired` has to write. */
const WRITES = 0.2;

interface Grid {
  shapes: readonly Shape[];
  dtypes: readonly StoredDtype[];
  densities: readonly number[];
  batches: readonly number[];
}

/**
 * A batch of activations that shares one mask, the union of what its elements want: dense, indexed, and packed rows,
 * by batch and by the union's density. `packed` finds its rows in the slab (reading alone, which indexed must be
 * compared with to see what contiguous rows are worth). Those three read the same rows at every step, from a cache
 * where they fit; `paired` and `repack` have a fifth of the rows change at every step, and bring in what they must.
 *
 * `auto` has measured costs and the same masks as `paired`; `batch.auto_worst_vs_dense` is its device time over that of
 * dense, less 1, the worst of all densities and batches from 4 on: exactly 0 where it takes dense itself. A quick run,
 * which has no time to measure costs, leaves it out.
 */
export async function batchSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const { shapes, dtypes, densities, batches } = gridFor(context);
  const costs = new MeasuredCosts(device);
  const storage = storageOf(context);
  let worst: number | null = null;
  // What one token's list is worth, the suite mlp shows; and between 10 and 50 % a batch of 64 shows nothing else.
  const batchesAt = (density: number): readonly number[] =>
    batches.filter(
      (batch) => (batch > 1 || density < TOO_DENSE) && (context.full || batch < 64 || density !== 25),
    );
  const each = densities.reduce((sum, density) => sum + batchesAt(density).length, 0);
  const total = shapes.length * dtypes.length * each;
  const outcome: Required<SuiteOutcome> = { results: [], summary: {}, skipped: [] };
  let done = 0;
  try {
    for (const shape of shapes) {
      for (const dtype of dtypes) {
        const packed = densities.filter((density) => density < TOO_DENSE);
        const capacity = Math.round((shape.rows * Math.max(...packed)) / 100);
        const shortage = memoryShortage(hostBytes(shape, dtype, capacity));
        const layer = new Lazy(async () => {
          if (!context.quick) await costs.measure({ ...shape, dtype, storage });
          return makeLayer(device, shape, dtype, capacity, { storage });
        });
        for (const density of densities) {
          for (const batch of batchesAt(density)) {
            const name = `${shape.name} ${dtype} d${density} b${batch}`;
            context.progress(done++, total, name);
            if (shortage) {
              outcome.skipped.push({ case: name, reason: shortage });
              continue;
            }
            const m = Math.round((shape.rows * density) / 100);
            const judged = batch > 1 && !context.quick;
            const arms = density < TOO_DENSE ? ARMS : READERS;
            const kept = await context.measured(name, async () => {
              const mlp = await layer.get();
              const bench = new LayerBench(mlp, timer, batch, batch < LONG);
              const change = Math.min(shape.rows - m, Math.round(WRITES * m));
              const still = new MaskRing({ n: shape.rows, m, change: 0 }, 'random', m);
              const moving = new MaskRing({ n: shape.rows, m, change }, 'random', m);
              const { value: times, reads } = await framedReads(ceilings, 3, () =>
                timeArms(bench, {
                  arms: judged ? [...arms, 'auto'] : arms,
                  chain: (sets, arm) => (WRITERS.includes(arm) ? moving : still).take(sets),
                  // A batch of 64 takes half a second where all rows are read.
                  repeats: context.full ? 15 : context.quick || batch > LONG ? 3 : 5,
                  // The summary is of device time.
                  wallRounds: context.full ? 15 : batch < LONG ? 3 : 1,
                  budgetMs: context.quick ? 40 : 80,
                  random: randomSource(batch),
                }),
              );
              bench.destroy();
              return { times, reads, rowBytes: mlp.pool.rowBytes };
            });
            report({ shape, dtype, storage, density, batch, m, name }, kept, outcome);
            const line = Object.entries(kept.times.deviceMs).map(
              ([arm, ms]) => `${arm} ${statsOf(ms).median.toFixed(2)}`,
            );
            const behind = behindDense(kept.times);
            if (behind) worst = Math.max(worst ?? 0, behind.median);
            const took = behind ? `; auto ${takenBy(kept.times.chosen)}` : '';
            context.log(`${name}: ms ${line.join(', ')}${took}`);
          }
        }
        await layer.destroy();
      }
    }
  } finally {
    costs.restore();
    ceilings.destroy();
    timer.destroy();
  }
  if (worst !== null) outcome.summary['batch.auto_worst_vs_dense'] = worst;
  return outcome;
}

/** Device time of what `auto` took over that of dense, less 1; null where `auto` was not among the arms. */
function behindDense({ chosen, deviceMs }: ArmTimes): Stats | null {
  const took = takenBy(chosen);
  if (!took) return null;
  const { [took]: mine, dense } = deviceMs;
  return mine && dense ? statsOf(mine.map((ms, i) => ms / dense[i] - 1)) : null;
}

function report(
  one: {
    shape: Shape;
    dtype: StoredDtype;
    storage: RowStorage;
    density: number;
    batch: number;
    m: number;
    name: string;
  },
  { times, reads, rowBytes }: { times: ArmTimes; reads: ReadCeilings<Framed>; rowBytes: number },
  { results, summary, skipped }: { results: Result[]; summary: Record<string, number>; skipped: Skipped[] },
): void {
  const { shape, dtype, storage, density, batch, m, name } = one;
  for (const [arm, reason] of Object.entries(times.skipped)) skipped.push({ case: `${name} ${arm}`, reason });
  const { dense, indexed, packed, paired } = times.deviceMs;
  for (const [arm, values] of Object.entries(times.deviceMs)) {
    const deviceMs = statsOf(values);
    results.push({
      suite: 'batch',
      case: `${name} ${arm}`,
      shape: shape.name,
      hidden: shape.hidden,
      rows: shape.rows,
      dtype,
      storage,
      density,
      active: m,
      batch,
      strategy: arm,
      writesPerM: WRITERS.includes(arm as Arm) ? WRITES : 0,
      steps: times.steps[arm as Arm],
      deviceMs,
      wallMs: statsOf(times.wallMs[arm as Arm] as number[]),
      msPerElement: deviceMs.median / batch,
      // Of the rows that the result needs: 3 products of `hidden` values a row and element.
      gflops: (6 * m * shape.hidden * batch) / deviceMs.median / 1e6,
      readGbps: (m * rowBytes) / deviceMs.median / 1e6,
      ...fractionsOf((m * rowBytes) / deviceMs.median / 1e6, reads),
      speedupOverDense: dense && ratioOf(dense, values),
      speedupOverIndexed: indexed && ratioOf(indexed, values),
      ...(arm === 'auto'
        ? { chosen: times.chosen, estimates: times.estimates, behindDense: behindDense(times) }
        : {}),
    });
  }
  const lead = shape.name === 'published' ? 'batch' : `batch.${shape.name}`;
  const prefix = `${lead}.d${density}.b${batch}${dtype === 'f32' ? '' : `.${dtype}`}`;
  const put = (key: string, slow?: readonly number[], fast?: readonly number[]): void => {
    if (slow && fast) summary[`${prefix}.${key}`] = ratioOf(slow, fast).median;
  };
  put('indexed_over_dense', dense, indexed);
  put('packed_over_dense', dense, packed);
  put('packed_over_indexed', indexed, packed);
  put('paired_over_indexed', indexed, paired);
}

function gridFor({ full, quick }: BenchContext): Grid {
  const published = shapeOf('published');
  if (full)
    return {
      shapes: SHAPES,
      dtypes: STORED_DTYPES,
      densities: [10, 25, 50, 75, 100],
      batches: [1, 4, 16, 64],
    };
  if (quick) return { shapes: [published], dtypes: ['f32'], densities: [10], batches: [8] };
  return { shapes: [published], dtypes: ['f32'], densities: [10, 25, 50, 75, 100], batches: [1, 4, 16, 64] };
}
