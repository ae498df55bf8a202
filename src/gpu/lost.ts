import { DeviceLostError } from '../errors.js';

/** What is known of a device's loss, and the waits that it ends. */
interface Watch {
  info: GPUDeviceLostInfo | null;
  readonly ended: Set<() => void>;
}

/** A promise may be rejected because of a loss that is not reported yet: how long, in ms, the report is waited for. */
const REPORT_MS = 100;

const watches = new WeakMap<GPUDevice, Watch>();

/**
 * One reaction to `device.lost` a device: each would be kept as long as the device, and so would a race with it for
 * every wait.
 */
function watchOf(device: GPUDevice): Watch {
  let watch = watches.get(device);
  if (!watch) {
    const made: Watch = { info: null, ended: new Set() };
    void device.lost.then((info) => {
      made.info = info;
      for (const end of made.ended) end();
      made.ended.clear();
    });
    watches.set(device, made);
    watch = made;
  }
  return watch;
}

function errorOf({ reason, message }: GPUDeviceLostInfo, options?: ErrorOptions): DeviceLostError {
  const error = new DeviceLostError(
    `the GPU device was lost (${reason || 'unknown'}): ${message || 'the driver says no more'}. ` +
      'Request another device, and rebuild(device) what was made on this one.',
    { reason, message },
  );
  if (options?.cause !== undefined) error.cause = options.cause;
  return error;
}

/** Whether the loss of `device` has been reported. */
export function isLost(device: GPUDevice): boolean {
  return watchOf(device).info !== null;
}

/**
 * For whatever is about to allocate or record: a device that is lost takes both without a word.
 * @throws DeviceLostError as soon as `device.lost` has been reported.
 */
export function checkLost(device: GPUDevice): void {
  const { info } = watchOf(device);
  if (info) throw errorOf(info);
}

/**
 * `promise`, unless the device is lost first.
 * @throws DeviceLostError then, whether or not the promise ever settles, and for what was rejected because of the loss.
 */
export function unlessLost<T>(device: GPUDevice, promise: Promise<T>): Promise<T> {
  const watch = watchOf(device);
  return new Promise<T>((resolve, reject) => {
    const end = () => reject(errorOf(watch.info as GPUDeviceLostInfo));
    if (watch.info) end();
    else watch.ended.add(end);
    promise.then(
      (value) => {
        watch.ended.delete(end);
        resolve(value);
      },
      async (cause: unknown) => {
        if (mayBeLoss(cause)) await reported(watch);
        watch.ended.delete(end);
        reject(watch.info ? errorOf(watch.info, { cause }) : cause);
      },
    );
  });
}

/**
 * What promises of a device are rejected with when it is lost: mapAsync with the first. Chromium, whose GPU process ended,
 * rejects popErrorScope ("Instance dropped") and onSubmittedWorkDone with the second, the making of pipelines with the third.
 */
const OF_A_LOSS: readonly string[] = ['AbortError', 'OperationError', 'GPUPipelineError'];
const mayBeLoss = (error: unknown): boolean => error instanceof Error && OF_A_LOSS.includes(error.name);

/** Resolves when the loss is known, or has not come for a while. */
function reported(watch: Watch): Promise<void> {
  if (watch.info) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, REPORT_MS);
    function done(): void {
      clearTimeout(timer);
      watch.ended.delete(done);
      resolve();
    }
    watch.ended.add(done);
  });
}
