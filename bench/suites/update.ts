import type { RowStorage } from '../../src/gpu/storage.js';
import { finished } from '../../src/gpu/readback.js';
import type { Bitmask } from '../../src/mask/index.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import type { FieldSpec } from '../../src/pool/fields.js';
import { Slab } from '../../src/slab/slab.js';
import type { UpdateOptions } from '../../src/slab/slab-options.js';
import { Ceilings } from '../../src/tune/ceilings.js';
import { weights } from '../lib/layers.js';
import { Lazy } from '../lib/lazy.js';
import { maskChain } from '../lib/masks.js';
import type { DeviceContext, Result, SuiteOutcome } from '../lib/report.js';
import { measureManyUpdates } from '../lib/update-many.js';
import { randomSource, ratioOf, type Stats, shuffle, statsOf } from '../../src/tune/stats.js';
import { type DeviceTimer, deviceTimer } from '../../src/tune/timer.js';

/** The published shape. */
const N = 8192;
const WIDTH = 1024;
const M = 1024;
const CHANGES = [16, 64, 256, 1024];
const QUICK_CHANGES = [16, 1024];

/** A way of bringing a slab to its next masks. */
type Encode = (slab: Slab, encoder: GPUCommandEncoder, masks: readonly Bitmask[]) => void;

/** By the slab's kernels, all updates in one pass. */
const inPass =
  (options: UpdateOptions): Encode =>
  (slab, encoder, masks) => {
    const pass = encoder.beginComputePass();
    for (const mask of masks) slab.encodeUpdate(pass, mask, options);
    pass.end();
  };

/** One copyBufferToBuffer a field and row. */
const byCopies =
  (strategy: 'paired' | 'repack'): Encode =>
  (slab, encoder, masks) => {
    for (const mask of masks) slab.encodeUpdateByCopies(encoder, mask, { strategy });
  };

/**
 * Every way that is measured; another is one line. Each has a slab of its own; `…_texels` read a pool in textures, `…_whole`
 * one whose rows of all matrices are one field (`wholeRows` of a layer).
 */
const ARMS = {
  paired: inPass({ tau: 1 }),
  hybrid: inPass({ rule: 'published' }),
  repack_ids: inPass({ strategy: 'repack', repackBy: 'ids' }),
  repack_mask: inPass({ strategy: 'repack', repackBy: 'mask' }),
  paired_texels: inPass({ tau: 1 }),
  repack_texels: inPass({ strategy: 'repack', repackBy: 'ids' }),
  copies: byCopies('paired'),
  copies_whole: byCopies('paired'),
  repack_copies: byCopies('repack'),
  repack_copies_whole: byCopies('repack'),
} as const satisfies Readonly<Record<string, Encode>>;
type Arm = keyof typeof ARMS;
const NAMES = Object.keys(ARMS) as Arm[];
/** Ways to write only what changed, and ways to write all again: a figure takes the fastest of each. */
const PAIRED: readonly Arm[] = ['paired', 'paired_texels', 'copies', 'copies_whole'];
const REPACKED: readonly Arm[] = [
  'repack_ids',
  'repack_mask',
  'repack_texels',
  'repack_copies',
  'repack_copies_whole',
];
const storageOf = (arm: Arm): RowStorage => (arm.endsWith('_texels') ? 'texture' : 'buffer');
/** Which pool it copies out of. */
type Home = RowStorage | 'whole';
const homeOf = (arm: Arm): Home => (arm.endsWith('_whole') ? 'whole' : storageOf(arm));

class Layer {
  readonly pools: Readonly<Record<Home, DevicePool>>;
  readonly slabs: Readonly<Record<Arm, Slab>>;

  constructor(device: GPUDevice, gated: boolean, steps: number) {
    const up = { data: weights(N * WIDTH), cols: WIDTH };
    const first: Record<string, FieldSpec> = gated ? { gateUp: { parts: [up, up] } } : { up };
    const apart = { ...first, down: up };
    const pool = (fields: Record<string, FieldSpec>, storage: RowStorage): DevicePool =>
      DevicePool.from(device, fields, { storage, label: 'bench pool' });
    this.pools = {
      buffer: pool(apart, 'buffer'),
      texture: pool(apart, 'texture'),
      whole: pool({ row: { parts: gated ? [up, up, up] : [up, up] } }, 'buffer'),
    };
    const slab = (arm: Arm): Slab =>
      new Slab(this.pools[homeOf(arm)], { capacity: M, pendingUpdates: steps + 1, label: `bench ${arm}` });
    this.slabs = Object.fromEntries(NAMES.map((arm) => [arm, slab(arm)])) as Record<Arm, Slab>;
  }

  /** Device ms of an update, all of them in one submit. */
  async deviceMs(arm: Arm, first: Bitmask, masks: readonly Bitmask[], timer: DeviceTimer): Promise<number> {
    const slab = await this.prime(arm, first);
    const ms = await timer.time((encoder) => ARMS[arm](slab, encoder, masks));
    slab.submitted();
    return ms / masks.length;
  }

  /** Wall ms of an update: mask in hand to GPU done, one submit each. */
  async wallMs(arm: Arm, first: Bitmask, masks: readonly Bitmask[]): Promise<number> {
    const slab = await this.prime(arm, first);
    const { device } = this.pools.buffer;
    const started = performance.now();
    for (const mask of masks) {
      const encoder = device.createCommandEncoder();
      ARMS[arm](slab, encoder, [mask]);
      device.queue.submit([encoder.finish()]);
      slab.submitted();
      await finished(device);
    }
    return (performance.now() - started) / masks.length;
  }

  destroy(): void {
    for (const slab of Object.values(this.slabs)) slab.destroy();
    for (const pool of Object.values(this.pools)) pool.destroy();
  }

  private async prime(arm: Arm, first: Bitmask): Promise<Slab> {
    const slab = this.slabs[arm];
    slab.update(first);
    await finished(this.pools.buffer.device);
    return slab;
  }
}

/** Per arm and repeat: milliseconds of one update. */
type Times = Record<Arm, number[]>;
const noTimes = (): Times => Object.fromEntries(NAMES.map((arm) => [arm, [] as number[]])) as Times;

interface Measured {
  onDevice: Times;
  wall: Times;
  /** Of a large copy, right before and after. */
  before: Stats;
  after: Stats;
  rowBytes: number;
}

/**
 * The slab's update at the published shape: paired against both repacks, the published hybrid and plain copies, out of a
 * pool in buffers, out of one in textures, and copies out of one whose rows are whole. The ceiling is one large copy from
 * buffer to buffer.
 */
export async function updateSuite(context: DeviceContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const steps = context.quick ? 10 : 50;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const outcome: SuiteOutcome = { results: [], summary: {} };
  const copies: number[] = [];
  let done = 0;
  try {
    for (const gated of context.quick ? [true] : [true, false]) {
      const layer = new Lazy(() => new Layer(device, gated, steps));
      for (const k of context.quick ? QUICK_CHANGES : CHANGES) {
        const name = `${gated ? 'gated' : 'ungated'} k=${k}`;
        context.progress(done++, context.quick ? QUICK_CHANGES.length : 2 * CHANGES.length, name);
        const kept = await context.measured(name, async () =>
          measure(await layer.get(), k, steps, timer, ceilings, context),
        );
        copies.push(kept.before.median, kept.after.median);
        report(name, gated, k, steps, kept, outcome, context);
      }
      await layer.destroy();
    }
    for (const home of ['device', 'host'] as const) {
      const name = `many layers, pool on ${home}`;
      const repeats = context.quick ? 15 : 200;
      const kept = await context.measured(name, () => measureManyUpdates(device, home, repeats));
      outcome.results.push({ suite: 'update', case: name, ...kept });
      outcome.summary[`update.many.${home}.speedup`] = kept.speedup.median;
    }
  } finally {
    ceilings.destroy();
    timer.destroy();
  }
  const ceiling = statsOf(copies);
  outcome.results.unshift({ suite: 'update', case: 'copy ceiling', gbps: ceiling });
  outcome.summary['update.copy_ceiling_gbps'] = ceiling.median;
  return outcome;
}

async function measure(
  layer: Layer,
  k: number,
  steps: number,
  timer: DeviceTimer,
  ceilings: Ceilings,
  context: DeviceContext,
): Promise<Measured> {
  const repeats = context.quick ? 3 : context.full ? 15 : 7;
  const onDevice = noTimes();
  const wall = noTimes();
  const random = randomSource(k);
  const before = await ceilings.copy(context.quick ? 3 : 5);
  // The first repeat compiles and warms.
  for (let r = -1; r < repeats; r++) {
    const [first, ...rest] = maskChain({ n: N, m: M, k }, r < 0 ? 2 : steps, 100 * k + r);
    for (const arm of shuffle([...NAMES], random)) {
      const deviceMs = await layer.deviceMs(arm, first, rest, timer);
      const wallMs = await layer.wallMs(arm, first, context.quick ? rest.slice(0, 5) : rest);
      if (r < 0) continue;
      onDevice[arm].push(deviceMs);
      wall[arm].push(wallMs);
    }
  }
  const after = await ceilings.copy(context.quick ? 3 : 5);
  return { onDevice, wall, before, after, rowBytes: layer.pools.buffer.rowBytes };
}

function report(
  name: string,
  gated: boolean,
  k: number,
  steps: number,
  { onDevice, wall, before, after, rowBytes }: Measured,
  { results, summary }: SuiteOutcome,
  context: DeviceContext,
): void {
  const ceiling = (before.median + after.median) / 2;
  const bytes = 2 * (k / 2) * rowBytes;
  const fraction = (arm: Arm): number => bytes / statsOf(onDevice[arm]).median / 1e6 / ceiling;
  for (const arm of NAMES) {
    const row: Result = {
      suite: 'update',
      case: `${name} ${arm}`,
      gated,
      k,
      arm,
      storage: storageOf(arm),
      n: N,
      m: M,
      hidden: WIDTH,
      up: WIDTH,
      dtype: 'f32',
      steps,
      deviceMs: statsOf(onDevice[arm]),
      wallMs: statsOf(wall[arm]),
      speedupOfPairedOnDevice: ratioOf(onDevice[arm], onDevice.paired),
      speedupOfPairedWall: ratioOf(wall[arm], wall.paired),
      copyFraction: PAIRED.includes(arm) ? fraction(arm) : undefined,
      copyCeilingBefore: before,
      copyCeilingAfter: after,
    };
    results.push(row);
  }
  // The fastest of each kind, by median over the case, so that no repeat picks for itself.
  const fastest = (times: Times, arms: readonly Arm[]): number[] =>
    times[[...arms].sort((a, b) => statsOf(times[a]).median - statsOf(times[b]).median)[0]];
  const prefix = gated ? `update.k${k}` : `update.ungated.k${k}`;
  summary[`${prefix}.speedup_vs_repack`] = ratioOf(
    fastest(onDevice, REPACKED),
    fastest(onDevice, PAIRED),
  ).median;
  summary[`${prefix}.speedup_wall`] = ratioOf(fastest(wall, REPACKED), fastest(wall, PAIRED)).median;
  summary[`${prefix}.kernel_speedup_vs_repack`] = ratioOf(
    fastest(onDevice, ['repack_ids', 'repack_mask']),
    onDevice.paired,
  ).median;
  summary[`${prefix}.texels_speedup`] = ratioOf(onDevice.paired, onDevice.paired_texels).median;
  summary[`${prefix}.copy_fraction`] = Math.max(...PAIRED.map(fraction));
  summary[`${prefix}.kernel_copy_fraction`] = fraction('paired');
  const line = NAMES.map(
    (arm) => `${arm} ${statsOf(onDevice[arm]).median.toFixed(4)}/${statsOf(wall[arm]).median.toFixed(3)}`,
  );
  context.log(`${name}: ms device/wall ${line.join(', ')}`);
}
