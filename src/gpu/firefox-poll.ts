/*
 * Symptom: in Firefox a promise of the GPU's (mapAsync, onSubmittedWorkDone) resolves about 100 ms late, however little was
 * to be done: its GPU process looks for finished work on a timer of 100 ms, and with each submit.
 * https://bugzilla.mozilla.org/show_bug.cgi?id=1870699. Measured by ekzhang/jax-js (pull request 124, Firefox 153, M1 Max):
 * 103 ms, and 1.4 ms with something empty submitted every millisecond; more often than that floods the GPU process. Not
 * measured here, where there is no Firefox.
 * Delete when that bug is closed.
 */

/** Something empty is submitted this often while somebody waits, ms. */
const EVERY_MS = 1;
/** A timer of a page fires every 4 ms at best. Time is looked at more often in the first BUSY_MS of a wait, as tasks. */
const BUSY_MS = 20;

/** How many wait for a device, where somebody does. */
const waited = new WeakMap<GPUDevice, { pending: number }>();

/** Whether this is Firefox, in a page or a worker. */
export function isFirefox(): boolean {
  // Not every runtime has a navigator.
  return /\bFirefox\//.test((globalThis.navigator as Navigator | undefined)?.userAgent ?? '');
}

/** `promise`, of `device`, with empty submits until it is settled. Waits for one device at a time share them. */
export async function polled<T>(device: GPUDevice, promise: Promise<T>): Promise<T> {
  let wait = waited.get(device);
  if (!wait) {
    wait = { pending: 0 };
    waited.set(device, wait);
    poll(device, wait);
  }
  wait.pending++;
  try {
    return await promise;
  } finally {
    if (--wait.pending === 0) waited.delete(device);
  }
}

/** Submits until nobody waits any more. */
async function poll(device: GPUDevice, wait: { pending: number }): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  const began = performance.now();
  let last = began;
  do {
    const now = performance.now();
    if (now - last >= EVERY_MS) {
      last = now;
      device.queue.submit([device.createCommandEncoder().finish()]);
    }
    await new Promise((resolve) => {
      if (now - began > BUSY_MS) setTimeout(resolve, EVERY_MS);
      else {
        port1.onmessage = resolve;
        port2.postMessage(0);
      }
    });
  } while (wait.pending > 0);
  port1.close();
}
