import { Bench } from 'tinybench';
import { planUpdate, publishedPlan, SlotMap } from '../../src/plan/index.js';
import { maskChain } from '../lib/masks.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';

/** What the CPU spends on a mask: diff, plan and commit, at the published shape. No GPU in it. */
export async function planSuite(context: BenchContext): Promise<SuiteOutcome> {
  const results: Result[] = [];
  const summary: Record<string, number> = {};
  const shape = { n: 8192, m: 1024 };
  for (const k of [16, 64, 256, 1024]) {
    const masks = maskChain({ ...shape, k }, 50, k);
    // Back and forth along the chain, so that every transition changes k rows.
    const path = [...masks, ...masks.slice(1, -1).reverse()];
    const bench = new Bench({ time: context.quick ? 100 : 400, warmup: true });
    for (const [name, plan] of Object.entries({ tight: planUpdate, published: publishedPlan })) {
      const map = new SlotMap(shape.n, shape.m);
      let at = 0;
      bench.add(name, () => {
        map.commit(plan(map, path[at]));
        at = (at + 1) % path.length;
      });
    }
    await bench.run();
    for (const task of bench.tasks) {
      const { result } = task;
      if (!('latency' in result)) throw new Error(`${task.name} did not run to its end`);
      const us = result.latency.p50 * 1000;
      results.push({
        suite: 'plan',
        case: `${task.name} k=${k}`,
        ...shape,
        k,
        us,
        samples: result.latency.samplesCount,
      });
      summary[`plan.k${k}.${task.name}_us`] = us;
      context.log(`k=${k} ${task.name}: ${us.toFixed(1)} µs`);
    }
  }
  return { results, summary };
}
