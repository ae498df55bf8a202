import { COPY_BYTES, Ceilings, FORMULATIONS, nameOf, READ_BYTES, WIDE } from '../../src/tune/ceilings.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';
import { deviceTimer } from '../../src/tune/timer.js';

/**
 * What the adapter's memory gives at most: one large copy, and a read-only sum over a buffer larger than the caches, in
 * every formulation that `src/tune/ceilings.ts` knows. The other suites measure both again, beside their own figures.
 */
export async function ceilingsSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const repeats = context.full ? 21 : context.quick ? 3 : 9;
  const results: Result[] = [];
  try {
    context.progress(0, 2, 'copy');
    const copy = await context.measured('copy', () => ceilings.copy(repeats));
    results.push({ suite: 'ceilings', case: 'copy', bytes: COPY_BYTES, gbps: copy });
    context.progress(1, 2, 'read');
    const formulations = context.quick ? WIDE : FORMULATIONS;
    const read = await context.measured('read', () =>
      ceilings.readEach(formulations, context.quick ? 2 : repeats),
    );
    for (const { formulation, gbps } of read) {
      const name = nameOf(formulation);
      results.push({ suite: 'ceilings', case: `read ${name}`, ...formulation, bytes: READ_BYTES, gbps });
    }
    const [best] = read;
    context.log(
      `copy ${copy.median.toFixed(1)} GB/s, read ${best.gbps.median.toFixed(1)} GB/s (${nameOf(best.formulation)})`,
    );
    return {
      results,
      summary: { 'ceilings.copy_gbps': copy.median, 'ceilings.read_gbps': best.gbps.median },
    };
  } finally {
    ceilings.destroy();
    timer.destroy();
  }
}
