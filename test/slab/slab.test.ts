import { afterEach, expect, it, vi } from 'vitest';
import { CapacityError, DeviceLimitError, OptionError, RowError, ShapeError } from '../../src/errors.js';
import { StalePlanError } from '../../src/plan/index.js';
import { decodeF16 } from '../../src/dtype.js';
import { gpuBytes } from '../../src/gpu/buffers.js';
import { packRows } from '../../src/gpu/layout.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { Bitmask } from '../../src/mask/index.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { Slab } from '../../src/slab/slab.js';
import type { SlabOptions, UpdateOptions } from '../../src/slab/slab-options.js';
import { describeAdapters, IN_CHROMIUM } from '../support/adapters.js';
import { randomSource } from '../support/make-model.js';
import { stored } from '../support/stored.js';
import { tap, tapPass } from './tap.js';
import { checkSame, checkSlab, type FieldShape, makePool, nextMask, randomMask, readSlab } from './twin.js';

const LAYER: Readonly<Record<string, FieldShape>> = {
  gateUp: { cols: [5, 5] },
  down: { cols: [5], transposed: true },
};
/** Bytes of a row of LAYER: three runs of 5 f32, each padded to 32. */
const LAYER_ROW = 96;
const FOUR: Readonly<Record<string, FieldShape>> = {
  a: { cols: [3], dtype: 'f16' },
  b: { cols: [4] },
  c: { cols: [9], dtype: 'f16' },
  d: { cols: [70, 1, 2] },
};

/** The first `count` fields of FOUR. */
const some = (count: number) => Object.fromEntries(Object.entries(FOUR).slice(0, count));
/** A small gated layer whose every value says where it stood: down is [3, 6] and is turned on the way in. */
function makeGiven() {
  const gateUp = (row: number, part: number, column: number) => 1000 * (part + 1) + 10 * row + column;
  const down = (row: number, _part: number, column: number) => 5000 + 10 * row + column;
  const values = (count: number, of: (i: number) => number) =>
    Float32Array.from({ length: count }, (_, i) => of(i));
  const pool = (device: GPUDevice) =>
    DevicePool.from(device, {
      gateUp: {
        parts: [0, 1].map((p) => ({
          data: values(6 * 3, (i) => gateUp(Math.floor(i / 3), p, i % 3)),
          cols: 3,
        })),
      },
      down: { data: values(3 * 6, (i) => down(i % 6, 0, Math.floor(i / 6))), cols: 3, transposed: true },
    });
  return { gateUp, down, pool };
}

const rowsOf = (mask: Bitmask) => Array.from(mask.ids());

afterEach(() => {
  vi.unstubAllEnvs();
});

describeAdapters('slab', (ctx) => {
  const layer = (rows: number, options: SlabOptions = {}, storage: RowStorage = 'buffer') => {
    const twin = makePool(ctx.device, rows, LAYER, { storage });
    const slab = new Slab(twin.pool, options);
    const mask = (...ids: number[]) => Bitmask.fromIds(ids, rows);
    return { twin, slab, mask };
  };

  it('counts what an update did', async () => {
    const { twin, slab, mask } = layer(10, { capacity: 6 });
    expect(slab.update(mask(1, 3, 5, 7))).toEqual({
      kind: 'paired',
      added: 4,
      removed: 0,
      active: 4,
      writes: 4,
      minimum: 4,
      bytes: 4 * LAYER_ROW,
      minimumBytes: 4 * LAYER_ROW,
      deferred: null,
    });
    // 8 takes 7's slot.
    expect(slab.update(mask(1, 3, 5, 8))).toMatchObject({
      added: 1,
      removed: 1,
      writes: 1,
      bytes: LAYER_ROW,
    });
    expect(Array.from(slab.rowIds())).toEqual([1, 3, 5, 8]);
    // 8 moves from slot 3 to slot 0: one write for three removals.
    expect(slab.update(mask(8))).toMatchObject({ added: 0, removed: 3, active: 1, writes: 1, minimum: 1 });
    await checkSlab(twin, slab, mask(8));
    expect(slab.update(mask(0, 2, 8))).toMatchObject({ added: 2, removed: 0, writes: 2 });
    // The last slot goes: nothing is written but the count.
    expect(slab.update(mask(0, 8))).toMatchObject({
      kind: 'paired',
      removed: 1,
      active: 2,
      writes: 0,
      bytes: 0,
    });
    await checkSlab(twin, slab, mask(0, 8));
    // A repack writes all; one row would have been enough.
    expect(slab.update(mask(0, 4, 8), { strategy: 'repack' })).toEqual({
      kind: 'repack',
      added: 1,
      removed: 0,
      active: 3,
      writes: 3,
      minimum: 1,
      bytes: 3 * LAYER_ROW,
      minimumBytes: LAYER_ROW,
      deferred: null,
    });
    expect(Array.from(slab.rowIds())).toEqual([0, 4, 8]);
    await checkSlab(twin, slab, mask(0, 4, 8));
  });

  it('gives the queue nothing to do for an unchanged or a deferred mask', async () => {
    const { device, calls } = tap(ctx.device);
    const twin = makePool(device, 40, LAYER);
    const slab = new Slab(twin.pool);
    const mask = Bitmask.fromIds([3, 30], 40);
    slab.update(mask);
    expect(calls).toContain('submit');
    const work = () => calls.filter((name) => ['submit', 'writeBuffer', 'createBuffer'].includes(name));
    calls.length = 0;
    expect(slab.update(mask.clone())).toMatchObject({
      kind: 'none',
      added: 0,
      removed: 0,
      active: 2,
      writes: 0,
    });
    expect(work()).toEqual([]);

    const next = Bitmask.fromIds([3, 31], 40);
    const put = slab.update(next, { deferBelow: 3 });
    expect(put).toMatchObject({ kind: 'deferred', added: 0, removed: 0, active: 2, writes: 0, bytes: 0 });
    expect(put.deferred).toEqual({ added: Uint32Array.of(31), removed: Uint32Array.of(30) });
    expect(work()).toEqual([]);
    await checkSlab(twin, slab, mask);
    // Two rows are not below two, and what was put off is still there to be done.
    expect(slab.update(next, { deferBelow: 2 })).toMatchObject({ kind: 'paired', writes: 1, deferred: null });
    await checkSlab(twin, slab, next);
  });

  it('never defers the first update', async () => {
    const { twin, slab, mask } = layer(20);
    expect(slab.update(mask(4), { deferBelow: 100 })).toMatchObject({ kind: 'paired', writes: 1 });
    await checkSlab(twin, slab, mask(4));
  });

  it('repacks by the rule it is given', async () => {
    const { twin, slab, mask } = layer(20);
    const steps: [number[], UpdateOptions, string, number][] = [
      [[1, 2, 3, 4], { tau: 1 }, 'paired', 4],
      // h / m' = 1 / 4
      [[1, 2, 3, 5], { tau: 0.25 }, 'paired', 1],
      [[1, 2, 3, 6], { tau: 0.2 }, 'repack', 4],
      // k / m' = 2 / 4, then 3 / 5
      [[1, 2, 3, 7], { rule: 'published' }, 'paired', 1],
      [[1, 2, 8, 9, 3], { rule: 'published' }, 'repack', 5],
      [[1, 2, 8, 9, 10], { tau: 0, repackBy: 'mask' }, 'repack', 5],
    ];
    for (const [ids, options, kind, writes] of steps) {
      expect(slab.update(mask(...ids), options)).toMatchObject({ kind, writes });
      await checkSlab(twin, slab, mask(...ids));
    }
  });

  it.each(
    (['buffer', 'texture'] as const).flatMap((storage) =>
      (['paired', 'ids', 'mask', 'copies'] as const).map((way) => [way, storage] as const),
    ),
  )('goes from nothing to all and back by %s, from a %s', async (way, storage) => {
    // Of a texture some lines: rows that go on in the next.
    const rows = storage === 'texture' ? 1500 : 67;
    const { twin, slab } = layer(rows, {}, storage);
    const step = (mask: Bitmask) => {
      if (way === 'ids') return slab.repackByIds(mask.ids());
      if (way === 'mask') return slab.repackByMask(mask);
      if (way === 'paired') return slab.update(mask);
      const encoder = ctx.device.createCommandEncoder();
      const stats = slab.encodeUpdateByCopies(encoder, mask);
      ctx.device.queue.submit([encoder.finish()]);
      slab.submitted();
      return stats;
    };
    const masks = [
      Bitmask.empty(rows),
      Bitmask.full(rows),
      Bitmask.fromIds([66], rows),
      Bitmask.empty(rows),
      Bitmask.fromIds([0, 31, 32, 63, 64, rows - 1], rows),
    ];
    for (const mask of masks) {
      expect(step(mask).active).toBe(mask.count());
      await checkSlab(twin, slab, mask);
    }
  });

  it('starts empty, on the device too', async () => {
    const { twin, slab } = layer(9);
    await checkSlab(twin, slab, Bitmask.empty(9));
    expect(slab.update(Bitmask.empty(9))).toMatchObject({ kind: 'none', active: 0 });
    await checkSlab(twin, slab, Bitmask.empty(9));
  });

  it('refuses what does not fit and changes nothing', async () => {
    const { twin, slab, mask } = layer(12, { capacity: 3 });
    slab.update(mask(4, 9));
    const before = await checkSlab(twin, slab, mask(4, 9));
    const wanted = mask(0, 2, 4, 7, 11);
    const ways: (() => unknown)[] = [
      () => slab.update(wanted),
      () => slab.update(wanted, { tau: 0 }),
      () => slab.update(wanted, { deferBelow: 100 }),
      () => slab.repackByMask(wanted),
      () => slab.repackByIds(wanted.ids()),
      () => slab.encodeUpdateByCopies(ctx.device.createCommandEncoder(), wanted),
    ];
    for (const way of ways) {
      let error: unknown;
      try {
        way();
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(CapacityError);
      const { details, message } = error as CapacityError;
      expect(details).toEqual({ rows: [7, 11], capacity: 3, wanted: 5 });
      expect(message).toContain('7, 11');
      expect(await checkSlab(twin, slab, mask(4, 9))).toEqual(before);
    }
    slab.update(mask(2, 4, 7));
    await checkSlab(twin, slab, mask(2, 4, 7));
  });

  it('takes up a change that was asked for before, and refuses one from before another update', async () => {
    const { twin, slab, mask } = layer(12, { capacity: 4 });
    slab.update(mask(1, 4, 9));
    expect(slab.changeTo(mask(0, 1, 2, 3, 4))).toBeNull();
    const run = (ids: Bitmask, known = slab.changeTo(ids)) => {
      const encoder = ctx.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      const stats = slab.encodeUpdate(pass, ids, {}, known ?? undefined);
      pass.end();
      ctx.device.queue.submit([encoder.finish()]);
      slab.submitted();
      return stats;
    };
    const old = slab.changeTo(mask(4, 9, 11));
    expect(run(mask(4, 9, 10))).toMatchObject({ kind: 'paired', added: 1, removed: 1, writes: 1 });
    const before = await checkSlab(twin, slab, mask(4, 9, 10));
    expect(() => run(mask(4, 9, 11), old)).toThrow(StalePlanError);
    expect(await checkSlab(twin, slab, mask(4, 9, 10))).toEqual(before);
    expect(() => slab.changeTo(Bitmask.empty(13))).toThrow(ShapeError);
  });

  it('refuses ids out of range or twice, masks over another N and unknown options, and changes nothing', async () => {
    const { twin, slab, mask } = layer(40);
    slab.update(mask(4, 9));
    const before = await checkSlab(twin, slab, mask(4, 9));
    for (const ids of [[3, 40], [-1], [1.5], [Number.NaN], [5, 6, 5]]) {
      expect(() => slab.repackByIds(ids)).toThrow(RowError);
    }
    const encoder = ctx.device.createCommandEncoder();
    for (const size of [39, 41, 1]) {
      const other = Bitmask.full(size);
      expect(() => slab.update(other)).toThrow(ShapeError);
      expect(() => slab.repackByMask(other)).toThrow(ShapeError);
      expect(() => slab.encodeUpdateByCopies(encoder, other)).toThrow(ShapeError);
    }
    const bad = [
      { strategy: 'indexed' },
      { strategy: 'repack', repackBy: 'rows' },
      { tau: 1.5 },
      { tau: Number.NaN },
      { deferBelow: -1 },
      { rule: 'mine' },
    ] as unknown as UpdateOptions[];
    for (const options of bad)
      expect(() => slab.update(mask(1), options), JSON.stringify(options)).toThrow(OptionError);
    expect(await checkSlab(twin, slab, mask(4, 9))).toEqual(before);
  });

  it('takes a hundred updates in a row without waiting', async () => {
    const random = randomSource(5);
    const { twin, slab } = layer(50, { capacity: 30, pendingUpdates: 1 });
    let mask = Bitmask.empty(50);
    for (let n = 0; n < 100; n++) {
      mask = nextMask(random, mask, 30);
      if (n % 5 === 4) slab.repackByMask(mask);
      else slab.update(mask, { tau: n % 3 === 0 ? 0.5 : 1 });
    }
    await checkSlab(twin, slab, mask);
  });

  it('takes many updates in one pass', async () => {
    const random = randomSource(6);
    const { twin, slab } = layer(50, { capacity: 30, pendingUpdates: 40 });
    for (let round = 0; round < 3; round++) {
      let mask = slab.mask();
      const encoder = ctx.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (let n = 0; n < 40; n++) {
        mask = nextMask(random, mask, 30);
        const repack = n % 4 === 1;
        slab.encodeUpdate(pass, mask, {
          strategy: repack ? 'repack' : 'paired',
          repackBy: n % 8 === 1 ? 'ids' : 'mask',
        });
      }
      pass.end();
      ctx.device.queue.submit([encoder.finish()]);
      slab.submitted();
      await checkSlab(twin, slab, mask);
    }
  });

  it('takes updates by kernel and by copy in one submit, each state in its place', async () => {
    const random = randomSource(7);
    const { twin, slab } = layer(50, { capacity: 30, pendingUpdates: 12 });
    const { device } = ctx;
    const down = slab.buffers.get('down') as GPUBuffer;
    const encoder = device.createCommandEncoder();
    const kept: { mask: Bitmask; ids: Uint32Array; copy: GPUBuffer }[] = [];
    let mask = slab.mask();
    for (let n = 0; n < 12; n++) {
      mask = nextMask(random, mask, 30);
      if (n % 3 === 2) slab.encodeUpdateByCopies(encoder, mask);
      else {
        const pass = encoder.beginComputePass();
        slab.encodeUpdate(pass, mask, { strategy: n % 3 === 1 ? 'repack' : 'paired', repackBy: 'mask' });
        pass.end();
      }
      const copy = device.createBuffer({ size: down.size, usage: 0x1 | 0x8 });
      encoder.copyBufferToBuffer(down, 0, copy, 0, down.size);
      kept.push({ mask, ids: slab.rowIds(), copy });
    }
    device.queue.submit([encoder.finish()]);
    slab.submitted();
    const image = twin.images.get('down')!;
    for (const { mask: wanted, ids, copy } of kept) {
      await copy.mapAsync(1);
      const words = new Uint32Array(copy.getMappedRange());
      expect(Array.from(ids).sort((a, b) => a - b)).toEqual(rowsOf(wanted));
      ids.forEach((row, slot) => {
        const at = slot * image.stride;
        expect(words.subarray(at, at + image.stride)).toEqual(
          image.words.subarray(row * image.stride, (row + 1) * image.stride),
        );
      });
      copy.destroy();
    }
    await checkSlab(twin, slab, mask);
  });

  it('refuses more encoded updates than pendingUpdates and changes nothing', async () => {
    const { twin, slab, mask } = layer(40, { pendingUpdates: 2 });
    slab.update(mask(1));
    const encoder = ctx.device.createCommandEncoder();
    let pass = encoder.beginComputePass();
    slab.encodeUpdate(pass, mask(1, 2));
    slab.encodeUpdate(pass, mask(2, 3), { strategy: 'repack', repackBy: 'mask' });
    expect(() => slab.encodeUpdate(pass, mask(3, 4))).toThrow(OptionError);
    expect(() => slab.encodeUpdate(pass, mask(3, 4), { strategy: 'repack' })).toThrow(OptionError);
    expect(() => slab.encodeUpdate(pass, mask(3, 4), { strategy: 'repack', repackBy: 'mask' })).toThrow(
      OptionError,
    );
    // What needs no place may still be encoded.
    expect(slab.encodeUpdate(pass, mask(2, 3)).kind).toBe('none');
    pass.end();
    expect(() => slab.encodeUpdateByCopies(encoder, mask(3, 4))).toThrow(/submitted\(\)/);
    expect(rowsOf(slab.mask())).toEqual([2, 3]);
    ctx.device.queue.submit([encoder.finish()]);
    await checkSlab(twin, slab, mask(2, 3));

    slab.submitted();
    const second = ctx.device.createCommandEncoder();
    pass = second.beginComputePass();
    slab.encodeUpdate(pass, mask(3, 4));
    pass.end();
    ctx.device.queue.submit([second.finish()]);
    slab.submitted();
    await checkSlab(twin, slab, mask(3, 4));
  });

  it.each([1, 2, 3, 4])('gives the same slab from a sharded pool, %i fields', async (count) => {
    const { device } = ctx;
    const whole = makePool(device, 60, some(count));
    const widest = Math.max(...[...whole.pool.fields.values()].map((field) => field.rowBytes));
    // Shards of 1, 7 and 59 rows; the last shard of the second is smaller than the others.
    const pools = ([[1], [7, 'texture'], [59]] as const).map(([rows, storage]) =>
      makePool(device, 60, some(count), { maxShardBytes: rows * widest + 15, storage }),
    );
    expect(whole.pool.field('a').shards.length).toBe(1);
    expect(pools.map(({ pool }) => pool.field('a').shards.length)).toEqual([60, 9, 2]);
    const slabs = [whole, ...pools].map(({ pool }) => new Slab(pool, { capacity: 40 }));
    const random = randomSource(count);
    let mask = Bitmask.empty(60);
    for (let n = 0; n < 8; n++) {
      mask = n === 0 ? randomMask(random, 60, 40) : nextMask(random, mask, 40);
      const contents = [];
      for (const slab of slabs) {
        if (n % 4 === 3) slab.repackByMask(mask);
        else if (n % 4 === 2) {
          const encoder = device.createCommandEncoder();
          slab.encodeUpdateByCopies(encoder, mask);
          device.queue.submit([encoder.finish()]);
          slab.submitted();
        } else slab.update(mask, { tau: n % 4 === 1 ? 0 : 1 });
        contents.push(await checkSlab(whole, slab, mask));
      }
      for (const other of contents.slice(1)) checkSame(other, contents[0]);
    }
    for (const slab of slabs) slab.destroy();
    for (const { pool } of [whole, ...pools]) pool.destroy();
  });

  it('shows parts, strides and shapes in its views', async () => {
    const { device } = ctx;
    const twin = makePool(device, 20, { ...LAYER, ...FOUR });
    const slab = new Slab(twin.pool, { capacity: 10 });
    slab.update(Bitmask.fromIds([3, 4, 15], 20));
    const gateUp = slab.concatWeight();
    expect(gateUp).toMatchObject({ offset: 0, dtype: 'f32', shape: [3, 10], rowStride: 16 });
    // Each half is padded to 16 bytes by itself.
    expect(gateUp.parts).toEqual([
      { start: 0, cols: 5 },
      { start: 8, cols: 5 },
    ]);
    expect(gateUp.buffer).toBe(slab.buffers.get('gateUp'));
    expect(gateUp.rowList).toBe(slab.rowList);
    const down = slab.activeDown();
    expect(down).toMatchObject({
      shape: [3, 5],
      transposeOf: [5, 3],
      rowStride: 8,
      parts: [{ start: 0, cols: 5 }],
    });
    expect(slab.view('a')).toMatchObject({ dtype: 'f16', shape: [3, 3], rowStride: 8 });
    expect(slab.view('b')).toMatchObject({ dtype: 'f32', shape: [3, 4], rowStride: 4 });
    expect(slab.view('c')).toMatchObject({ dtype: 'f16', shape: [3, 9], rowStride: 16 });
    expect(slab.view('d')).toMatchObject({ shape: [3, 73], rowStride: 72 + 4 + 4 });
    expect(slab.view('d').parts.map(({ start }) => start)).toEqual([0, 72, 76]);

    // The contents, read by the views alone, against the matrices as they were given.
    const given = makeGiven();
    const pool = given.pool(device);
    const small = new Slab(pool, { capacity: 4 });
    small.update(Bitmask.fromIds([1, 4, 5], 6));
    const { fields } = await readSlab(small);
    for (const [view, name, value] of [
      [small.concatWeight(), 'gateUp', given.gateUp],
      [small.activeDown(), 'down', given.down],
    ] as const) {
      const values = new Float32Array((fields.get(name) as Uint32Array).buffer);
      small.rowIds().forEach((row, slot) => {
        view.parts.forEach(({ start, cols }, p) => {
          for (let c = 0; c < cols; c++) {
            expect(values[slot * view.rowStride + start + c]).toBe(value(row, p, c));
          }
        });
      });
    }
    expect(() => slab.view('gate')).toThrow(OptionError);
    for (const one of [small, slab]) one.destroy();
    for (const one of [pool, twin.pool]) one.destroy();
  });

  it.each(['f32', 'f16', 'bf16', 'q8', 'q4'] as const)('converts rows of %s on the way in', async (dtype) => {
    const random = randomSource(40);
    const rows = 40;
    const values = (cols: number) => Float32Array.from({ length: rows * cols }, () => random() - 0.5);
    const parts = [70, 5].map((cols) => ({ data: values(cols), cols }));
    const bias = { data: values(4), cols: 4, storeAs: 'f32' as const };
    const all = Array.from({ length: rows }, (_, r) => r);
    const fields = { matrix: { parts }, bias };
    for (const [maxShardBytes, storage] of [
      [undefined, 'buffer'],
      [2000, 'texture'],
    ] as const) {
      const pool = DevicePool.from(ctx.device, fields, { dtype, maxShardBytes, storage });
      for (const to of ['f32', 'f16'] as const) {
        const slab = new Slab(pool, { capacity: 20, dtype: { matrix: to } });
        expect(slab.fields.get('matrix')).toMatchObject({ dtype: to, parts: [70, 5] });
        expect(slab.fields.get('bias')?.dtype).toBe('f32');
        // 72 + 8 values as either.
        const rowBytes = (to === 'f32' ? 4 : 2) * 80 + 16;
        expect(slab.rowBytes).toBe(rowBytes);
        let mask = randomMask(random, rows, 20);
        for (let n = 0; n < 6; n++) {
          const stats =
            n === 3 ? slab.repackByMask(mask) : n === 4 ? slab.repackByIds(mask.ids()) : slab.update(mask);
          expect(stats.bytes).toBe(stats.writes * rowBytes);
          expect(stats.minimumBytes).toBe(stats.minimum * rowBytes);
          const { buffer, rowStride, parts: places } = slab.view('matrix');
          const words = await readBuffer(ctx.device, buffer);
          const found = to === 'f32' ? new Float32Array(words) : decodeF16(new Uint16Array(words));
          const biases = new Float32Array(
            await readBuffer(ctx.device, slab.buffers.get('bias') as GPUBuffer),
          );
          expect(Array.from(slab.rowIds()).sort((a, b) => a - b)).toEqual(rowsOf(mask));
          slab.rowIds().forEach((row, slot) => {
            places.forEach(({ start, cols }, p) => {
              const want = stored(parts[p].data.subarray(row * cols, (row + 1) * cols), cols, dtype);
              for (let c = 0; c < cols; c++) {
                const got = found[slot * rowStride + start + c];
                // To f16: one of the two nearest halves.
                const allowed = to === 'f32' ? 0 : Math.abs(want[c]) * 2 ** -10 + 2 ** -24;
                if (!(Math.abs(got - want[c]) <= allowed))
                  throw new Error(`row ${row}: ${got}, not ${want[c]}`);
              }
            });
            expect(biases.subarray(slot * 4, slot * 4 + 4)).toEqual(bias.data.subarray(row * 4, row * 4 + 4));
          });
          expect(new Uint32Array(await readBuffer(ctx.device, slab.rowList))[0]).toBe(mask.count());
          mask = n === 1 ? Bitmask.empty(rows) : nextMask(random, mask, 20);
        }
        // A buffer copy cannot convert; a slab that keeps the pool's dtype can be copied to.
        const before = slab.mask();
        const encoder = ctx.device.createCommandEncoder();
        const copy = () => slab.encodeUpdateByCopies(encoder, Bitmask.fromIds(all.slice(0, 3), rows));
        if (dtype === to) copy();
        else {
          expect(copy).toThrow(OptionError);
          expect(copy).toThrow(`keeps matrix as ${to}, its pool as ${dtype}`);
          expect(slab.mask().equals(before)).toBe(true);
        }
        slab.destroy();
      }
      pool.destroy();
    }
  });

  it.each(['q8', 'q4', 'bf16'] as const)('keeps rows of %s as they are, bit for bit', async (dtype) => {
    const random = randomSource(41);
    const rows = 30;
    const data = Float32Array.from({ length: rows * 45 }, () => random() - 0.5);
    const storage = dtype === 'q8' ? 'buffer' : 'texture';
    const pool = DevicePool.from(
      ctx.device,
      { a: { data, cols: 45 } },
      { dtype, maxShardBytes: 1000, storage },
    );
    const words = new Uint32Array(packRows([{ data, cols: 45 }], rows, 0, rows, dtype).buffer);
    const twin = { pool, rows, images: new Map([['a', { words, stride: words.length / rows }]]) };
    const slab = new Slab(pool, { capacity: 12 });
    let mask = randomMask(random, rows, 12);
    for (let n = 0; n < 4; n++) {
      slab.update(mask);
      await checkSlab(twin, slab, mask);
      mask = nextMask(random, mask, 12);
    }
    const encoder = ctx.device.createCommandEncoder();
    slab.encodeUpdateByCopies(encoder, mask);
    ctx.device.queue.submit([encoder.finish()]);
    slab.submitted();
    await checkSlab(twin, slab, mask);
    if (dtype === 'bf16') expect(slab.view('a')).toMatchObject({ dtype, rowStride: 48 });
    else {
      // Scales stand among the values: there is no stride that a matrix kernel could use.
      expect(() => slab.view('a')).toThrow(OptionError);
      expect(() => slab.view('a')).toThrow(/a is q[84] in slab.*dtype 'f16' or 'f32'/);
    }
    slab.destroy();
    pool.destroy();
  });

  it('refuses dtypes that rows cannot be converted to, and allocates nothing', () => {
    const { pool } = makePool(ctx.device, 5, some(2));
    const before = gpuBytes(ctx.device);
    const wrong: unknown[] = ['q8', 'bf16', 'toString', { b: 'q4' }, { toString: 'f16' }, { c: 'f16' }];
    for (const dtype of wrong as SlabOptions['dtype'][]) {
      expect(() => new Slab(pool, { dtype }), JSON.stringify(dtype)).toThrow(OptionError);
      expect(gpuBytes(ctx.device)).toBe(before);
    }
    expect(new Slab(pool, { dtype: 'f16' }).view('b')).toMatchObject({ dtype: 'f16', rowStride: 8 });
  });

  it('has typed errors for views of fields that are not there', () => {
    const { pool } = makePool(ctx.device, 5, some(2));
    const slab = new Slab(pool);
    expect(() => slab.concatWeight()).toThrow(OptionError);
    expect(() => slab.activeDown()).toThrow(OptionError);
    expect(() => slab.view('toString')).toThrow(/no field "toString"; it has a, b/);
  });

  it.each([
    [1, 1],
    [3, 2],
    [64, 4],
    [3, 4],
    [64, 1],
  ] as const)(
    'gives equal slabs with %i rows a workgroup and vectors of %i',
    async (rowsPerWorkgroup, vectorWidth) => {
      const twin = makePool(ctx.device, 200, FOUR, { maxShardBytes: 320 * 90 });
      const slabs = [new Slab(twin.pool), new Slab(twin.pool, { rowsPerWorkgroup, vectorWidth })];
      const random = randomSource(8);
      const masks = [150, 3, 151, 65, 0, 64, 200].map((count) => randomMask(random, 200, count));
      for (const mask of masks) {
        for (const options of [
          {},
          { strategy: 'repack' },
          { strategy: 'repack', repackBy: 'mask' },
        ] as const) {
          for (const slab of slabs) slab.update(mask, options);
          checkSame(await checkSlab(twin, slabs[0], mask), await checkSlab(twin, slabs[1], mask));
        }
      }
      for (const slab of slabs) slab.destroy();
      twin.pool.destroy();
    },
  );

  it('folds more workgroups than a dispatch may have in one dimension', async () => {
    const rows = 66_000;
    const twin = makePool(ctx.device, rows, { a: { cols: [1] } });
    const slab = new Slab(twin.pool, { rowsPerWorkgroup: 1 });
    const all = Bitmask.full(rows);
    slab.update(all);
    await checkSlab(twin, slab, all);
    slab.destroy();
    twin.pool.destroy();
  });

  it('refuses knobs out of range and holds nothing then', () => {
    const { pool } = makePool(ctx.device, 5, LAYER);
    const before = gpuBytes(ctx.device);
    const bad = [
      { rowsPerWorkgroup: 0 },
      { rowsPerWorkgroup: 65 },
      { rowsPerWorkgroup: 1.5 },
      { vectorWidth: 3 },
      { vectorWidth: 0 },
      { vectorWidth: '4' },
      { pendingUpdates: 0 },
      { pendingUpdates: 5000 },
      { pendingUpdates: 2.5 },
      { capacity: 0 },
      { capacity: 6 },
      { capacity: 2.5 },
      { capacity: Number.NaN },
    ] as unknown as SlabOptions[];
    for (const options of bad) {
      expect(() => new Slab(pool, options), JSON.stringify(options)).toThrow(OptionError);
      expect(gpuBytes(ctx.device)).toBe(before);
    }
  });

  it.skipIf(IN_CHROMIUM)('takes the knobs’ defaults from the environment', async () => {
    vi.stubEnv('PAIRSLAB_ROWS_PER_WORKGROUP', '3');
    vi.stubEnv('PAIRSLAB_VECTOR_WIDTH', '2');
    const { device, shaders } = tap(ctx.device);
    const twin = makePool(device, 20, LAYER);
    /** The grid's x of one update that writes 10 rows. */
    const grid = (options: SlabOptions): number => {
      const slab = new Slab(twin.pool, options);
      const encoder = device.createCommandEncoder();
      const real = encoder.beginComputePass();
      const { pass, grids } = tapPass(real);
      slab.encodeUpdate(pass, randomMask(randomSource(1), 20, 10));
      real.end();
      expect(grids).toHaveLength(1);
      return grids[0][0];
    };
    expect(grid({})).toBe(4);
    expect(shaders.at(-1)).toContain('alias Vector = vec2<u32>');
    expect(shaders.at(-1)).toContain('const ROWS: u32 = 3u');
    // An option wins.
    expect(grid({ rowsPerWorkgroup: 5, vectorWidth: 1 })).toBe(2);
    expect(shaders.at(-1)).toContain('alias Vector = u32');

    vi.stubEnv('PAIRSLAB_HYBRID_TAU', '0.2');
    const slab = new Slab(twin.pool);
    const mask = Bitmask.fromIds([1, 2, 3, 4], 20);
    slab.update(mask);
    await checkSlab(twin, slab, mask);
    const next = Bitmask.fromIds([1, 2, 3, 5], 20);
    expect(slab.update(next)).toMatchObject({ kind: 'repack', writes: 4 });
    expect(slab.update(mask, { tau: 1 })).toMatchObject({ kind: 'paired', writes: 1 });
    await checkSlab(twin, slab, mask);

    vi.stubEnv('PAIRSLAB_HYBRID_TAU', '2');
    expect(() => new Slab(twin.pool)).toThrow(OptionError);
    vi.stubEnv('PAIRSLAB_HYBRID_TAU', '');
    vi.stubEnv('PAIRSLAB_VECTOR_WIDTH', '3');
    expect(() => new Slab(twin.pool)).toThrow(OptionError);
    vi.stubEnv('PAIRSLAB_VECTOR_WIDTH', '');
    vi.stubEnv('PAIRSLAB_ROWS_PER_WORKGROUP', '0');
    expect(() => new Slab(twin.pool)).toThrow(OptionError);
    await checkSlab(twin, slab, mask);
  });

  it('refuses a capacity that one binding cannot hold before it allocates', async () => {
    const { device } = tap(ctx.device, { maxStorageBufferBindingSize: 4096 });
    const shapes = { narrow: { cols: [4] }, wide: { cols: [16] } };
    const twin = makePool(device, 100, shapes);
    // The device's limit cuts the pool too: 64 rows of 64 bytes.
    expect(twin.pool.field('wide').shards.map(({ rows }) => rows)).toEqual([64, 36]);
    expect(twin.pool.field('narrow').shards.map(({ rows }) => rows)).toEqual([64, 36]);
    const before = gpuBytes(device);
    expect(() => new Slab(twin.pool)).toThrow(DeviceLimitError);
    expect(() => new Slab(twin.pool, { capacity: 65 })).toThrow(DeviceLimitError);
    expect(gpuBytes(device)).toBe(before);
    // 64 slots are just what fits; the places of 20 pending updates need several buffers.
    const slab = new Slab(twin.pool, { capacity: 64, pendingUpdates: 20 });
    const random = randomSource(9);
    let mask = Bitmask.empty(100);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let n = 0; n < 20; n++) {
      mask = randomMask(random, 100, 50 + Math.floor(random() * 15));
      slab.encodeUpdate(pass, mask, { strategy: n % 2 ? 'repack' : 'paired', repackBy: 'mask' });
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
    slab.submitted();
    await checkSlab(twin, slab, mask);
    slab.destroy();
    expect(gpuBytes(device)).toBe(before);
  });

  it('gives all its bytes back', async () => {
    const { device } = ctx;
    const before = gpuBytes(device);
    const twin = makePool(device, 30, FOUR);
    const pool = gpuBytes(device);
    expect(pool - before).toBe(twin.pool.bytes);
    const slab = new Slab(twin.pool, { capacity: 10 });
    expect(gpuBytes(device) - pool).toBe(slab.bytes);
    const [a, b, c] = [Bitmask.fromIds([1, 2, 3], 30), Bitmask.fromIds([3], 30), Bitmask.fromIds([4, 5], 30)];
    slab.update(a);
    const encoder = device.createCommandEncoder();
    slab.encodeUpdateByCopies(encoder, b);
    device.queue.submit([encoder.finish()]);
    slab.repackByMask(c);
    await checkSlab(twin, slab, c);
    expect(gpuBytes(device) - pool).toBe(slab.bytes);
    slab.destroy();
    expect(slab.bytes).toBe(0);
    expect(gpuBytes(device)).toBe(pool);
    slab.destroy();
    twin.pool.destroy();
    twin.pool.destroy();
    expect(gpuBytes(device)).toBe(before);
  });
});
