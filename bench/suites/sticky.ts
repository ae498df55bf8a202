import type { RowStorage } from '../../src/gpu/storage.js';
import { type Bitmask, Smoother, sticky, topKUnion } from '../../src/mask/index.js';
import { type Arm, type ArmTimes, FIXED, fastestOf, LayerBench, timeArms } from '../lib/arms.js';
import { Ceilings, type Framed, framedReads, type ReadCeilings } from '../../src/tune/ceilings.js';
import { fractionsOf } from '../lib/fractions.js';
import { hostBytes, makeLayer, memoryShortage, type Shape } from '../lib/layers.js';
import { Lazy } from '../lib/lazy.js';
import type { Chain } from '../../src/tune/mask-ring.js';
import type { BenchContext, Result, Skipped, SuiteOutcome } from '../lib/report.js';
import { storageOf } from '../lib/storage.js';
import { randomSource, ratioOf, statsOf } from '../../src/tune/stats.js';
import { deviceTimer } from '../../src/tune/timer.js';

const HIDDEN = 1024;
const ARMS: readonly Arm[] = [...FIXED, 'auto'];
/** Masks that are made for a case; runs go around them. */
const MASKS = 24;
const QUICK_MASKS = 10;
/** How much of the last step's smoothed logits stays in the next. */
const SMOOTHING = 0.8;

interface Case {
  n: number;
  m: number;
  batch: number;
  /** Share of the rows that a step keeps from the one before. */
  share: number;
}

interface Measured {
  times: ArmTimes;
  reads: ReadCeilings<Framed>;
  /** Bytes of one stored row. */
  rowBytes: number;
  /** Device ms of the update alone, run by run, in the order of `ArmTimes`' repeats. */
  updateMs: Record<'repack' | 'paired', number[]>;
  /** Realised (added + removed) / m and rows written / m. */
  changedPerM: number;
  writesPerM: number;
}

const nameOf = ({ n, m, batch, share }: Case): string => `N ${n} m ${m} b${batch} kept ${share}`;

/**
 * The published end-to-end: a batch of logits, smoothed over the steps; the union of every element's top m/4; of that
 * the m best rows, with at least `share` of the last step's kept (`sticky`). The mask is made before the clock starts;
 * timed are the update and the MLP (hidden 1024, gated, f32) over the whole batch, for each strategy, and the update
 * by itself. Logits are synthetic: a part that all elements share and that drifts, and noise of each element's own.
 */
export async function stickySuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const cases = casesFor(context);
  const storage = storageOf(context);
  const results: Result[] = [];
  const skipped: Skipped[] = [];
  const summary: Record<string, number> = {};
  let done = 0;
  try {
    for (const n of new Set(cases.map((one) => one.n))) {
      const group = cases.filter((one) => one.n === n);
      const shape: Shape = { name: `sticky${n}`, hidden: HIDDEN, rows: n };
      const capacity = Math.max(...group.map((one) => one.m));
      const shortage = memoryShortage(hostBytes(shape, 'f32', capacity));
      const layer = new Lazy(() => makeLayer(device, shape, 'f32', capacity, { storage }));
      for (const one of group) {
        const name = nameOf(one);
        context.progress(done++, cases.length, name);
        if (shortage) {
          skipped.push({ case: name, reason: shortage });
          continue;
        }
        const kept = await context.measured(name, async () => {
          const bench = new LayerBench(await layer.get(), timer, one.batch);
          try {
            return await measure(bench, one, ceilings, context);
          } finally {
            bench.destroy();
          }
        });
        for (const [arm, reason] of Object.entries(kept.times.skipped))
          skipped.push({ case: `${name} ${arm}`, reason });
        report({ ...one, storage }, kept, results, summary, context);
      }
      await layer.destroy();
    }
  } finally {
    ceilings.destroy();
    timer.destroy();
  }
  return { results, summary, skipped };
}

async function measure(
  bench: LayerBench,
  one: Case,
  ceilings: Ceilings,
  context: BenchContext,
): Promise<Measured> {
  const masks = stickyMasks(one, context.quick ? QUICK_MASKS : MASKS);
  let at = 0;
  /** Goes on through the masks, there and back, so that every step is one that the logits made or its reverse. */
  const chain = (sets: number): Chain => {
    const path = [...masks, ...masks.slice(1, -1).reverse()];
    const steps = Array.from({ length: sets }, (_, s) => path[(at + s + 1) % path.length]);
    const first = path[at % path.length];
    at += sets;
    return { first, steps, reuse: 1 };
  };
  const repeats = context.full ? 9 : context.quick ? 3 : 5;
  const { value: times, reads } = await framedReads(ceilings, 3, () =>
    timeArms(bench, {
      arms: ARMS,
      chain,
      repeats,
      budgetMs: context.quick ? 40 : 80,
      random: randomSource(one.m + one.batch),
    }),
  );
  const updateMs: Measured['updateMs'] = { repack: [], paired: [] };
  let changedPerM = 0;
  let writesPerM = 0;
  for (let r = 0; r < repeats; r++) {
    updateMs.repack.push((await bench.updateMs('repack', chain(8))).ms);
    const paired = await bench.updateMs('paired', chain(8));
    updateMs.paired.push(paired.ms);
    changedPerM += paired.changedPerM / repeats;
    writesPerM += paired.writesPerM / repeats;
  }
  return { times, reads, rowBytes: bench.mlp.pool.rowBytes, updateMs, changedPerM, writesPerM };
}

/** The masks of consecutive steps. */
export function stickyMasks({ n, m, batch, share }: Case, steps: number): Bitmask[] {
  const random = randomSource(n + m + batch);
  // Two uniform draws: a hump, which is all that a ranking needs.
  const noise = (): number => random() + random() - 1;
  const shared = Float32Array.from({ length: n }, noise);
  const logits = new Float32Array(batch * n);
  const smoother = new Smoother(batch * n, SMOOTHING);
  const masks: Bitmask[] = [];
  let previous: Bitmask | null = null;
  for (let s = 0; s < steps; s++) {
    for (let i = 0; i < n; i++) shared[i] = 0.9 * shared[i] + 0.4 * noise();
    for (let i = 0; i < logits.length; i++) logits[i] = shared[i % n] + 0.5 * noise();
    const smoothed = smoother.push(logits);
    const union = topKUnion(smoothed, { batch }, m / 4);
    previous = sticky(previous, unionScores(smoothed, union, batch), m, share);
    masks.push(previous);
  }
  return masks;
}

/** A row's best logit in the batch; rows outside the union come after all of it. */
function unionScores(logits: Float32Array, union: Bitmask, batch: number): Float32Array {
  const n = union.size;
  const scores = logits.slice(0, n);
  for (let b = 1; b < batch; b++) {
    for (let i = 0; i < n; i++) scores[i] = Math.max(scores[i], logits[b * n + i]);
  }
  for (let i = 0; i < n; i++) if (!union.has(i)) scores[i] -= 1000;
  return scores;
}

function report(
  one: Case & { storage: RowStorage },
  { times, reads, rowBytes, updateMs, changedPerM, writesPerM }: Measured,
  results: Result[],
  summary: Record<string, number>,
  context: BenchContext,
): void {
  const { n, m, batch, share, storage } = one;
  const { dense, indexed, paired, repack } = times.deviceMs;
  const medians: Partial<Record<Arm, number>> = {};
  for (const [arm, values] of Object.entries(times.deviceMs)) {
    const deviceMs = statsOf(values);
    medians[arm as Arm] = deviceMs.median;
    results.push({
      suite: 'sticky',
      case: `${nameOf(one)} ${arm}`,
      n,
      m,
      batch,
      shareKept: share,
      hidden: HIDDEN,
      dtype: 'f32',
      storage,
      strategy: arm,
      changedPerM,
      writesPerM,
      steps: times.steps[arm as Arm],
      deviceMs,
      wallMs: statsOf(times.wallMs[arm as Arm] as number[]),
      updateMs: arm === 'paired' || arm === 'repack' ? statsOf(updateMs[arm]) : undefined,
      ...fractionsOf((m * rowBytes) / deviceMs.median / 1e6, reads),
      speedupOverDense: dense && ratioOf(dense, values),
      speedupOverIndexed: indexed && ratioOf(indexed, values),
    });
  }
  const prefix = `sticky.n${n}.m${m}.b${batch}.kept${Math.round(share * 100)}`;
  summary[`${prefix}.changed_per_m`] = changedPerM;
  summary[`${prefix}.writes_per_m`] = writesPerM;
  summary[`${prefix}.update_speedup_vs_repack`] = ratioOf(updateMs.repack, updateMs.paired).median;
  const put = (key: string, slow?: readonly number[], fast?: readonly number[]): void => {
    if (slow && fast) summary[`${prefix}.${key}`] = ratioOf(slow, fast).median;
  };
  put('paired_over_repack', repack, paired);
  put('paired_over_indexed', indexed, paired);
  put('paired_over_dense', dense, paired);
  context.log(
    `${nameOf(one)}: k/m ${changedPerM.toFixed(2)}, writes/m ${writesPerM.toFixed(2)}; ms ${Object.entries(
      medians,
    )
      .map(([arm, ms]) => `${arm} ${ms.toFixed(2)}`)
      .join(', ')}; fastest ${fastestOf(medians, FIXED)}`,
  );
}

function casesFor({ full, quick }: BenchContext): Case[] {
  const cases: Case[] = [];
  const add = (
    sizes: readonly number[],
    ms: readonly number[],
    batches: readonly number[],
    shares: readonly number[],
  ): void => {
    for (const n of sizes)
      for (const m of ms)
        for (const batch of batches) for (const share of shares) cases.push({ n, m, batch, share });
  };
  if (full) add([8192, 65_536], [512, 1024, 2048], [8, 16, 32], [0.8, 0.9, 0.95]);
  else if (quick) add([8192], [512], [8], [0.9]);
  else {
    add([8192], [512, 2048], [8, 32], [0.8, 0.95]);
    add([65_536], [1024], [16], [0.9]);
  }
  return cases;
}
