import { isFirefox, polled } from './firefox-poll.js';
import { unlessLost } from './lost.js';

/**
 * How to wait for a GPU promise. In a browser a plain `await` is right, but in Firefox (see `polled`). Under dawn.node it is
 * not: while any promise is pending its event loop spins on the main thread and takes a core from a software adapter, so
 * `src/node` registers a waiter that sleeps between turns. Everything in the core that waits goes through `waitFor`.
 */
export type Waiter = <T>(promise: Promise<T>) => Promise<T>;

const waiters = new WeakMap<GPUDevice, Waiter>();

/** Registers how promises of `device` are waited for. */
export function setWaiter(device: GPUDevice, waiter: Waiter): void {
  waiters.set(device, waiter);
}

/**
 * Waits for `promise` the way that was registered for `device`; when none was, plainly, or as Firefox needs it.
 * @throws DeviceLostError when the device is lost, even where the promise would then never settle.
 */
export function waitFor<T>(device: GPUDevice, promise: Promise<T>): Promise<T> {
  const waiter = waiters.get(device);
  const settled = unlessLost(device, promise);
  if (waiter) return waiter(settled);
  return isFirefox() ? polled(device, settled) : settled;
}
