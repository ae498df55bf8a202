import { destroyBuffer, storageBuffer, upload } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { contentOf, copyTexels, uploadTexels } from '../../src/gpu/texels.js';

/** The first `bytes` bytes of what rows are stored in: a buffer, or the texels of a texture. */
export async function readMemory(
  device: GPUDevice,
  memory: GPUBuffer | GPUTexture,
  bytes = 'createView' in memory ? contentOf(memory) : memory.size,
): Promise<ArrayBuffer> {
  if (!('createView' in memory)) return readBuffer(device, memory, 0, bytes);
  const buffer = storageBuffer(device, 'texels', bytes);
  try {
    const encoder = device.createCommandEncoder();
    copyTexels(encoder, memory, 0, buffer, 0, bytes);
    device.queue.submit([encoder.finish()]);
    return await readBuffer(device, buffer, 0, bytes);
  } finally {
    destroyBuffer(device, buffer);
  }
}

/** Writes whole vectors to the beginning of such memory. */
export function writeMemory(
  device: GPUDevice,
  memory: GPUBuffer | GPUTexture,
  data: ArrayBufferView<ArrayBuffer>,
): void {
  if ('createView' in memory) uploadTexels(device, memory, data);
  else upload(device, memory, 0, data);
}
