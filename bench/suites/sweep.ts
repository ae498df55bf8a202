import { finished } from '../../src/gpu/readback.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { Slab } from '../../src/slab/slab.js';
import type { UpdateOptions } from '../../src/slab/slab-options.js';
import { isLimit } from '../lib/arms.js';
import { Ceilings } from '../../src/tune/ceilings.js';
import { hostBytes, memoryShortage, weights } from '../lib/layers.js';
import { Lazy } from '../lib/lazy.js';
import { type Chain, MaskRing } from '../../src/tune/mask-ring.js';
import type { BenchContext, Result, Skipped, SuiteOutcome } from '../lib/report.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../../src/tune/stats.js';
import { type DeviceTimer, deviceTimer } from '../../src/tune/timer.js';

const WIDTH = 256;
const PATTERNS = ['random', 'block'] as const;
type Pattern = (typeof PATTERNS)[number];

/** How a slab is brought to the next mask. */
const ARMS: Readonly<Record<string, UpdateOptions>> = {
  paired: { strategy: 'paired', tau: 1 },
  repack_ids: { strategy: 'repack', repackBy: 'ids' },
  repack_mask: { strategy: 'repack', repackBy: 'mask' },
};

interface Grid {
  sizes: readonly number[];
  percents: readonly number[];
  changes: readonly number[];
}

interface Times {
  deviceMs: Record<string, number[]>;
  wallMs: Record<string, number[]>;
  steps: number;
  copy: { before: number; after: number };
}
/** A case that the adapter cannot run keeps its reason instead. */
type Kept = Times | { reason: string };

/**
 * Updates of large pools of narrow rows (gated, hidden = up = 256, f32): paired against both repacks, over N, m, k and
 * the pattern of the mask. `random`: active rows anywhere; `block`: the active rows are one run of ids that moves on.
 * Planning on the CPU is in the wall time, where a large N shows: the diff looks at N / 32 words.
 */
export async function sweepSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const grid = gridFor(context);
  const total = grid.sizes.length * grid.percents.length * grid.changes.length * PATTERNS.length;
  const results: Result[] = [];
  const skipped: Skipped[] = [];
  const summary: Record<string, number> = {};
  let done = 0;
  try {
    for (const n of grid.sizes) {
      const shape = { name: `n${n}`, hidden: WIDTH, rows: n };
      const shortage = memoryShortage(hostBytes(shape, 'f32', n / 5));
      const pool = new Lazy(() => makePool(device, n));
      for (const percent of grid.percents) {
        const m = Math.round((n * percent) / 100);
        const slab = new Lazy(
          async () => new Slab(await pool.get(), { capacity: m, pendingUpdates: 32, label: 'sweep slab' }),
        );
        for (const pattern of PATTERNS) {
          for (const k of grid.changes) {
            const name = `N ${n} m ${percent}% k ${k} ${pattern}`;
            context.progress(done++, total, name);
            const reason = k / 2 > m ? `${k / 2} rows cannot leave ${m}` : shortage;
            const kept: Kept = reason
              ? { reason }
              : await context.measured(name, async (): Promise<Kept> => {
                  const ring = new MaskRing({ n, m, change: k / 2 }, pattern, n + m);
                  try {
                    return await measure(await slab.get(), ring, timer, ceilings, context);
                  } catch (error) {
                    if (!isLimit(error)) throw error;
                    return { reason: error.message };
                  }
                });
            if ('reason' in kept) skipped.push({ case: name, reason: kept.reason });
            else report({ n, m, percent, k, pattern, name }, kept, results, summary, context);
          }
        }
        // A slab that could not be made leaves nothing to destroy.
        await slab.destroy().catch(() => {});
      }
      await pool.destroy();
    }
  } finally {
    ceilings.destroy();
    timer.destroy();
  }
  return { results, summary, skipped };
}

function makePool(device: GPUDevice, n: number): DevicePool {
  // One array on the host for three matrices on the device.
  const matrix = { data: weights(n * WIDTH), cols: WIDTH };
  return DevicePool.from(
    device,
    { gateUp: { parts: [matrix, matrix] }, down: matrix },
    { label: 'sweep pool' },
  );
}

async function measure(
  slab: Slab,
  ring: MaskRing,
  timer: DeviceTimer,
  ceilings: Ceilings,
  context: BenchContext,
): Promise<Times> {
  const repeats = context.full ? 9 : context.quick ? 3 : 5;
  const names = Object.keys(ARMS);
  const make = (): Record<string, number[]> => Object.fromEntries(names.map((name) => [name, []]));
  const times: Times = { deviceMs: make(), wallMs: make(), steps: 1, copy: { before: 0, after: 0 } };
  times.copy.before = (await ceilings.copy(3)).median;
  // The first run of each compiles; the second shows how many updates may share a submit.
  let slowest = 0;
  for (const arm of names) {
    await onDevice(slab, arm, ring.take(1), timer);
    slowest = Math.max(slowest, await onDevice(slab, arm, ring.take(1), timer));
  }
  times.steps = Math.max(1, Math.min(16, Math.ceil(100 / slowest)));
  const random = randomSource(times.steps);
  for (let r = 0; r < repeats; r++) {
    for (const arm of shuffle([...names], random)) {
      times.deviceMs[arm].push(await onDevice(slab, arm, ring.take(times.steps), timer));
      times.wallMs[arm].push(await byWall(slab, arm, ring.take(Math.min(4, times.steps))));
    }
  }
  times.copy.after = (await ceilings.copy(3)).median;
  return times;
}

async function onDevice(
  slab: Slab,
  arm: string,
  { first, steps }: Chain,
  timer: DeviceTimer,
): Promise<number> {
  slab.update(first);
  await finished(slab.device);
  const ms = await timer.time((encoder) => {
    const pass = encoder.beginComputePass();
    for (const mask of steps) slab.encodeUpdate(pass, mask ?? first, ARMS[arm]);
    pass.end();
  });
  slab.submitted();
  return ms / steps.length;
}

async function byWall(slab: Slab, arm: string, { first, steps }: Chain): Promise<number> {
  slab.update(first);
  await finished(slab.device);
  const started = performance.now();
  for (const mask of steps) {
    slab.update(mask ?? first, ARMS[arm]);
    await finished(slab.device);
  }
  return (performance.now() - started) / steps.length;
}

function report(
  one: { n: number; m: number; percent: number; k: number; pattern: Pattern; name: string },
  { deviceMs, wallMs, steps, copy }: Times,
  results: Result[],
  summary: Record<string, number>,
  context: BenchContext,
): void {
  const { n, m, percent, k, pattern, name } = one;
  const ceiling = (copy.before + copy.after) / 2;
  const bytes = 2 * (k / 2) * 3 * WIDTH * 4;
  for (const arm of Object.keys(ARMS)) {
    results.push({
      suite: 'sweep',
      case: `${name} ${arm}`,
      n,
      m,
      k,
      pattern,
      arm,
      hidden: WIDTH,
      up: WIDTH,
      dtype: 'f32',
      gated: true,
      steps,
      deviceMs: statsOf(deviceMs[arm]),
      wallMs: statsOf(wallMs[arm]),
      speedupOfPairedOnDevice: ratioOf(deviceMs[arm], deviceMs.paired),
      speedupOfPairedWall: ratioOf(wallMs[arm], wallMs.paired),
      copyFraction: arm === 'paired' ? bytes / statsOf(deviceMs.paired).median / 1e6 / ceiling : undefined,
      copyCeilingBefore: copy.before,
      copyCeilingAfter: copy.after,
    });
  }
  const fastest = (times: Record<string, number[]>): number[] =>
    times.repack_ids.map((ms, i) => Math.min(ms, times.repack_mask[i]));
  const onDevice = ratioOf(fastest(deviceMs), deviceMs.paired).median;
  const wall = ratioOf(fastest(wallMs), wallMs.paired).median;
  const prefix = `sweep.n${n}.m${percent}.k${k}.${pattern}`;
  summary[`${prefix}.speedup_vs_repack`] = onDevice;
  summary[`${prefix}.speedup_wall`] = wall;
  context.log(`${name}: paired ${onDevice.toFixed(1)}× repack on the device, ${wall.toFixed(1)}× by wall`);
}

function gridFor({ full, quick }: BenchContext): Grid {
  if (full) {
    return {
      sizes: [100_000, 1_000_000],
      percents: [1, 5, 10],
      changes: [8, 16, 32, 64, 128, 256, 512, 1024, 2048],
    };
  }
  if (quick) return { sizes: [100_000], percents: [1], changes: [8, 512] };
  return { sizes: [100_000, 1_000_000], percents: [1, 10], changes: [8, 128, 2048] };
}
