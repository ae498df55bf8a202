import { createBuffer, destroyBuffer, Usage } from '../gpu/buffers.js';
import { finished, Readback } from '../gpu/readback.js';

/** Milliseconds on the device between the first and the last command of one submit. */
export interface DeviceTimer {
  readonly kind: 'timestamp-query' | 'wall clock less an empty submit';
  time(encode: (encoder: GPUCommandEncoder) => void): Promise<number>;
  destroy(): void;
}

export function deviceTimer(device: GPUDevice): DeviceTimer {
  return device.features.has('timestamp-query') ? new TimestampTimer(device) : new WallTimer(device);
}

/** As `deviceTimer`, for comparing: by wall clock, the empty submit is taken to be the same each time. */
export function comparingTimer(device: GPUDevice): DeviceTimer {
  return device.features.has('timestamp-query')
    ? new TimestampTimer(device)
    : new WallTimer(device, { steady: true });
}

/** By wall clock, with the CPU's time to record the commands, for work that is dear to record. */
export function recordingTimer(device: GPUDevice): DeviceTimer {
  return new WallTimer(device, { recording: true, steady: true });
}

/** Two empty passes, before and after, hold the timestamps, so that passes and copies are timed alike. */
class TimestampTimer implements DeviceTimer {
  readonly kind = 'timestamp-query';
  private readonly queries: GPUQuerySet;
  private readonly resolved: GPUBuffer;
  private readonly readback: Readback;
  private readonly device: GPUDevice;

  constructor(device: GPUDevice) {
    this.device = device;
    this.queries = device.createQuerySet({ type: 'timestamp', count: 2, label: 'pairslab timer' });
    this.resolved = createBuffer(device, 'timestamps', 16, Usage.QUERY_RESOLVE | Usage.COPY_SRC);
    this.readback = new Readback(device, 16);
  }

  async time(encode: (encoder: GPUCommandEncoder) => void): Promise<number> {
    const encoder = this.device.createCommandEncoder({ label: 'pairslab timer' });
    const { queries: querySet } = this;
    encoder.beginComputePass({ timestampWrites: { querySet, endOfPassWriteIndex: 0 } }).end();
    encode(encoder);
    encoder.beginComputePass({ timestampWrites: { querySet, beginningOfPassWriteIndex: 1 } }).end();
    encoder.resolveQuerySet(querySet, 0, 2, this.resolved, 0);
    this.readback.encodeCopy(encoder, this.resolved, 0, 0, 16);
    this.device.queue.submit([encoder.finish()]);
    const [begin, end] = new BigUint64Array(await this.readback.read(16));
    return Number(end - begin) / 1e6;
  }

  destroy(): void {
    this.queries.destroy();
    destroyBuffer(this.device, this.resolved);
    this.readback.destroy();
  }
}

class WallTimer implements DeviceTimer {
  readonly kind = 'wall clock less an empty submit';
  private readonly device: GPUDevice;
  private readonly options: { readonly recording?: boolean; readonly steady?: boolean };
  private empty?: number;

  constructor(device: GPUDevice, options: WallTimer['options'] = {}) {
    this.device = device;
    this.options = options;
  }

  async time(encode: (encoder: GPUCommandEncoder) => void): Promise<number> {
    const empty = this.options.steady ? await this.leastEmpty() : await this.submit(() => {});
    return Math.max(0, (await this.submit(encode)) - empty);
  }

  destroy(): void {}

  /** The least is what is in every sample: an empty submit that was slow by chance would make the work look free. */
  private async leastEmpty(): Promise<number> {
    if (this.empty === undefined) {
      const times: number[] = [];
      for (let i = 0; i < 5; i++) times.push(await this.submit(() => {}));
      this.empty = Math.min(...times);
    }
    return this.empty;
  }

  private async submit(encode: (encoder: GPUCommandEncoder) => void): Promise<number> {
    await finished(this.device);
    let started = performance.now();
    const encoder = this.device.createCommandEncoder({ label: 'pairslab timer' });
    encode(encoder);
    const commands = encoder.finish();
    if (!this.options.recording) started = performance.now();
    this.device.queue.submit([commands]);
    await finished(this.device);
    return performance.now() - started;
  }
}
