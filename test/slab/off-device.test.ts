/** Slabs over pools in host memory and over pools whose rows arrive: bit for bit what a slab over a device pool is. */
import { expect, it } from 'vitest';
import { CapacityError, OptionError, PairslabError, PoolError } from '../../src/errors.js';
import { gpuBytes } from '../../src/gpu/buffers.js';
import { BlobSource } from '../../src/io/byte-source.js';
import { HttpSource } from '../../src/io/http-source.js';
import { Bitmask } from '../../src/mask/index.js';
import { StalePlanError } from '../../src/plan/index.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { HostPool } from '../../src/pool/host-pool.js';
import type { OffDevicePool, ReadOptions } from '../../src/pool/pool.js';
import { StoredPool } from '../../src/pool/stored-pool.js';
import { Slab } from '../../src/slab/slab.js';
import type { SlabOptions } from '../../src/slab/slab-options.js';
import { UploadRing } from '../../src/slab/upload-ring.js';
import { describeAdapters, IN_CHROMIUM } from '../support/adapters.js';
import { randomSource } from '../support/make-model.js';
import { storeRows } from '../support/store.js';
import { tap } from './tap.js';
import { checkSame, checkSlab, type FieldShape, makeSpecs, nextMask, randomMask, readSlab } from './twin.js';
import { readMemory } from '../support/read-memory.js';

const LAYER: Readonly<Record<string, FieldShape>> = {
  up: { cols: [5] },
  down: { cols: [9], transposed: true },
  bias: { cols: [1] },
};
/** 32 + 48 + 16 */
const LAYER_ROW = 96;
const FOUR: Readonly<Record<string, FieldShape>> = {
  a: { cols: [3], dtype: 'f16' },
  b: { cols: [4] },
  c: { cols: [9], dtype: 'f16' },
  d: { cols: [70, 1, 2] },
};
const ROWS = 60;

/** A pool whose rows come when `arrive` is called, or never. */
class Arriving implements OffDevicePool {
  readonly rows: number;
  readonly fields: HostPool['fields'];
  readonly rowBytes: number;
  readonly label = 'arriving';
  readonly asked: number[][] = [];
  /** What each read waits for; it may throw, after it has spoilt what it was to fill. */
  gate: (into: Uint8Array, options: ReadOptions) => Promise<void> = async () => {};
  private readonly host: HostPool;

  constructor(host: HostPool) {
    this.host = host;
    this.rows = host.rows;
    this.fields = host.fields;
    this.rowBytes = host.rowBytes;
  }
  field(name: string) {
    return this.host.field(name);
  }
  async read(ids: Uint32Array, into: Uint8Array<ArrayBuffer>, options: ReadOptions = {}): Promise<void> {
    this.asked.push([...ids]);
    await this.gate(into, options);
    await this.host.read(ids, into, options);
  }
}

describeAdapters('slab over a pool off the device', (ctx) => {
  const pools = (shapes = LAYER, rows = ROWS) => {
    const { specs, images } = makeSpecs(rows, shapes);
    const pool = DevicePool.from(ctx.device, specs);
    const host = HostPool.from(specs);
    return { twin: { pool, rows, images }, host };
  };
  const layer = (options: SlabOptions = {}) => {
    const { twin, host } = pools();
    const arriving = new Arriving(host);
    const slab = new Slab(arriving, { ring: new UploadRing(ctx.device), ...options });
    const mask = (...ids: number[]) => Bitmask.fromIds(ids, ROWS);
    return { twin, host, arriving, slab, mask };
  };

  const rings = { 'one row': 1, 'seven rows': 7, 'more than all': 1000 };
  it.each(
    Object.entries(rings).flatMap(([ring, rows]) =>
      Object.entries({ LAYER, FOUR }).map(([name, shapes]) => ({ ring, rows, name, shapes })),
    ),
  )('equals one over a device pool: $name, a ring of $ring', async ({ rows, shapes }) => {
    const { twin, host } = pools(shapes);
    const { device } = ctx;
    const ring = new UploadRing(device, { bytes: rows * host.rowBytes });
    const capacity = 40;
    const want = new Slab(twin.pool, { capacity });
    const got = [host, new Arriving(host)].map((pool) => new Slab(pool, { capacity, ring }));
    const random = randomSource(rows);
    let mask = Bitmask.empty(ROWS);
    let held = 0;
    for (let n = 0; n < 25; n++) {
      mask = n === 0 ? randomMask(random, ROWS, capacity) : nextMask(random, mask, capacity);
      const options = n % 5 === 4 ? ({ strategy: 'repack' } as const) : {};
      const stats = want.update(mask, options);
      expect(got[0].update(mask, options)).toEqual(stats);
      expect(await got[1].load(mask, options)).toEqual(stats);
      const contents = await checkSlab(twin, want, mask);
      for (const slab of got) checkSame(await checkSlab(twin, slab, mask), contents);
      if (n === 5) held = gpuBytes(device);
      if (n > 5) expect(gpuBytes(device)).toBe(held);
    }
    for (const slab of [want, ...got]) slab.destroy();
    ring.destroy();
  });

  const overHttp = it.skipIf(IN_CHROMIUM);
  overHttp(
    'equals one over a device pool when its rows come from a Blob or a server that fails now and then',
    async () => {
      const { twin, host } = pools(FOUR);
      const { device } = ctx;
      const { file, stored } = storeRows(host, { blockRows: 2, before: 48 });
      const { FaultServer } = await import('../support/fault-server.js');
      const server = await FaultServer.start({ 'rows.bin': file });
      const http = await HttpSource.open(server.url('rows.bin'), { backoffMs: 1 });
      // Every third request is cut off in the middle, or has a wrong bit.
      server.fault = ({ n, range }, response, whole) => {
        if (n % 3 !== 0 || !range) return false;
        const body = Buffer.from(whole.subarray(range[0], range[1] + 1));
        const contentRange = `bytes ${range[0]}-${range[1]}/${whole.length}`;
        response.writeHead(206, { 'content-range': contentRange, 'content-length': body.length });
        body[body.length >> 1] ^= 1;
        if (n % 2 === 0) response.write(body.subarray(0, body.length - 1), () => response.destroy());
        else response.end(body);
        return true;
      };
      const far = new StoredPool(http, stored, { gapBytes: 0, rereads: 4 });
      const sources = [new StoredPool(new BlobSource(new Blob([file])), stored), far];
      const want = new Slab(twin.pool, { capacity: 40 });
      const got = sources.map((pool) => new Slab(pool, { capacity: 40, ring: new UploadRing(device) }));
      const random = randomSource(12);
      let mask = Bitmask.empty(ROWS);
      for (let n = 0; n < 12; n++) {
        mask = n === 0 ? randomMask(random, ROWS, 40) : nextMask(random, mask, 40);
        const stats = want.update(mask);
        const contents = await checkSlab(twin, want, mask);
        for (const slab of got) {
          expect(await slab.load(mask)).toEqual(stats);
          checkSame(await checkSlab(twin, slab, mask), contents);
        }
      }
      expect(far.counts.damaged).toBeGreaterThan(0);
      // With the server gone, what is resident stays, and what is not is refused.
      await server.close();
      const resident = await checkSlab(twin, got[1], mask);
      const others = Array.from({ length: ROWS }, (_, row) => row).filter((row) => !mask.has(row));
      await expect(got[1].load(Bitmask.fromIds(others.slice(0, 40), ROWS))).rejects.toThrow(PoolError);
      checkSame(await checkSlab(twin, got[1], mask), resident);
      const fewer = Bitmask.fromIds(mask.ids().subarray(1), ROWS);
      await got[1].load(fewer);
      await checkSlab(twin, got[1], fewer);
    },
  );

  it.each(['f16', 'q8', 'q4'] as const)(
    'converts rows of %s on the way in, as from a device pool',
    async (dtype) => {
      const random = randomSource(3);
      const values = (cols: number) => Float32Array.from({ length: ROWS * cols }, () => random() - 0.5);
      const fields = {
        matrix: { parts: [70, 5].map((cols) => ({ data: values(cols), cols })) },
        other: { data: values(33), cols: 33, transposed: true },
        bias: { data: values(4), cols: 4, storeAs: 'f32' as const },
      };
      const pool = DevicePool.from(ctx.device, fields, { dtype });
      const host = HostPool.from(fields, { dtype });
      expect(host.quantization.map(({ rmsRelative }) => rmsRelative)).toEqual(
        pool.quantization.map(({ rmsRelative }) => rmsRelative),
      );
      for (const [name, { shards }] of pool.fields)
        expect(new Uint8Array(await readMemory(ctx.device, shards[0].memory))).toEqual(host.fieldRows(name));
      const options = { capacity: 30, dtype: { matrix: 'f32' } as const };
      const want = new Slab(pool, options);
      const got = new Slab(host, { ...options, ring: new UploadRing(ctx.device) });
      let mask = randomMask(random, ROWS, 30);
      for (let n = 0; n < 6; n++) {
        expect(got.update(mask)).toEqual(want.update(mask));
        checkSame(await readSlab(got), await readSlab(want));
        mask = nextMask(random, mask, 30);
      }
    },
  );

  it('makes one upload of rows and one dispatch for a step, and allocates nothing', async () => {
    const { device, calls } = tap(ctx.device);
    const { host, twin } = pools();
    const slab = new Slab(host, { ring: new UploadRing(device) });
    const random = randomSource(8);
    // Once round the regions: bind groups are made when first needed.
    for (let n = 0; n < 5; n++) slab.update(randomMask(random, ROWS, 30));
    calls.length = 0;
    const mask = randomMask(random, ROWS, 30);
    slab.update(mask);
    expect(calls.filter((name) => name.startsWith('create'))).toEqual(['createCommandEncoder']);
    // Moves, rows.
    expect(calls.filter((name) => name === 'writeBuffer')).toHaveLength(2);
    expect(calls.filter((name) => name === 'submit')).toHaveLength(1);
    await checkSlab(twin, slab, mask);
  });

  it('takes updates of several slabs in one pass through one ring, and refuses what does not fit', async () => {
    const { twin, host } = pools();
    const { device } = ctx;
    const ring = new UploadRing(device, { bytes: 10 * LAYER_ROW });
    const slabs = [0, 1, 2].map(() => new Slab(host, { ring, pendingUpdates: 2 }));
    const masks = [
      [1, 2, 3, 4],
      [5, 6, 7],
      [8, 9, 10, 11],
    ].map((ids) => Bitmask.fromIds(ids, ROWS));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    slabs[0].encodeUpdate(pass, masks[0]);
    slabs[1].encodeUpdate(pass, masks[1]);
    expect(() => slabs[2].encodeUpdate(pass, masks[2])).toThrow(/room for 3 rows/);
    expect(slabs[2].active).toBe(0);
    pass.end();
    device.queue.submit([encoder.finish()]);
    slabs[0].submitted();
    // The other slab's rows may still wait for their submit, for all that the ring knows.
    expect(ring.room(LAYER_ROW)).toBe(3);
    slabs[1].submitted();
    expect(ring.room(LAYER_ROW)).toBe(10);
    slabs[2].update(masks[2]);
    for (const [s, slab] of slabs.entries()) await checkSlab(twin, slab, masks[s]);
  });

  it('says which ways do not reach rows that have to be read', async () => {
    const { arriving, slab, mask, host } = layer();
    expect(() => slab.update(mask(1))).toThrow(/slab.load/);
    expect(() => slab.repackByIds([1])).toThrow(OptionError);
    expect(() => slab.encodeUpdateByCopies(ctx.device.createCommandEncoder(), mask(1))).toThrow(OptionError);
    expect(() => slab.encodeArrivals(mask(1), {}, () => {})).toThrow(OptionError);
    expect(() => new Slab(arriving)).toThrow(/give the slab a ring/);
    for (const bytes of [0, 8, 40, Number.NaN])
      expect(() => new UploadRing(ctx.device, { bytes })).toThrow(OptionError);
    const ring = new UploadRing(ctx.device, { bytes: LAYER_ROW - 16 });
    const before = gpuBytes(ctx.device);
    expect(() => new Slab(host, { ring })).toThrow(/one row of host pool needs 96/);
    expect(gpuBytes(ctx.device)).toBe(before);
    expect(slab.active).toBe(0);
  });

  it('stays as it was when a read fails, is aborted, or asks for too much', async () => {
    const { twin, arriving, slab, mask } = layer({ capacity: 4 });
    await slab.load(mask(4, 9, 30));
    const before = await checkSlab(twin, slab, mask(4, 9, 30));
    const unchanged = async () => checkSame(await checkSlab(twin, slab, mask(4, 9, 30)), before);

    arriving.gate = async (into) => {
      into.fill(0xee);
      throw new PairslabError('lost');
    };
    await expect(slab.load(mask(1, 9, 12))).rejects.toThrow('lost');
    await unchanged();

    const controller = new AbortController();
    arriving.gate = async () => controller.abort();
    await expect(slab.load(mask(1, 9), { signal: controller.signal })).rejects.toThrow(/abort/i);
    await expect(slab.load(mask(1, 9), { signal: controller.signal })).rejects.toThrow(/abort/i);
    await unchanged();

    arriving.gate = async () => {};
    await expect(slab.load(mask(1, 2, 3, 4, 5))).rejects.toThrow(CapacityError);
    await unchanged();
    arriving.asked.length = 0;
    expect(await slab.load(mask(4, 12, 30))).toMatchObject({ writes: 1 });
    expect(arriving.asked).toEqual([[12]]);
    await checkSlab(twin, slab, mask(4, 12, 30));
  });

  it('loads in turn, and refuses rows for a state that is gone', async () => {
    const { twin, host, arriving, slab, mask } = layer();
    const seen: number[] = [];
    const all = [mask(1, 2), mask(2, 3), mask(3, 4)].map((next) =>
      slab.load(next, { onProgress: (done) => seen.push(done) }),
    );
    expect((await Promise.all(all)).map(({ added, removed }) => [added, removed])).toEqual([
      [2, 0],
      [1, 1],
      [1, 1],
    ]);
    expect(seen).toEqual([2, 1, 1]);
    await checkSlab(twin, slab, mask(3, 4));

    // A pool in memory whose read is slow: `update` may come in between.
    const both = Object.assign(arriving, { readNow: host.readNow.bind(host) });
    both.gate = async () => void slab.update(mask(7));
    await expect(slab.load(mask(8))).rejects.toThrow(StalePlanError);
    await checkSlab(twin, slab, mask(7));

    arriving.gate = async () => slab.destroy();
    await expect(slab.load(mask(9))).rejects.toThrow(/destroyed/);
  });

  it('loads from a device pool as it updates from it', async () => {
    const { twin } = pools();
    const slab = new Slab(twin.pool);
    const mask = Bitmask.fromIds([3, 5], ROWS);
    expect(await slab.load(mask)).toMatchObject({ kind: 'paired', writes: 2 });
    await checkSlab(twin, slab, mask);
  });
});
