import { AdapterError, type DeviceLostError } from '../errors.js';
import { requestBrowserDevice } from './device-needs.js';
import { isLost } from './lost.js';
import type { Recover } from './recovering.js';

export interface RecoveryOptions {
  /** Gives a device. Default: one of the browser's, with what `deviceNeeds` asks for. */
  requestDevice?: () => Promise<GPUDevice>;
  /** How often it is asked, at least 1. Default 8, within 13 s. */
  tries?: number;
  /** Told of each device that is lost, before another is asked for. */
  onLost?: (error: DeviceLostError) => void;
}

/** Between the first two tries, in ms; then twice as long each time. */
const FIRST_WAIT_MS = 100;

/**
 * A `recover` for whatever takes one (`recovering`, `generate`, `LlamaRunner`, `pipeline`): it asks for another device
 * until there is one. Chromium has no adapter for a tenth of a second after its GPU process crashed, and none for a long
 * while after two crashes. Things on one device are to share one `recover`: they meet on one device again.
 * @throws AdapterError (the promise that it gives) when no try gave a device; its `cause` is what the last one threw.
 */
export function recovery({
  requestDevice = requestBrowserDevice,
  tries = 8,
  onLost,
}: RecoveryOptions = {}): Recover {
  return async (lost) => {
    onLost?.(lost);
    let cause: unknown;
    for (let n = 0; n < tries; n++) {
      if (n > 0) await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** (n - 1)));
      try {
        const device = await requestDevice();
        if (!isLost(device)) return device;
        cause = lost;
      } catch (error) {
        cause = error;
      }
    }
    const error = new AdapterError(
      `the GPU device was lost, and no other was to be had in ${tries} tries: ${cause} After crashes a browser refuses ` +
        'WebGPU for a while: try again later, or reload the page.',
      { tries, ...lost.details },
    );
    error.cause = cause;
    throw error;
  };
}
