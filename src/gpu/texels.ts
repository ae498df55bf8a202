import { DeviceLimitError } from '../errors.js';
import { type BufferGroup, counted } from './buffers.js';
import { checkLost } from './lost.js';
import type { RowStorage } from './storage.js';
import { traitsOf } from './traits.js';

/** Bytes of a texel: rgba32uint, a stored vector. */
const TEXEL = 16;
/** Texels of a line, lib/stored_texels.wgsl. */
const TEXELS = 4096;
const LINE = TEXEL * TEXELS;

const TextureUsage = { COPY_SRC: 0x01, COPY_DST: 0x02, STORAGE_BINDING: 0x08 } as const;

/**
 * What `auto` is on `device`. Only lavapipe is known to read textures faster: 16 GB/s, 6 from buffers (Mesa 25.0, two
 * cores; SwiftShader 1.8, 2.4).
 */
export function fasterStorage(device: GPUDevice): RowStorage {
  return traitsOf(device).fastTexels && device.limits.maxTextureDimension2D >= TEXELS ? 'texture' : 'buffer';
}

/** Bytes that one texture can hold on `device`. */
export function mostTexelBytes(device: GPUDevice): number {
  const { maxTextureDimension2D } = device.limits;
  return maxTextureDimension2D < TEXELS ? 0 : LINE * maxTextureDimension2D;
}

/** Lines that hold so many bytes; WebGPU has no texture without any. */
const linesOf = (bytes: number): number => Math.max(1, Math.ceil(bytes / LINE));

/** Bytes that a texture for so many takes on the device. */
export const texelBytes = (bytes: number): number => LINE * linesOf(bytes);

/**
 * A texture whose texels are `bytes` of stored vectors, line after line.
 * @throws DeviceLimitError when the device has no texture so large; DeviceLostError.
 */
export function createTexels(memory: BufferGroup, label: string, bytes: number): GPUTexture {
  const { device } = memory;
  checkLost(device);
  const limit = mostTexelBytes(device);
  if (bytes > limit) {
    throw new DeviceLimitError(
      `${label} needs ${bytes} bytes in one texture, but this device allows ${limit}. Use \`storage: 'buffer'\`.`,
      { label, bytes, limit },
    );
  }
  const make = () =>
    device.createTexture({
      label: `pairslab ${label}`,
      size: [TEXELS, linesOf(bytes)],
      format: 'rgba32uint',
      usage: TextureUsage.COPY_SRC | TextureUsage.COPY_DST | TextureUsage.STORAGE_BINDING,
    });
  const texture = memory.keep(counted(device, texelBytes(bytes), make));
  contents.set(texture, bytes);
  return texture;
}

const contents = new WeakMap<GPUTexture, number>();

/** Bytes of vectors that a texture was made for. */
export const contentOf = (texture: GPUTexture): number => contents.get(texture) ?? 0;

/** Writes whole vectors from the texture's beginning on. */
export function uploadTexels(
  device: GPUDevice,
  texture: GPUTexture,
  data: ArrayBufferView<ArrayBuffer>,
): void {
  for (const { x, y, width, height, at } of boxes(0, data.byteLength)) {
    device.queue.writeTexture(
      { texture, origin: [x, y] },
      data.buffer,
      { offset: data.byteOffset + at, bytesPerRow: LINE, rowsPerImage: height },
      [width, height],
    );
  }
}

/** Records the copy of whole vectors from byte `from` of a texture to byte `to` of a buffer. */
export function copyTexels(
  encoder: GPUCommandEncoder,
  texture: GPUTexture,
  from: number,
  buffer: GPUBuffer,
  to: number,
  bytes: number,
): void {
  for (const { x, y, width, height, at } of boxes(from, bytes)) {
    const layout = { offset: to + at, bytesPerRow: LINE, rowsPerImage: height };
    encoder.copyTextureToBuffer({ texture, origin: [x, y] }, { buffer, ...layout }, [width, height]);
  }
}

/** The other way round. */
export function copyToTexels(
  encoder: GPUCommandEncoder,
  buffer: GPUBuffer,
  from: number,
  texture: GPUTexture,
  to: number,
  bytes: number,
): void {
  for (const { x, y, width, height, at } of boxes(to, bytes)) {
    const layout = { offset: from + at, bytesPerRow: LINE, rowsPerImage: height };
    encoder.copyBufferToTexture({ buffer, ...layout }, { texture, origin: [x, y] }, [width, height]);
  }
}

/** Lines at a time: `writeTexture` of more doubles the memory in flight. */
const MOST_LINES = (16 << 20) / LINE;

/** A run of vectors as boxes: the rest of a line, whole lines, the beginning of one. `at`: bytes before a box. */
function* boxes(from: number, bytes: number) {
  for (let at = 0; at < bytes; ) {
    const first = (from + at) / TEXEL;
    const [x, y] = [first % TEXELS, Math.floor(first / TEXELS)];
    const left = (bytes - at) / TEXEL;
    const height = x === 0 ? Math.max(1, Math.min(MOST_LINES, Math.floor(left / TEXELS))) : 1;
    const width = Math.min(left, TEXELS - x);
    yield { x, y, width, height, at };
    at += width * height * TEXEL;
  }
}
