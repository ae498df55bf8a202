import {
  COPY_BYTES,
  Ceilings,
  NARROW,
  nameOf,
  READ_BYTES,
  storageOf,
  WIDE,
} from '../../src/tune/ceilings.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';
import { deviceTimer } from '../../src/tune/timer.js';

/**
 * What the adapter's memory gives at most: one large copy, and a read-only sum over more bytes than the caches hold, in
 * every formulation that `src/tune/ceilings.ts` knows, over a storage buffer (`ceilings.read_gbps`) and over a storage
 * texture that holds the same (`ceilings.read_texture_gbps`). The other suites measure them again, beside their own
 * figures.
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
    const formulations = [...(context.quick ? [] : NARROW), ...WIDE.buffer, ...WIDE.texture];
    const read = await context.measured('read', () =>
      ceilings.readEach(formulations, context.quick ? 2 : repeats),
    );
    for (const { formulation, gbps } of read) {
      const name = nameOf(formulation);
      const storage = storageOf(formulation);
      results.push({
        suite: 'ceilings',
        case: `read ${name}`,
        storage,
        ...formulation,
        bytes: READ_BYTES,
        gbps,
      });
    }
    const summary: Record<string, number> = { 'ceilings.copy_gbps': copy.median };
    const said = [`copy ${copy.median.toFixed(1)} GB/s`];
    for (const [storage, key] of [
      ['buffer', 'read_gbps'],
      ['texture', 'read_texture_gbps'],
    ] as const) {
      const best = read.find(({ formulation }) => storageOf(formulation) === storage) as (typeof read)[0];
      summary[`ceilings.${key}`] = best.gbps.median;
      said.push(`read from a ${storage} ${best.gbps.median.toFixed(1)} GB/s (${nameOf(best.formulation)})`);
    }
    context.log(said.join(', '));
    return { results, summary };
  } finally {
    ceilings.destroy();
    timer.destroy();
  }
}
