import { Bench } from 'tinybench';
import type { Bitmask } from '../../src/mask/index.js';
import { planUpdate, publishedPlan, SlotMap } from '../../src/plan/index.js';
import { maskChain } from '../lib/masks.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../../src/tune/stats.js';

/** The published shape. */
const SHAPE = { n: 8192, m: 1024 };
const CHANGES = [16, 64, 256, 1024];
const PLANNERS = { tight: planUpdate, published: publishedPlan };
type Arm = keyof typeof PLANNERS;
const ARMS: readonly Arm[] = ['tight', 'published'];

/** What the CPU spends on a mask: diff, plan and commit. No GPU in it. */
export async function planSuite(context: BenchContext): Promise<SuiteOutcome> {
  const rounds = context.quick ? 5 : 9;
  const results: Result[] = [];
  const summary: Record<string, number> = {};
  for (const [i, k] of CHANGES.entries()) {
    context.progress(i, CHANGES.length, `k=${k}`);
    const us = await context.measured(`k=${k}`, () => microseconds(k, rounds, context.quick ? 15 : 40));
    for (const arm of ARMS) {
      results.push({
        suite: 'plan',
        case: `${arm} k=${k}`,
        ...SHAPE,
        k,
        arm,
        us: statsOf(us[arm]),
        timeOfPublishedOverThis: ratioOf(us.published, us[arm]),
      });
      summary[`plan.k${k}.${arm}_us`] = statsOf(us[arm]).median;
    }
    context.log(`k=${k}: ${ARMS.map((arm) => `${arm} ${statsOf(us[arm]).median.toFixed(1)} µs`).join(', ')}`);
  }
  return { results, summary };
}

/** Of each planner, the median call of every round, of `time` ms; the planners take turns in shuffled order. */
async function microseconds(k: number, rounds: number, time: number): Promise<Record<Arm, number[]>> {
  const masks = maskChain({ ...SHAPE, k }, 50, k);
  // Back and forth along the chain, so that every transition changes k rows.
  const path = [...masks, ...masks.slice(1, -1).reverse()];
  const random = randomSource(k);
  const us: Record<Arm, number[]> = { tight: [], published: [] };
  for (let round = 0; round < rounds; round++) {
    for (const arm of shuffle([...ARMS], random)) us[arm].push(await medianCall(PLANNERS[arm], path, time));
  }
  return us;
}

async function medianCall(
  plan: (typeof PLANNERS)[Arm],
  path: readonly Bitmask[],
  time: number,
): Promise<number> {
  const map = new SlotMap(SHAPE.n, SHAPE.m);
  let at = 0;
  const bench = new Bench({ time, warmupTime: time / 2 });
  bench.add('plan', () => {
    map.commit(plan(map, path[at]));
    at = (at + 1) % path.length;
  });
  const [{ result }] = await bench.run();
  if (!('latency' in result)) throw new Error('the planner did not run to its end');
  return result.latency.p50 * 1000;
}
