import type { StoredDtype } from '../../src/gpu/layout.js';
import { randomSource, ratioOf, statsOf } from '../../src/tune/stats.js';
import { deviceTimer } from '../../src/tune/timer.js';
import { type Arm, type ArmTimes, LayerBench, timeArms } from '../lib/arms.js';
import { hostBytes, makeLayer, memoryShortage, shapeOf } from '../lib/layers.js';
import { Lazy } from '../lib/lazy.js';
import { MaskRing } from '../../src/tune/mask-ring.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';

/** `paired` with its rows brought in by a dispatch of its own, and by the kernels that multiply them. */
const ARMS = ['copied', 'fused'] as const satisfies readonly Arm[];

interface Case {
  dtype: StoredDtype;
  /** Active rows in percent of N. */
  density: number;
  /** Share of the active rows that each step replaces. */
  writes: number;
}

/**
 * A paired step by both ways of bringing in its rows, over density and writes/m, at the shape of Llama-3.2-1B.
 * Rows are in buffers, which is where fused updates read them. `mlp.fused_update_speedup` is the geometric mean over the densities where every row is new, f32.
 */
export async function fusedSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const shape = shapeOf('llama1b');
  const timer = deviceTimer(device);
  const outcome: Required<SuiteOutcome> = { results: [], summary: {}, skipped: [] };
  const cases = casesFor(context);
  const speedups: number[] = [];
  try {
    for (const dtype of new Set(cases.map((one) => one.dtype))) {
      const mine = cases.filter((one) => one.dtype === dtype);
      const activeOf = ({ density }: Case): number => Math.round((shape.rows * density) / 100);
      const capacity = Math.max(...mine.map(activeOf));
      const shortage = memoryShortage(hostBytes(shape, dtype, capacity));
      const layer = new Lazy(() => makeLayer(device, shape, dtype, capacity, { storage: 'buffer' }));
      for (const one of mine) {
        const { density, writes } = one;
        const name = `${shape.name} ${dtype} d${density} w${writes}`;
        context.progress(cases.indexOf(one), cases.length, name);
        if (shortage) {
          outcome.skipped.push({ case: name, reason: shortage });
          continue;
        }
        const m = activeOf(one);
        const times: ArmTimes = await context.measured(name, async () => {
          const bench = new LayerBench(await layer.get(), timer);
          const ring = new MaskRing({ n: shape.rows, m, change: Math.round(writes * m) }, 'random', m);
          const found = await timeArms(bench, {
            arms: ARMS,
            chain: (sets) => ring.take(sets),
            repeats: context.full ? 21 : context.quick ? 3 : 11,
            budgetMs: 60,
            random: randomSource(m),
          });
          bench.destroy();
          return found;
        });
        const [copied, fused] = ARMS.map((arm) => times.deviceMs[arm] as number[]);
        const [copiedWall, fusedWall] = ARMS.map((arm) => times.wallMs[arm] as number[]);
        const speedup = ratioOf(copied, fused);
        if (writes === 1 && dtype === 'f32') speedups.push(speedup.median);
        outcome.results.push({
          suite: 'fused',
          case: name,
          shape: shape.name,
          hidden: shape.hidden,
          rows: shape.rows,
          dtype,
          storage: 'buffer',
          density,
          active: m,
          writesPerM: writes,
          steps: times.steps.fused,
          copiedMs: statsOf(copied),
          fusedMs: statsOf(fused),
          speedup,
          speedupWall: ratioOf(copiedWall, fusedWall),
        });
        const key = `mlp.fused_update_speedup${dtype === 'f32' ? '' : `.${dtype}`}.d${density}.w${writes}`;
        outcome.summary[key] = speedup.median;
        const ms = [copied, fused].map((values) => statsOf(values).median.toFixed(2));
        context.log(`${name}: ms copied ${ms[0]}, fused ${ms[1]}: ${speedup.median.toFixed(2)}x`);
      }
      await layer.destroy();
    }
  } finally {
    timer.destroy();
  }
  if (speedups.length > 0) {
    const logs = speedups.reduce((sum, ratio) => sum + Math.log(ratio), 0);
    outcome.summary['mlp.fused_update_speedup'] = Math.exp(logs / speedups.length);
  }
  return outcome;
}

function casesFor({ full, quick }: BenchContext): Case[] {
  const dtypes: StoredDtype[] = full ? ['f32', 'f16', 'q8', 'q4'] : ['f32'];
  const densities = quick ? [10] : [5, 10, 25];
  const shares = quick ? [0.2, 1] : [0.05, 0.2, 1];
  return dtypes.flatMap((dtype) =>
    densities.flatMap((density) => shares.map((writes) => ({ dtype, density, writes }))),
  );
}
