/** Eleven thousand random updates on each adapter, the slab compared with the pool's rows after every single one. */
import { expect, it } from 'vitest';
import { gpuBytes } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { Bitmask } from '../../src/mask/index.js';
import { Slab } from '../../src/slab/slab.js';
import type { UpdateStats } from '../../src/slab/update-stats.js';
import { shuffled } from '../plan/slab-sim.js';
import { describeAdapters } from '../support/adapters.js';
import { randomSource } from '../support/make-model.js';
import { type Contents, checkContents, type FieldShape, makePool, nextMask } from './twin.js';

/** States kept on the device between two readbacks. */
const SNAPSHOTS = 20;

interface Config {
  name: string;
  updates: number;
  rows: number;
  capacity: number;
  shapes: Readonly<Record<string, FieldShape>>;
  maxShardBytes?: number;
  storage?: RowStorage;
}

const configs: Config[] = [
  {
    name: 'gated layer in one shard',
    updates: 6000,
    rows: 70,
    capacity: 50,
    shapes: { gateUp: { cols: [5, 5] }, down: { cols: [6], transposed: true } },
  },
  {
    name: 'four fields of mixed dtypes in five shards',
    updates: 4000,
    rows: 45,
    capacity: 45,
    shapes: {
      a: { cols: [3], dtype: 'f16' },
      b: { cols: [4] },
      c: { cols: [9], dtype: 'f16' },
      d: { cols: [1] },
    },
    maxShardBytes: 10 * 32,
  },
  {
    name: 'rows over several lines of a texture, and shards',
    updates: 1000,
    rows: 300,
    capacity: 90,
    shapes: { gateUp: { cols: [40, 40] }, down: { cols: [20], dtype: 'f16', transposed: true } },
    maxShardBytes: 250 * 320,
    storage: 'texture',
  },
];

/** One of the ways to bring a slab to a mask, at random. */
function updateSomehow(slab: Slab, mask: Bitmask, random: () => number): UpdateStats {
  const { device } = slab;
  const way = random();
  if (way < 0.6) return slab.update(mask);
  if (way < 0.7) return slab.update(mask, { tau: 0.4 });
  if (way < 0.8) return slab.repackByMask(mask);
  if (way < 0.9) return slab.repackByIds(shuffled([...mask], Math.floor(random() * 1e6)));
  const encoder = device.createCommandEncoder();
  const stats = slab.encodeUpdateByCopies(encoder, mask);
  device.queue.submit([encoder.finish()]);
  slab.submitted();
  return stats;
}

describeAdapters('slab under random updates', (ctx) => {
  it.each(configs)(
    '$updates updates of $name',
    async ({ updates, rows, capacity, shapes, maxShardBytes, storage }) => {
      const { device } = ctx;
      const seed = [...ctx.adapter.name].reduce((sum, c) => sum * 31 + c.charCodeAt(0), updates) | 0;
      const random = randomSource(seed);
      const empty = gpuBytes(device);
      const twin = makePool(device, rows, shapes, { seed, maxShardBytes, storage });
      const slab = new Slab(twin.pool, { capacity });
      const sources = [slab.rowList, ...slab.buffers.values()];
      const bytes = sources.reduce((sum, buffer) => sum + buffer.size, 0);
      // Not the package's, so not counted.
      const snapshots = device.createBuffer({ size: SNAPSHOTS * bytes, usage: 0x4 | 0x8 });

      // Pieces are made when first needed: each kind of update once, the bounce buffer of the copies too.
      slab.update(Bitmask.fromIds([0, 1, 2, 3], rows));
      const encoder = device.createCommandEncoder();
      expect(slab.encodeUpdateByCopies(encoder, Bitmask.fromIds([3], rows)).writes).toBe(1);
      device.queue.submit([encoder.finish()]);
      slab.repackByIds([7, 5]);
      slab.repackByMask(Bitmask.fromIds([1, 8], rows));
      const held = gpuBytes(device);

      let mask = slab.mask();
      let waiting: { mask: Bitmask; rowIds: Uint32Array; stats: UpdateStats }[] = [];
      const seen = { paired: 0, repack: 0, none: 0, deferred: 0 };
      for (let n = 0; n < updates; n++) {
        mask = nextMask(random, mask, capacity);
        const stats = updateSomehow(slab, mask, random);
        seen[stats.kind]++;
        if (gpuBytes(device) !== held)
          throw new Error(`update ${n}: ${gpuBytes(device)} bytes held, not ${held}`);
        if (!slab.mask().equals(mask)) throw new Error(`update ${n}: the mask is [${slab.mask().ids()}]`);
        const copy = device.createCommandEncoder();
        let at = waiting.length * bytes;
        for (const buffer of sources) {
          copy.copyBufferToBuffer(buffer, 0, snapshots, at, buffer.size);
          at += buffer.size;
        }
        device.queue.submit([copy.finish()]);
        waiting.push({ mask, rowIds: slab.rowIds(), stats });
        if (waiting.length < SNAPSHOTS && n + 1 < updates) continue;

        const read = await readBuffer(device, snapshots, 0, waiting.length * bytes);
        waiting.forEach((state, s) => {
          let from = s * bytes;
          const [rowList, ...fields] = sources.map((buffer) => {
            from += buffer.size;
            return new Uint32Array(read, from - buffer.size, buffer.size / 4);
          });
          const contents: Contents = {
            rowList,
            fields: new Map([...slab.buffers.keys()].map((name, f) => [name, fields[f]])),
          };
          try {
            checkContents(twin, contents, state.mask, state.rowIds);
          } catch (cause) {
            const number = n + 1 - waiting.length + s;
            throw new Error(`update ${number} (seed ${seed}, ${state.stats.kind}) left a wrong slab`, {
              cause,
            });
          }
        });
        waiting = [];
      }
      expect(seen.paired).toBeGreaterThan(updates / 2);
      expect(seen.repack).toBeGreaterThan(updates / 10);
      expect(seen.none).toBeGreaterThan(0);
      snapshots.destroy();
      slab.destroy();
      twin.pool.destroy();
      expect(gpuBytes(device)).toBe(empty);
    },
  );
});
