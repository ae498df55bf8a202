import { AllocationScope } from '../gpu/allocate.js';
import { BufferGroup, roundUp, upload } from '../gpu/buffers.js';
import { Readback } from '../gpu/readback.js';
import { BATCH_TILE } from './variants.js';

/** What one `forward` needs while it runs: x, y and where y is read. */
interface Buffers {
  /** Batch elements that there is room for. */
  readonly room: number;
  readonly x: GPUBuffer;
  readonly y: GPUBuffer;
  readonly readback: Readback;
  /** Of x and y. */
  readonly memory: BufferGroup;
  /** x as it is uploaded. */
  readonly staging: Float32Array<ArrayBuffer>;
}

/** Room is made for a power of two of batch elements, whole tiles of them, so that few sizes serve all batches. */
export const batchRoom = (batch: number): number =>
  batch === 1 ? 1 : Math.max(BATCH_TILE, 2 ** Math.ceil(Math.log2(batch)));

/** The buffers of a layer's `forward`, kept from call to call: of each size as many as calls ever ran at once. */
export class ForwardBuffers {
  private readonly device: GPUDevice;
  private readonly hidden: number;
  private readonly inputStride: number;
  private readonly all = new Set<Buffers>();
  private readonly idle = new Map<number, Buffers[]>();
  private destroyed = false;

  constructor(device: GPUDevice, hidden: number, inputStride: number) {
    this.device = device;
    this.hidden = hidden;
    this.inputStride = inputStride;
  }

  /** y for x of [batch, hidden], both on the host; `encode` records the step between them. One submit, one readback. */
  async run(
    x: Float32Array,
    batch: number,
    encode: (pass: GPUComputePassEncoder, x: GPUBuffer, y: GPUBuffer) => void,
    submitted: () => void,
  ): Promise<Float32Array> {
    const { device, hidden, inputStride } = this;
    const room = batchRoom(batch);
    const bytes = batch * hidden * 4;
    const scope = new AllocationScope(device);
    let one: Buffers | undefined;
    let allocated: Promise<void> | null = null;
    let fresh = false;
    try {
      one = this.idle.get(room)?.pop();
      fresh = one === undefined;
      one ??= this.make(room);
      // Whole tiles of x are read: what pads the last is zero.
      const padded = one.staging.subarray(0, Math.min(room, roundUp(batch, BATCH_TILE)) * inputStride);
      for (let b = 0; b < batch; b++) padded.set(x.subarray(b * hidden, (b + 1) * hidden), b * inputStride);
      padded.fill(0, batch * inputStride);
      upload(device, one.x, 0, padded);
      const encoder = device.createCommandEncoder({ label: 'pairslab mlp' });
      const pass = encoder.beginComputePass({ label: 'pairslab mlp' });
      encode(pass, one.x, one.y);
      pass.end();
      one.readback.encodeCopy(encoder, one.y, 0, 0, bytes);
      device.queue.submit([encoder.finish()]);
      submitted();
      allocated = scope.end('the first step of this kind');
    } catch (error) {
      scope.end('')?.catch(() => {});
      if (one) this.giveBack(one);
      throw error;
    }
    const read = one.readback.read(bytes);
    // Without memory the read fails as well, and less to the point.
    read.catch(() => {});
    try {
      await allocated;
      const y = new Float32Array(await read);
      this.giveBack(one);
      return y;
    } catch (error) {
      await read.catch(() => {});
      // What was made for this call may be no buffer at all.
      if (fresh) this.free(one);
      else this.giveBack(one);
      throw error;
    }
  }

  /** Frees what is idle; a call that still runs frees its own when it ends. */
  destroy(): void {
    this.destroyed = true;
    for (const one of [...this.idle.values()].flat()) this.free(one);
    this.idle.clear();
  }

  /** GPU bytes held, those of calls that still run included. */
  get bytes(): number {
    let sum = 0;
    for (const { memory, readback } of this.all) sum += memory.bytes + readback.bytes;
    return sum;
  }

  private giveBack(one: Buffers): void {
    if (this.destroyed) {
      this.free(one);
      return;
    }
    const idle = this.idle.get(one.room);
    if (idle) idle.push(one);
    else this.idle.set(one.room, [one]);
  }

  private make(room: number): Buffers {
    const { device, hidden, inputStride } = this;
    const staging = new Float32Array(room * inputStride);
    const memory = new BufferGroup(device);
    try {
      const x = memory.storage('mlp x', staging.byteLength);
      const y = memory.storage('mlp y', room * hidden * 4);
      const one = { room, x, y, staging, memory, readback: new Readback(device, room * hidden * 4) };
      this.all.add(one);
      return one;
    } catch (error) {
      memory.destroy();
      throw error;
    }
  }

  private free(one: Buffers): void {
    one.memory.destroy();
    one.readback.destroy();
    this.all.delete(one);
  }
}
