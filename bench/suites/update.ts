import { finished } from '../../src/gpu/readback.js';
import { storageBuffer, destroyBuffer } from '../../src/gpu/buffers.js';
import type { Bitmask } from '../../src/mask/index.js';
import { DevicePool, type FieldSpec } from '../../src/pool/device-pool.js';
import { Slab } from '../../src/slab/slab.js';
import { maskChain } from '../lib/masks.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';
import { randomSource, ratioOf, type Stats, shuffle, statsOf } from '../lib/stats.js';
import { type DeviceTimer, deviceTimer } from '../lib/timer.js';

/** The published shape. */
const N = 8192;
const WIDTH = 1024;
const M = 1024;
const CHANGES = [16, 64, 256, 1024];

type Arm = 'paired' | 'hybrid' | 'repack_ids' | 'repack_mask' | 'copies';
const ARMS: readonly Arm[] = ['paired', 'hybrid', 'repack_ids', 'repack_mask', 'copies'];

/** GB/s of one large copyBufferToBuffer, reads and writes both counted: the ceiling of a row copy. */
async function copyCeiling(device: GPUDevice, timer: DeviceTimer, repeats: number): Promise<Stats> {
  const bytes = 48 << 20;
  const from = storageBuffer(device, 'ceiling source', bytes);
  const to = storageBuffer(device, 'ceiling target', bytes);
  const rates: number[] = [];
  for (let r = 0; r <= repeats; r++) {
    const ms = await timer.time((encoder) => encoder.copyBufferToBuffer(from, 0, to, 0, bytes));
    if (r > 0) rates.push((2 * bytes) / ms / 1e6);
  }
  destroyBuffer(device, from);
  destroyBuffer(device, to);
  return statsOf(rates);
}

class Layer {
  readonly pool: DevicePool;
  readonly slabs: Record<Arm, Slab>;

  constructor(device: GPUDevice, gated: boolean, steps: number) {
    const random = randomSource(7);
    const make = () => Float32Array.from({ length: N * WIDTH }, () => random() - 0.5);
    const up = { data: make(), cols: WIDTH };
    const first: Record<string, FieldSpec> = gated
      ? { gateUp: { parts: [{ data: make(), cols: WIDTH }, up] } }
      : { up };
    this.pool = DevicePool.from(
      device,
      { ...first, down: { data: make(), cols: WIDTH } },
      { label: 'bench pool' },
    );
    const slab = (arm: Arm) =>
      new Slab(this.pool, { capacity: M, pendingUpdates: steps + 1, label: `bench ${arm}` });
    this.slabs = Object.fromEntries(ARMS.map((arm) => [arm, slab(arm)])) as Record<Arm, Slab>;
  }

  encode(arm: Arm, encoder: GPUCommandEncoder, masks: readonly Bitmask[]): void {
    const slab = this.slabs[arm];
    if (arm === 'copies') {
      for (const mask of masks) slab.encodeUpdateByCopies(encoder, mask);
      return;
    }
    const pass = encoder.beginComputePass();
    for (const mask of masks) slab.encodeUpdate(pass, mask, options(arm));
    pass.end();
  }

  /** Mask in hand to work submitted. */
  update(arm: Arm, mask: Bitmask): void {
    const slab = this.slabs[arm];
    if (arm === 'copies') {
      const encoder = this.pool.device.createCommandEncoder();
      slab.encodeUpdateByCopies(encoder, mask);
      this.pool.device.queue.submit([encoder.finish()]);
      slab.submitted();
    } else slab.update(mask, options(arm));
  }

  destroy(): void {
    for (const slab of Object.values(this.slabs)) slab.destroy();
    this.pool.destroy();
  }
}

function options(arm: Exclude<Arm, 'copies'>): Parameters<Slab['update']>[1] {
  if (arm === 'repack_ids') return { strategy: 'repack', repackBy: 'ids' };
  if (arm === 'repack_mask') return { strategy: 'repack', repackBy: 'mask' };
  return arm === 'paired' ? { tau: 1 } : { rule: 'published' };
}

/** Per arm and repeat: milliseconds of one update. */
type Times = Record<Arm, number[]>;
const noTimes = (): Times => Object.fromEntries(ARMS.map((arm) => [arm, [] as number[]])) as unknown as Times;

export async function updateSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const steps = context.quick ? 20 : 50;
  const repeats = context.quick ? 3 : 7;
  const timer = deviceTimer(device);
  const results: Result[] = [];
  const summary: Record<string, number> = {};
  const ceiling = await copyCeiling(device, timer, repeats + 2);
  summary['update.copy_ceiling_gbps'] = ceiling.median;
  results.push({ suite: 'update', case: 'copy ceiling', gbps: ceiling });
  for (const gated of [true, false]) {
    const layer = new Layer(device, gated, steps);
    const name = gated ? 'gated' : 'ungated';
    for (const k of CHANGES) {
      const onDevice = noTimes();
      const wall = noTimes();
      const random = randomSource(k);
      for (let r = -1; r < repeats; r++) {
        const [first, ...rest] = maskChain({ n: N, m: M, k }, steps, 100 * k + r);
        for (const arm of shuffle([...ARMS], random)) {
          const slab = layer.slabs[arm];
          slab.update(first);
          await finished(device);
          const ms = (await timer.time((encoder) => layer.encode(arm, encoder, rest))) / steps;
          slab.submitted();
          slab.update(first);
          await finished(device);
          let total = 0;
          for (const mask of rest) {
            const started = performance.now();
            layer.update(arm, mask);
            await finished(device);
            total += performance.now() - started;
          }
          // The first repeat compiles and warms.
          if (r < 0) continue;
          onDevice[arm].push(ms);
          wall[arm].push(total / steps);
        }
      }
      const writes = k / 2;
      const bytes = 2 * writes * layer.pool.rowBytes;
      const rates = onDevice.paired.map((ms) => bytes / ms / 1e6);
      for (const arm of ARMS) {
        results.push({
          suite: 'update',
          case: `${name} k=${k} ${arm}`,
          gated,
          k,
          arm,
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
        });
      }
      const fastest = (times: Times) => times.repack_ids.map((ms, i) => Math.min(ms, times.repack_mask[i]));
      const prefix = gated ? `update.k${k}` : `update.ungated.k${k}`;
      summary[`${prefix}.speedup_vs_repack`] = ratioOf(fastest(onDevice), onDevice.paired).median;
      summary[`${prefix}.speedup_wall`] = ratioOf(fastest(wall), wall.paired).median;
      summary[`${prefix}.copy_fraction`] = statsOf(rates).median / ceiling.median;
      const line = ARMS.map(
        (arm) => `${arm} ${statsOf(onDevice[arm]).median.toFixed(4)}/${statsOf(wall[arm]).median.toFixed(3)}`,
      );
      context.log(`${name} k=${k}: ms device/wall ${line.join(', ')}`);
    }
    layer.destroy();
  }
  timer.destroy();
  return { results, summary };
}
