import { createBuffer, destroyBuffer, roundUp, Usage } from './buffers.js';
import { checkLost } from './lost.js';
import { waitFor } from './wait.js';

/** Reads `size` bytes of `buffer` (a multiple of 4, as is `offset`) once all work submitted so far is done. */
export async function readBuffer(
  device: GPUDevice,
  buffer: GPUBuffer,
  offset = 0,
  size = buffer.size,
): Promise<ArrayBuffer> {
  const staging = new Readback(device, size);
  try {
    const encoder = device.createCommandEncoder({ label: 'pairslab read' });
    staging.encodeCopy(encoder, buffer, offset, 0, size);
    device.queue.submit([encoder.finish()]);
    return await staging.read(size);
  } finally {
    staging.destroy();
  }
}

/** A staging buffer that is mapped again and again: one readback at a time, nothing allocated. */
export class Readback {
  private readonly device: GPUDevice;
  private readonly buffer: GPUBuffer;

  constructor(device: GPUDevice, bytes: number) {
    this.device = device;
    this.buffer = createBuffer(device, 'readback', roundUp(bytes, 16), Usage.MAP_READ | Usage.COPY_DST);
  }

  /** GPU bytes held. */
  get bytes(): number {
    return this.buffer.size;
  }

  encodeCopy(
    encoder: GPUCommandEncoder,
    source: GPUBuffer,
    sourceOffset: number,
    offset: number,
    bytes: number,
  ): void {
    encoder.copyBufferToBuffer(source, sourceOffset, this.buffer, offset, bytes);
  }

  /**
   * Waits for the copies that were submitted and returns a copy of the first `bytes` bytes.
   * @throws DeviceLostError when the device is lost before they are there.
   */
  async read(bytes: number): Promise<ArrayBuffer> {
    await waitFor(this.device, this.buffer.mapAsync(1 /* GPUMapMode.READ */, 0, roundUp(bytes, 4)));
    const copy = this.buffer.getMappedRange(0, roundUp(bytes, 4)).slice(0, bytes);
    this.buffer.unmap();
    return copy;
  }

  destroy(): void {
    destroyBuffer(this.device, this.buffer);
  }
}

/** Resolves when everything submitted so far has finished. @throws DeviceLostError when the device was lost instead. */
export async function finished(device: GPUDevice): Promise<void> {
  await waitFor(device, device.queue.onSubmittedWorkDone());
  // A lost device counts its work as done.
  checkLost(device);
}
