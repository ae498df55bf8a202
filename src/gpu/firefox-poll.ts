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

/** Devices that somebody waits for: the promises that are pending, and since when the oldest of them was. */
const waited = new WeakMap<GPUDevice, { pending: number; since: number }>();

/** Whether this is Firefox, in a page or a worker. */
export function isFirefox(): boolean {
  const { userAgent = '' } = (globalThis.navigator as Partial<Navigator> | undefined) ?? {};
  return /\bFirefox\//.test(userAgent);
}

/** `promise`, of `device`, with empty submits until it is settled. Waits for one device at a time share them. */
export async function polled<T>(device: GPUDevice, promise: Promise<T>): Promise<T> {
  const known = waited.get(device);
  if (known) known.pending++;
  else poll(device);
  try {
    return await promise;
  } finally {
    const wait = waited.get(device);
    if (wait && --wait.pending === 0) waited.delete(device);
  }
}

/** Submits until nobody waits any more. */
async function poll(device: GPUDevice): Promise<void> {
  const wait = { pending: 1, since: performance.now() };
  waited.set(device, wait);
  const { port1, port2 } = new MessageChannel();
  let last = wait.since;
  for (;;) {
    const now = performance.now();
    await new Promise<void>((resolve) => {
      if (now - wait.since > BUSY_MS) {
        setTimeout(resolve, EVERY_MS);
        return;
      }
      port1.onmessage = () => resolve();
      port2.postMessage(null);
    });
    if (waited.get(device) !== wait) break;
    if (performance.now() - last < EVERY_MS) continue;
    last = performance.now();
    device.queue.submit([device.createCommandEncoder().finish()]);
  }
  port1.close();
}
