import { describe, expect, it } from 'vitest';
import { DeviceLimitError } from '../../src/errors.js';
import {
  BufferGroup,
  checkBindingSize,
  createBuffer,
  destroyBuffer,
  f32Bits,
  gpuBytes,
  roundUp,
  storageBuffer,
  uniformBuffer,
  Usage,
  upload,
} from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { describeAdapters } from '../support/adapters.js';
import { sameBytes } from '../support/same-bytes.js';

describeAdapters('buffers', (ctx) => {
  it('counts what is made until it is destroyed, once', () => {
    const { device } = ctx;
    const start = gpuBytes(device);
    const storage = storageBuffer(device, 'a', 100);
    expect(storage.size).toBe(112);
    expect(storage.label).toBe('pairslab a');
    expect(gpuBytes(device)).toBe(start + 112);
    const uniform = uniformBuffer(device, 'b', [1, 2, 3, 4, 5]);
    expect(uniform.size).toBe(32);
    const empty = storageBuffer(device, 'c', 0);
    expect(gpuBytes(device)).toBe(start + 112 + 32 + 16);
    for (const buffer of [storage, uniform, empty, storage, empty]) destroyBuffer(device, buffer);
    expect(gpuBytes(device)).toBe(start);
  });

  it('leaves a buffer alone that it did not make', async () => {
    const { device } = ctx;
    const start = gpuBytes(device);
    const other = device.createBuffer({ size: 16, usage: Usage.COPY_SRC | Usage.COPY_DST });
    destroyBuffer(device, other);
    expect(gpuBytes(device)).toBe(start);
    expect(await readBuffer(device, other)).toHaveProperty('byteLength', 16);
    other.destroy();
  });

  it('gives a group back whole, and reading leaves nothing behind', async () => {
    const { device } = ctx;
    const start = gpuBytes(device);
    const group = new BufferGroup(device);
    const storage = group.storage('a', 64);
    group.uniform('b', [f32Bits(1.5)]);
    group.create('c', 32, Usage.COPY_DST);
    expect(group.bytes).toBe(64 + 16 + 32);
    expect(gpuBytes(device)).toBe(start + 112);
    upload(device, storage, 16, Float32Array.of(1, 2, 3, 4).subarray(1, 3));
    expect([...new Float32Array(await readBuffer(device, storage, 12, 16))]).toEqual([0, 2, 3, 0]);
    expect(gpuBytes(device)).toBe(start + 112);
    group.destroy();
    group.destroy();
    expect(group.bytes).toBe(0);
    expect(gpuBytes(device)).toBe(start);
  });

  it('uploads more than one piece', async () => {
    const { device } = ctx;
    const words = Uint32Array.from({ length: (17 << 20) / 4 }, (_, i) => i);
    const buffer = storageBuffer(device, 'large', words.byteLength);
    upload(device, buffer, 0, words);
    const back = new Uint32Array(await readBuffer(device, buffer));
    expect(sameBytes(back.buffer, words.buffer)).toBe(true);
    destroyBuffer(device, buffer);
  });

  it('refuses what the device does not allow, with the numbers, and counts nothing', () => {
    const { device } = ctx;
    const start = gpuBytes(device);
    const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
    const limit = Math.min(maxStorageBufferBindingSize, maxBufferSize);
    expect(() => storageBuffer(device, 'big', limit + 16)).toThrow(DeviceLimitError);
    expect(() => createBuffer(device, 'big', maxBufferSize + 1, Usage.COPY_DST)).toThrow(DeviceLimitError);
    expect(() => checkBindingSize(device, 'big', limit + 1)).toThrow(`big needs ${limit + 1} bytes`);
    checkBindingSize(device, 'fits', limit);
    expect(gpuBytes(device)).toBe(start);
  });
});

describe('numbers', () => {
  it('rounds up', () => {
    expect([0, 1, 16, 17].map((value) => roundUp(value, 16))).toEqual([0, 16, 16, 32]);
  });

  it('gives the bits of an f32', () => {
    expect(f32Bits(1)).toBe(0x3f800000);
    expect(f32Bits(-2.5)).toBe(0xc0200000);
    expect(f32Bits(0.1)).toBe(0x3dcccccd);
  });
});
