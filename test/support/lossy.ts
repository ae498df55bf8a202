/** Devices that are lost on purpose, at a moment that a test chooses. */
import { setWaiter } from '../../src/gpu/wait.js';
import { type NodeDevice, requestDevice } from '../../src/node/device.js';
import { quietWait } from '../../src/node/quiet-wait.js';

/** Devices of one adapter, one after the other. */
export class LossyDevices {
  /** How many were given. */
  given = 0;
  /** What no error scope caught, on any of them. */
  readonly uncaught: string[] = [];
  private readonly adapter: string;
  private readonly all: NodeDevice[] = [];

  constructor(adapter: string) {
    this.adapter = adapter;
  }

  async next(): Promise<GPUDevice> {
    const made = await requestDevice({
      adapter: this.adapter,
      tuning: false,
      log: (message) => this.uncaught.push(message),
    });
    this.given++;
    this.all.push(made);
    return made.device;
  }

  destroy(): void {
    for (const { destroy } of this.all.splice(0)) destroy();
  }
}

/**
 * Destroys `device` when something waits for it for the `wait`-th time from now (0: the next): what was submitted for
 * that wait is on its way then, and is lost. @returns how many waits there were so far.
 */
export function loseAtWait(device: GPUDevice, wait: number): () => number {
  let waits = 0;
  setWaiter(device, (promise) => {
    if (waits++ === wait) device.destroy();
    return quietWait(promise);
  });
  return () => waits;
}

/** For a session's `tap`: destroys its device while the `nth` pass from now is recorded. */
export function loseAtPass(
  device: GPUDevice,
  nth: number,
): (pass: GPUComputePassEncoder) => GPUComputePassEncoder {
  let passes = 0;
  return (pass) => {
    if (passes++ === nth) device.destroy();
    return pass;
  };
}
