import { expect, it } from 'vitest';
import { encodeBf16, encodeF16 } from '../../src/dtype.js';
import { DeviceLimitError, NonFiniteError, OptionError, ShapeError } from '../../src/errors.js';
import { gpuBytes } from '../../src/gpu/buffers.js';
import { packRows } from '../../src/gpu/layout.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { fasterStorage } from '../../src/gpu/texels.js';
import { requestDevice } from '../../src/node/device.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { Bitmask } from '../../src/mask/index.js';
import { DevicePool, type PoolOptions } from '../../src/pool/device-pool.js';
import type { FieldSpec } from '../../src/pool/fields.js';
import { HostPool } from '../../src/pool/host-pool.js';
import { QuantizationMeter } from '../../src/quantize.js';
import { Slab } from '../../src/slab/slab.js';
import { tap } from '../slab/tap.js';
import { checkContents, type FieldShape, makePool, makeSpecs, readSlab } from '../slab/twin.js';
import { useSoftwareKernels } from '../../src/software-kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { randomSource } from '../support/make-model.js';
import { stored } from '../support/stored.js';
import { readMemory } from '../support/read-memory.js';

const STORAGE = 0x80 | 0x4 | 0x8;

const shapes: Readonly<Record<string, FieldShape>> = {
  gateUp: { cols: [13, 13] },
  down: { cols: [13], transposed: true },
  halves: { cols: [13, 2], dtype: 'f16', transposed: true },
  scale: { cols: [1], dtype: 'f16' },
};

async function shardsOf(pool: DevicePool, name: string): Promise<number[]> {
  const { shards, rowBytes } = pool.field(name);
  const words: number[] = [];
  for (const { memory, rows } of shards) {
    words.push(...new Uint32Array(await readMemory(pool.device, memory, rows * rowBytes)));
  }
  return words;
}

describeAdapters('device pool', (ctx) => {
  it.each<[number | undefined, RowStorage]>([
    [undefined, 'buffer'],
    [1000, 'buffer'],
    [300, 'buffer'],
    [128, 'buffer'],
    [undefined, 'texture'],
    [300, 'texture'],
  ])('stores rows as they should be, shards of at most %s bytes, in a %s', async (maxShardBytes, storage) => {
    const { device } = ctx;
    const before = gpuBytes(device);
    const { pool, images } = makePool(device, 37, shapes, { maxShardBytes, storage });
    for (const [name, { words, stride }] of images) {
      const field = pool.field(name);
      expect(field.rowBytes).toBe(stride * 4);
      expect(field.storage).toBe(storage);
      expect(await shardsOf(pool, name)).toEqual(Array.from(words));
      let base = 0;
      for (const shard of field.shards) {
        expect(shard.base).toBe(base);
        expect('createView' in shard.memory).toBe(storage === 'texture');
        expect(shard.rows * field.rowBytes).toBeLessThanOrEqual(maxShardBytes ?? 1e9);
        base += shard.rows;
      }
      expect(base).toBe(37);
    }
    expect(pool.rowBytes).toBe(128 + 64 + 48 + 16);
    expect(gpuBytes(device) - before).toBe(pool.bytes);
    pool.destroy();
    expect(gpuBytes(device)).toBe(before);
  });

  it('converts on the way in', async () => {
    const { device } = ctx;
    const values = Float32Array.of(1, -2.5, 1 / 3, 1e-7, 60_000, 0);
    const f16 = encodeF16(values);
    const bf16 = encodeBf16(values);
    const pool = DevicePool.from(
      device,
      {
        plain: { data: values, cols: 3 },
        asF32: { data: values, cols: 3, storeAs: 'f32' },
        fromF16: { data: f16, cols: 3, storeAs: 'f32' },
        fromBf16: { data: bf16, dtype: 'bf16', cols: 3, storeAs: 'f32' },
        bf16AsF16: { data: bf16, dtype: 'bf16', cols: 3 },
      },
      { dtype: 'f16' },
    );
    const widen = (bits: Uint16Array) => Uint32Array.from(bits, (b) => b << 16);
    const pairs = (halves: Uint16Array) =>
      [0, 3].flatMap((r) => [halves[r] + halves[r + 1] * 65_536, halves[r + 2], 0, 0]);
    const quads = (words: Uint32Array) => [0, 3].flatMap((r) => [words[r], words[r + 1], words[r + 2], 0]);
    expect(await shardsOf(pool, 'plain')).toEqual(pairs(f16));
    expect(await shardsOf(pool, 'asF32')).toEqual(quads(new Uint32Array(values.buffer)));
    expect(await shardsOf(pool, 'fromBf16')).toEqual(quads(widen(bf16)));
    expect(await shardsOf(pool, 'bf16AsF16')).toEqual(pairs(encodeF16(new Float32Array(widen(bf16).buffer))));
    const back = new Float32Array(Uint32Array.from(await shardsOf(pool, 'fromF16')).buffer);
    expect(back[0]).toBe(1);
    expect(back[2]).toBe(Math.fround(1365 / 4096));
    expect(back.subarray(5)).toEqual(Float32Array.of(60_000, 0, 0));
    pool.destroy();
  });

  it.each([
    ['q8', 'buffer'],
    ['q4', 'texture'],
  ] as const)('quantises to %s on the way in and says what it cost, in a %s', async (dtype, storage) => {
    const { device } = ctx;
    const random = randomSource(4);
    const rows = 37;
    const values = (cols: number) => Float32Array.from({ length: rows * cols }, () => random() - 0.5);
    const parts = [
      { data: values(70), cols: 70, name: 'one' },
      { data: encodeBf16(values(5)), dtype: 'bf16' as const, cols: 5 },
    ];
    const down = { data: values(40), cols: 40, transposed: true, name: 'down' };
    const scale = { data: values(4), cols: 4, storeAs: 'f32' as const };
    const want = packRows(parts, rows, 0, rows, dtype);
    const stride = want.length / rows;
    for (const maxShardBytes of [undefined, 10 * stride]) {
      const pool = DevicePool.from(
        device,
        { both: { parts }, down, scale },
        { dtype, maxShardBytes, storage, label: 'p' },
      );
      expect(pool.field('both').shards.length).toBe(maxShardBytes ? 4 : 1);
      expect(pool.field('both').rowBytes).toBe(stride);
      expect(await shardsOf(pool, 'both')).toEqual(Array.from(new Uint32Array(want.buffer)));
      const turned = packRows([down], rows, 0, rows, dtype);
      expect(await shardsOf(pool, 'down')).toEqual(Array.from(new Uint32Array(turned.buffer)));
      // The meters run over all shards.
      const errors = pool.quantization;
      expect(errors.map(({ name }) => name)).toEqual(['one', 'p both part 1', 'down']);
      const back = stored(parts[0].data as Float32Array, 70, dtype);
      const meter = new QuantizationMeter();
      meter.add(parts[0].data as Float32Array, back);
      expect(errors[0].dtype).toBe(dtype);
      expect(errors[0].maxAbsolute).toBe(meter.result.maxAbsolute);
      expect(errors[0].rmsRelative).toBeCloseTo(meter.result.rmsRelative, 9);
      expect(pool.field('scale').quantization).toEqual([]);
      pool.destroy();
    }
  });

  it('adopts a GPU buffer that stays the caller’s', async () => {
    const { device } = ctx;
    const { specs, images } = makeSpecs(20, { weight: { cols: [8] }, extra: { cols: [3], dtype: 'f16' } });
    const words = images.get('weight')!.words;
    const buffer = device.createBuffer({ size: words.byteLength, usage: STORAGE });
    device.queue.writeBuffer(buffer, 0, Uint32Array.from(words));
    const before = gpuBytes(device);
    const alone = DevicePool.from(device, { weight: { buffer, cols: 8, storeAs: 'f32' } }, { rows: 20 });
    expect(alone.bytes).toBe(0);
    expect(alone.field('weight').shards).toEqual([{ memory: buffer, base: 0, rows: 20 }]);
    // Beside values, which then are in one shard too.
    const pool = DevicePool.from(
      device,
      { weight: { buffer, cols: 8, storeAs: 'f32' }, extra: specs.extra },
      { maxShardBytes: 64 },
    );
    expect(pool.rows).toBe(20);
    expect(pool.bytes).toBe(20 * 16);
    const mask = Bitmask.fromIds([0, 7, 19], 20);
    const slab = new Slab(pool, { capacity: 5 });
    for (const step of [Bitmask.fromIds([7, 9, 10], 20), mask]) slab.update(step);
    checkContents({ pool, rows: 20, images }, await readSlab(slab), mask, slab.rowIds());
    slab.destroy();
    pool.destroy();
    alone.destroy();
    expect(gpuBytes(device)).toBe(before);
    expect(new Uint32Array(await readBuffer(device, buffer))).toEqual(words);
    buffer.destroy();
  });

  it('refuses what is wrong and allocates nothing', () => {
    const { device } = ctx;
    const data = new Float32Array(24);
    const nan = new Float32Array(24).fill(Number.NaN, 17);
    const small = device.createBuffer({ size: 64, usage: STORAGE });
    const cases: [string, Record<string, FieldSpec>, PoolOptions, new (...given: never[]) => Error][] = [
      ['no fields', {}, {}, OptionError],
      ['no whole rows', { a: { data, cols: 7 } }, {}, ShapeError],
      ['no rows', { a: { data: new Float32Array(0), cols: 4 } }, {}, ShapeError],
      ['no columns', { a: { data, cols: 0 } }, {}, ShapeError],
      ['half columns', { a: { data, cols: 1.5 } }, {}, ShapeError],
      ['negative columns', { a: { data, cols: -4 } }, {}, ShapeError],
      ['another N', { a: { data, cols: 4 }, b: { data, cols: 3 } }, {}, ShapeError],
      ['another N than given', { a: { data, cols: 4 } }, { rows: 7 }, ShapeError],
      [
        'parts of another N',
        {
          a: {
            parts: [
              { data, cols: 4 },
              { data, cols: 3 },
            ],
          },
        },
        {},
        ShapeError,
      ],
      ['no parts', { a: { parts: [] } }, { rows: 3 }, OptionError],
      ['unknown dtype', { a: { data, cols: 4 } }, { dtype: 'q5' as 'f32' }, OptionError],
      ['unknown storeAs', { a: { data, cols: 4, storeAs: 'fp8' as 'f16' } }, {}, OptionError],
      [
        'NaN to quantise',
        { b: { data, cols: 4 }, a: { data: nan, cols: 4 } },
        { dtype: 'q4' },
        NonFiniteError,
      ],
      [
        'unknown dtype of the values',
        { a: { data: new Uint16Array(8), dtype: 'q4' as 'f16', cols: 4 } },
        {},
        OptionError,
      ],
      ['a buffer and no N', { a: { buffer: small, cols: 4, storeAs: 'f32' } }, {}, OptionError],
      ['zero N', { a: { buffer: small, cols: 4, storeAs: 'f32' } }, { rows: 0 }, ShapeError],
      ['a buffer too small', { a: { buffer: small, cols: 4, storeAs: 'f32' } }, { rows: 5 }, ShapeError],
      ['unpadded rows', { a: { buffer: small, cols: 6, storeAs: 'f16' } }, { rows: 2 }, ShapeError],
      ['shards of nothing', { a: { data, cols: 4 } }, { maxShardBytes: 0 }, OptionError],
      ['shards of NaN', { a: { data, cols: 4 } }, { maxShardBytes: Number.NaN }, OptionError],
      [
        'a row wider than a shard',
        { a: { data, cols: 1 }, b: { data, cols: 4 } },
        { maxShardBytes: 15 },
        ShapeError,
      ],
      ['a row wider than a shard', { a: { data, cols: 8 } }, { maxShardBytes: 31 }, DeviceLimitError],
      [
        'a row wider than a shard',
        { a: { data, cols: 8 } },
        { maxShardBytes: 31, storage: 'texture' },
        DeviceLimitError,
      ],
      ['unknown storage', { a: { data, cols: 4 } }, { storage: 'image' as 'texture' }, OptionError],
      [
        'a buffer as a texture',
        { a: { buffer: small, cols: 4, storeAs: 'f32' }, b: { data: data.subarray(0, 8), cols: 2 } },
        { storage: 'texture' },
        OptionError,
      ],
    ];
    const before = gpuBytes(device);
    for (const [what, fields, options, error] of cases) {
      expect(() => DevicePool.from(device, fields, options), what).toThrow(error);
      expect(gpuBytes(device), what).toBe(before);
    }
    small.destroy();
  });

  it('says what is wrong with a storage, and what there is', () => {
    const { device } = ctx;
    const data = new Float32Array(24);
    const from = (options: PoolOptions) => () => DevicePool.from(device, { a: { data, cols: 4 } }, options);
    expect(from({ storage: 'image' as 'texture' })).toThrow(/"image".*buffer, auto, or texture/);
    const narrow = tap(device, { maxTextureDimension2D: 2048 }).device;
    const texture = () => DevicePool.from(narrow, { a: { data, cols: 4 } }, { storage: 'texture' });
    expect(texture).toThrow(/useSoftwareKernels/);
    useSoftwareKernels(narrow);
    expect(texture).toThrow(/96 bytes in one texture, but this device allows 0/);
    // Where nothing is known to be faster, or there is no room for lines, and beside a buffer that is taken as it is.
    const pool = DevicePool.from(narrow, { a: { data, cols: 4 } }, { storage: 'auto' });
    expect(pool.field('a').storage).toBe('buffer');
    pool.destroy();
    const auto = from({ storage: 'auto' })();
    expect(auto.field('a').storage).toBe(fasterStorage(device));
    auto.destroy();
    const buffer = device.createBuffer({ size: 96, usage: STORAGE });
    const beside = DevicePool.from(
      device,
      { a: { buffer, cols: 4, storeAs: 'f32' }, b: { data, cols: 4 } },
      { storage: 'auto' },
    );
    expect([...beside.fields.values()].map(({ storage }) => storage)).toEqual(['buffer', 'buffer']);
    beside.destroy();
    buffer.destroy();
  });

  it('is uploaded from packed rows, and again to another device, as a texture', async () => {
    const { specs } = makeSpecs(37, shapes);
    const host = HostPool.from(specs, { label: 'packed' });
    const pool = DevicePool.fromHost(ctx.device, host, {
      storage: 'texture',
      maxShardBytes: 300,
      keepSource: true,
    });
    const check = async () => {
      for (const name of host.fields.keys()) {
        expect(pool.field(name).storage).toBe('texture');
        expect(await shardsOf(pool, name)).toEqual([
          ...new Uint32Array(Uint8Array.from(host.fieldRows(name)).buffer),
        ]);
      }
    };
    await check();
    expect(pool.field('gateUp').shards.length).toBeGreaterThan(10);
    const other = await requestDevice({ adapter: ctx.adapter.name, tuning: false });
    try {
      const before = gpuBytes(ctx.device);
      const { bytes } = pool;
      await pool.rebuild(other.device);
      expect(gpuBytes(ctx.device)).toBe(before - bytes);
      expect([pool.device, pool.bytes, gpuBytes(other.device)]).toEqual([other.device, bytes, bytes]);
      await check();
    } finally {
      pool.destroy();
      other.destroy();
    }
  });

  it('names the field and what was expected', () => {
    const data = new Float32Array(24);
    expect(() =>
      DevicePool.from(ctx.device, { up: { data, cols: 4 }, down: { data, cols: 5 } }, { label: 'mlp 3' }),
    ).toThrow(/mlp 3 down: 24 values at 5 columns are 4.8 rows; expected 6 rows/);
    const pool = DevicePool.from(ctx.device, { up: { data, cols: 4 } });
    expect(() => pool.field('gate')).toThrow(OptionError);
    expect(() => pool.field('constructor')).toThrow(OptionError);
    pool.destroy();
  });

  it('refuses what the device cannot bind before it allocates', () => {
    const { device } = tap(ctx.device, { maxStorageBufferBindingSize: 1024 });
    const buffer = ctx.device.createBuffer({ size: 2048, usage: STORAGE });
    const field = (rows: number, cols: number) => ({ data: new Float32Array(rows * cols), cols });
    const cases: [string, Record<string, FieldSpec>, PoolOptions][] = [
      ['a row', { a: field(2, 4), b: field(2, 257) }, {}],
      ['a buffer', { a: { buffer, cols: 4, storeAs: 'f32' } }, { rows: 65 }],
      [
        'a field beside a buffer',
        { a: field(64, 4), b: field(64, 5), c: { buffer, cols: 4, storeAs: 'f32' } },
        {},
      ],
    ];
    for (const [what, fields, options] of cases) {
      expect(() => DevicePool.from(device, fields, options), what).toThrow(DeviceLimitError);
      expect(gpuBytes(device), what).toBe(0);
    }
    const pool = DevicePool.from(device, { a: field(2, 256) });
    expect(pool.field('a').shards.length).toBe(2);
    pool.destroy();
    buffer.destroy();
  });
});
