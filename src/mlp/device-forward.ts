import { OptionError, ShapeError } from '../errors.js';
import { BufferGroup, roundUp, Usage } from '../gpu/buffers.js';
import type { UpdateStats } from '../slab/update-stats.js';
import { batchRoom } from './forward-buffers.js';
import type { EncodeStep, SparseMLP } from './sparse-mlp.js';
import { BATCH_TILE } from './variants.js';

/** What of a step is the caller's choice where x and y are whole matrices on the device. */
export type DeviceStep = Pick<EncodeStep, 'mask' | 'strategy' | 'reuse' | 'update'>;

/**
 * An MLP between buffers that another runtime owns: x and y are [batch, hidden] f32 on the device, rows next to each
 * other, and nothing comes to the host.
 *
 * The layer reads x where it lies if `hidden` is a multiple of 32, and the batch 1 or a multiple of 8 (or x has room for
 * so many rows, whatever they hold). Else x is first copied, on the device, to a buffer with that padding: `copies`
 * counts it.
 */
export class DeviceForward {
  readonly mlp: SparseMLP;
  /** Steps for which x was copied on the device. */
  copies = 0;
  private readonly memory: BufferGroup;
  /** By the batch that there is room for. */
  private readonly padded = new Map<number, GPUBuffer>();

  constructor(mlp: SparseMLP) {
    this.mlp = mlp;
    this.memory = new BufferGroup(mlp.device);
  }

  /** GPU bytes held besides the layer's. */
  get bytes(): number {
    return this.memory.bytes;
  }

  /**
   * y = mlp(x), in one submit of its own: what was submitted before is in x, what is submitted later sees y.
   * @param x [batch, hidden] f32, with usage STORAGE, and COPY_SRC where it must be copied.
   * @param y [batch, hidden] f32, with usage STORAGE; not x.
   * @returns what the slab did, for `repack` and `paired`.
   * @throws ShapeError for buffers that are too small; OptionError for buffers that cannot be bound, or the same one
   * twice; what `SparseMLP.encode` throws. Nothing is submitted then.
   */
  run(x: GPUBuffer, y: GPUBuffer, batch: number, step: DeviceStep = {}): UpdateStats | null {
    const { mlp } = this;
    const { device, hidden } = mlp;
    if (!Number.isInteger(batch) || batch < 1)
      throw new ShapeError(`batch must be 1 or more; it is ${batch}.`, { batch });
    const bytes = batch * hidden * 4;
    for (const [name, buffer] of Object.entries({ x, y })) {
      if (buffer.size < bytes) {
        throw new ShapeError(
          `${name} has ${buffer.size} bytes; [${batch}, ${hidden}] f32 are ${bytes} bytes.`,
          { name, size: buffer.size, needed: bytes },
        );
      }
      if (!(buffer.usage & Usage.STORAGE))
        throw new OptionError(`${name} must be a buffer with usage STORAGE.`, { name, usage: buffer.usage });
    }
    if (x === y) throw new OptionError('x and y are the same buffer; y must be one of its own.');
    const direct = this.isReadable(x, batch);
    if (!direct && !(x.usage & Usage.COPY_SRC)) {
      throw new OptionError(
        `x of [${batch}, ${hidden}] must be copied, to rows of ${mlp.inputStride} values and a multiple of ` +
          `${BATCH_TILE} of them, and its buffer has no usage COPY_SRC.`,
        { usage: x.usage },
      );
    }
    const encoder = device.createCommandEncoder({ label: 'pairslab mlp' });
    const input = direct ? x : this.encodePadded(encoder, x, batch);
    const pass = encoder.beginComputePass({ label: 'pairslab mlp' });
    const stats = mlp.encode(pass, { ...step, x: input, y, batch });
    pass.end();
    device.queue.submit([encoder.finish()]);
    mlp.submitted();
    if (!direct) this.copies++;
    return stats;
  }

  destroy(): void {
    this.memory.destroy();
    this.padded.clear();
  }

  private isReadable(x: GPUBuffer, batch: number): boolean {
    const { hidden, inputStride } = this.mlp;
    const rows = batch === 1 ? 1 : roundUp(batch, BATCH_TILE);
    // What lies beyond a row may be NaN, and would be multiplied by zero weights; rows beyond the batch harm nobody.
    return hidden === inputStride && x.size >= rows * inputStride * 4;
  }

  private encodePadded(encoder: GPUCommandEncoder, x: GPUBuffer, batch: number): GPUBuffer {
    const { hidden, inputStride } = this.mlp;
    const room = batchRoom(batch);
    let padded = this.padded.get(room);
    if (!padded) {
      padded = this.memory.storage('mlp x padded', room * inputStride * 4);
      this.padded.set(room, padded);
    }
    // What pads a row stays zero.
    if (hidden === inputStride) encoder.copyBufferToBuffer(x, 0, padded, 0, batch * hidden * 4);
    else
      for (let b = 0; b < batch; b++)
        encoder.copyBufferToBuffer(x, b * hidden * 4, padded, b * inputStride * 4, hidden * 4);
    return padded;
  }
}
