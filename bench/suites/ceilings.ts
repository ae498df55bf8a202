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
 * figures. And what is left of the faster one where only one row in ten is read at a time, of 8 and of 16 KB
 * (`ceilings.read_rows_8k_gbps`): no list can be multiplied faster.
 */
export async function ceilingsSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const repeats = context.full ? 21 : context.quick ? 3 : 9;
  const results: Result[] = [];
  try {
    context.progress(0, 3, 'copy');
    const copy = await context.measured('copy', () => ceilings.copy(repeats));
    results.push({ suite: 'ceilings', case: 'copy', bytes: COPY_BYTES, gbps: copy });
    context.progress(1, 3, 'read');
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
    context.progress(2, 3, 'rows');
    const faster = storageOf(read[0].formulation);
    for (const kilobytes of [8, 16]) {
      const name = `rows of ${kilobytes} KB`;
      const gbps = await context.measured(name, () => ceilings.rows(faster, kilobytes << 10, repeats));
      results.push({ suite: 'ceilings', case: `read ${name}`, storage: faster, bytes: READ_BYTES, gbps });
      summary[`ceilings.read_rows_${kilobytes}k_gbps`] = gbps.median;
      said.push(`one in ten ${name} ${gbps.median.toFixed(1)} GB/s`);
    }
    context.log(said.join(', '));
    return { results, summary };
  } finally {
    ceilings.destroy();
    timer.destroy();
  }
}
