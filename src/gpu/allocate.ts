import { DeviceLimitError } from '../errors.js';
import { beforeNextBuffer, gpuBytes } from './buffers.js';
import { checkLost } from './lost.js';
import { waitFor } from './wait.js';

/**
 * Notices whether the device runs out of memory between its making and `end`, which must come in the same turn of the
 * event loop, with no `allocate` between: scopes are a stack, and others have theirs. Costs the device nothing until a
 * buffer is made.
 */
export class AllocationScope {
  private readonly device: GPUDevice;
  private readonly held: number;
  private readonly unwatch: () => void;
  private open = false;

  constructor(device: GPUDevice) {
    checkLost(device);
    this.device = device;
    this.held = gpuBytes(device);
    this.unwatch = beforeNextBuffer(device, () => {
      device.pushErrorScope('out-of-memory');
      this.open = true;
    });
  }

  /**
   * @returns null where nothing was allocated, so that there is nothing to wait for.
   * @throws (the promise) DeviceLimitError with the bytes, when they were not to be had; DeviceLostError.
   */
  end(what: string): Promise<void> | null {
    const { device, held } = this;
    this.unwatch();
    if (!this.open) return null;
    const bytes = gpuBytes(device) - held;
    const popped = device.popErrorScope();
    if (bytes > 0) return this.check(what, bytes, popped);
    popped.catch(() => {});
    return null;
  }

  private async check(what: string, bytes: number, popped: Promise<GPUError | null>): Promise<void> {
    const { device, held } = this;
    const error = await waitFor(device, popped);
    if (!error) return;
    throw new DeviceLimitError(
      `the device ran out of memory: ${what} takes ${bytes} bytes beside the ${held} that are held. ` +
        `Use a smaller capacity, a shorter context, a narrower dtype or a budget. The device says: ${error.message}`,
      { what, bytes, held },
    );
  }
}

/**
 * What `make` makes, with the certainty that the device had the memory for it: WebGPU reports what it has not only
 * later. `new` alone is right too, but then nobody hears of it.
 *
 *     const slab = await allocate(device, () => new Slab(pool, { capacity }), 'slab');
 *
 * @throws DeviceLimitError with the bytes; what was made is destroyed then, and whatever was there before works on. What
 * `make` throws; DeviceLostError.
 */
export async function allocate<T extends { destroy(): void }>(
  device: GPUDevice,
  make: () => T,
  what = 'what was made',
): Promise<T> {
  // What is made of buffers that are none is invalid too: only the cause is worth telling.
  device.pushErrorScope('validation');
  const scope = new AllocationScope(device);
  let made: T | undefined;
  let thrown: unknown;
  try {
    made = make();
  } catch (error) {
    thrown = error;
  }
  const ended = scope.end(what);
  const invalid = device.popErrorScope();
  if (!made) {
    for (const promise of [ended, invalid]) promise?.catch(() => {});
    throw thrown;
  }
  try {
    const [, error] = await Promise.all([ended, waitFor(device, invalid)]);
    if (error) throw new Error(error.message);
  } catch (error) {
    made.destroy();
    throw error;
  }
  return made;
}
