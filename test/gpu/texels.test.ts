/** Stored vectors in textures: runs of texels over the ends of lines, limits, and the count of what is held. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DeviceLimitError } from '../../src/errors.js';
import { allocate } from '../../src/gpu/allocate.js';
import { BufferGroup, gpuBytes, storageBuffer, upload } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import {
  createTexels,
  contentOf,
  copyTexels,
  copyToTexels,
  fasterStorage,
  mostTexelBytes,
  texelBytes,
  uploadTexels,
} from '../../src/gpu/texels.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { checkWords } from '../kernels/compare.js';
import { POISON, poisoned } from '../kernels/lab.js';
import { randomWords, source } from '../kernels/make.js';
import { describeAdapters } from '../support/adapters.js';
import { readMemory } from '../support/read-memory.js';
import { sameBytes } from '../support/same-bytes.js';
import { shortDevice } from '../support/short-device.js';
import { smallDevice } from '../support/small-device.js';

/** Vectors of a line. */
const LINE = 4096;
/** Three lines and a part of one. */
const VECTORS = 3 * LINE + 77;

/** Places, mostly near the beginnings of lines. */
const place = fc.oneof(
  fc.nat(VECTORS),
  fc
    .tuple(fc.nat(3), fc.integer({ min: -3, max: 3 }))
    .map(([line, by]) => Math.min(VECTORS, Math.max(0, line * LINE + by))),
);
/** A run of vectors [first, end), and how many vectors stand before it on the other side. */
const run = fc
  .tuple(place, place, fc.nat(5))
  .map(([a, b, before]) => ({ first: Math.min(a, b), end: Math.max(a, b), before }));

describeAdapters('texels', (ctx) => {
  it('copies any run of vectors out, and in, wherever it stands', async () => {
    const { device } = ctx;
    const memory = new BufferGroup(device);
    const texture = createTexels(memory, 'test', VECTORS * 16);
    const words = randomWords(source(1), VECTORS * 4);
    uploadTexels(device, texture, words);
    checkWords(new Uint32Array(await readMemory(device, texture)), words, 'uploaded');
    const buffer = memory.storage('test', (VECTORS + 5) * 16);
    await fc.assert(
      fc.asyncProperty(run, run, async (out, into) => {
        // Out of the texture: nothing else of the buffer is written.
        upload(device, buffer, 0, poisoned(buffer.size / 4));
        const encoder = device.createCommandEncoder();
        const vectors = out.end - out.first;
        copyTexels(encoder, texture, out.first * 16, buffer, out.before * 16, vectors * 16);
        device.queue.submit([encoder.finish()]);
        const want = poisoned(buffer.size / 4);
        want.set(words.subarray(out.first * 4, out.end * 4), out.before * 4);
        checkWords(new Uint32Array(await readBuffer(device, buffer)), want, 'copied out');
        // And into it, from what was copied.
        const again = device.createCommandEncoder();
        const bytes = (into.end - into.first) * 16;
        copyToTexels(again, buffer, into.before * 16, texture, into.first * 16, bytes);
        device.queue.submit([again.finish()]);
        words.set(want.subarray(into.before * 4, into.before * 4 + bytes / 4), into.first * 4);
        checkWords(new Uint32Array(await readMemory(device, texture)), words, 'copied in');
      }),
      { numRuns: 25 },
    );
    memory.destroy();
  });

  it('uploads more than one piece, from anywhere in an array', async () => {
    const { device } = ctx;
    const memory = new BufferGroup(device);
    const bytes = (17 << 20) + 48;
    const all = Uint32Array.from({ length: bytes / 4 + 3 }, (_, i) => i);
    const texture = createTexels(memory, 'large', bytes);
    uploadTexels(device, texture, all.subarray(3));
    expect(sameBytes(await readMemory(device, texture), all.slice(3).buffer)).toBe(true);
    memory.destroy();
  });

  it('is zero where nothing was written, and whole lines of a device’s memory', async () => {
    const { device } = ctx;
    const start = gpuBytes(device);
    const memory = new BufferGroup(device);
    const texture = createTexels(memory, 'test', LINE * 16 + 32);
    expect(texture.label).toBe('pairslab test');
    expect([texture.width, texture.height, contentOf(texture)]).toEqual([LINE, 2, LINE * 16 + 32]);
    expect(new Uint32Array(await readMemory(device, texture)).every((word) => word === 0)).toBe(true);
    expect(memory.bytes).toBe(2 * LINE * 16);
    expect(gpuBytes(device)).toBe(start + 2 * LINE * 16);
    const small = createTexels(memory, 'nothing', 0);
    expect([small.height, texelBytes(0)]).toEqual([1, LINE * 16]);
    expect(gpuBytes(device)).toBe(start + 3 * LINE * 16);
    memory.destroy();
    memory.destroy();
    expect(memory.bytes).toBe(0);
    expect(gpuBytes(device)).toBe(start);
  });

  it('refuses what the device does not allow, with the numbers, and counts nothing', () => {
    const { device } = smallDevice(ctx.device, { maxTextureDimension2D: LINE });
    const limit = LINE * LINE * 16;
    expect(mostTexelBytes(device)).toBe(limit);
    const memory = new BufferGroup(device);
    const large = () => createTexels(memory, 'rows', limit + 16);
    expect(large).toThrow(DeviceLimitError);
    expect(large).toThrow(`rows needs ${limit + 16} bytes in one texture, but this device allows ${limit}`);
    expect(large).toThrow(/storage: 'buffer'/);
    const { device: narrow } = smallDevice(ctx.device, { maxTextureDimension2D: LINE - 1 });
    expect(mostTexelBytes(narrow)).toBe(0);
    expect(() => createTexels(new BufferGroup(narrow), 'rows', 16)).toThrow(DeviceLimitError);
    expect([gpuBytes(device), gpuBytes(narrow)]).toEqual([0, 0]);
  });

  it('knows where textures are faster, and where they are too narrow for that', () => {
    expect(fasterStorage(ctx.device)).toBe(ctx.adapter.name === 'lavapipe' ? 'texture' : 'buffer');
    expect(traitsOf(ctx.device).fastTexels).toBe(ctx.adapter.name === 'lavapipe');
    const { device } = smallDevice(ctx.device, { maxTextureDimension2D: LINE - 1 });
    expect(fasterStorage(device)).toBe('buffer');
  });

  it('says so when the device has no memory for it, and gives all back', async () => {
    const { device, memory } = shortDevice(ctx.device);
    memory.bytes = LINE * 16;
    const make = (lines: number) => () => {
      const group = new BufferGroup(device);
      createTexels(group, 'rows', lines * LINE * 16);
      return group;
    };
    const made = await allocate(device, make(1));
    await expect(allocate(device, make(2), 'a second one')).rejects.toMatchObject({
      name: 'DeviceLimitError',
      details: { what: 'a second one', bytes: 2 * LINE * 16, held: LINE * 16 },
    });
    expect(gpuBytes(device)).toBe(LINE * 16);
    made.destroy();
    expect(gpuBytes(device)).toBe(0);
  });

  it('leaves what a buffer has beyond a run alone', async () => {
    const { device } = ctx;
    const group = new BufferGroup(device);
    const texture = createTexels(group, 'test', 2 * LINE * 16);
    const buffer = storageBuffer(device, 'test', 64);
    upload(device, buffer, 0, poisoned(16));
    const encoder = device.createCommandEncoder();
    copyTexels(encoder, texture, (LINE - 1) * 16, buffer, 16, 32);
    device.queue.submit([encoder.finish()]);
    const got = [...new Uint32Array(await readBuffer(device, buffer))];
    expect(got).toEqual([...Array(4).fill(POISON), ...Array(8).fill(0), ...Array(4).fill(POISON)]);
    buffer.destroy();
    group.destroy();
  });
});
