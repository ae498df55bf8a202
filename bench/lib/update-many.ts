import { finished } from '../../src/gpu/readback.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { HostPool } from '../../src/pool/host-pool.js';
import { Slab } from '../../src/slab/slab.js';
import { updateMany } from '../../src/slab/update-many.js';
import { UploadRing } from '../../src/slab/upload-ring.js';
import { type Stats, ratioOf, statsOf } from '../../src/tune/stats.js';
import { weights } from './layers.js';
import { maskChain } from './masks.js';

/** A small model's layers. */
const LAYERS = 12;
const N = 1536;
const WIDTH = 256;
const M = 256;
const K = 32;

export interface ManyUpdates {
  layers: number;
  changed: number;
  /** Wall ms of all layers' updates, waited for once: one call, and one call a layer. */
  manyMs: Stats;
  singleMs: Stats;
  speedup: Stats;
}

/** All layers' updates of a step by `updateMany` and by single updates, in turns. */
export async function measureManyUpdates(
  device: GPUDevice,
  home: 'device' | 'host',
  repeats: number,
): Promise<ManyUpdates> {
  const rows = { data: weights(N * WIDTH), cols: WIDTH };
  const onDevice = home === 'device' ? DevicePool.from(device, { up: rows, down: rows }) : null;
  const pool = onDevice ?? HostPool.from({ up: rows, down: rows });
  const ring = onDevice ? undefined : new UploadRing(device, { bytes: 4 << 20 });
  const make = () => Array.from({ length: LAYERS }, () => new Slab(pool, { capacity: M, ring }));
  const slabs = { many: make(), single: make() };
  const times = { many: [] as number[], single: [] as number[] };
  try {
    const chains = slabs.many.map((_, l) => maskChain({ n: N, m: M, k: K }, repeats + 3, 10 + l));
    for (let n = 0; n < repeats + 3; n++) {
      const masks = chains.map((chain) => chain[n]);
      for (const arm of n % 2 ? (['many', 'single'] as const) : (['single', 'many'] as const)) {
        await finished(device);
        const started = performance.now();
        if (arm === 'many') updateMany(slabs.many, masks);
        else for (const [l, slab] of slabs.single.entries()) slab.update(masks[l]);
        await finished(device);
        // The first fill the slabs and compile.
        if (n >= 3) times[arm].push(performance.now() - started);
      }
    }
  } finally {
    for (const slab of [...slabs.many, ...slabs.single]) slab.destroy();
    ring?.destroy();
    onDevice?.destroy();
  }
  return {
    layers: LAYERS,
    changed: K,
    manyMs: statsOf(times.many),
    singleMs: statsOf(times.single),
    speedup: ratioOf(times.single, times.many),
  };
}
