/** Waiting as Firefox needs it: whose promises resolve at a submit, or at a timer that is not waited for here. */
import { expect, it } from 'vitest';
import { DeviceLostError } from '../../src/errors.js';
import { polled } from '../../src/gpu/firefox-poll.js';
import { Readback } from '../../src/gpu/readback.js';
import { setWaiter, waitFor } from '../../src/gpu/wait.js';

/** A device that looks for finished work at submits only; work is finished `workMs` after it was submitted. */
class PollingDevice {
  submits = 0;
  lose: (info: { reason: string; message: string }) => void = () => {};
  readonly lost = new Promise((resolve) => {
    this.lose = resolve;
  });
  readonly queue = { submit: () => this.submit(), onSubmittedWorkDone: () => this.done() };
  readonly limits = { maxBufferSize: 1e9, maxStorageBufferBindingSize: 1e9 };
  private readonly workMs: number;
  private readonly waiting: { from: number; resolve: () => void }[] = [];

  constructor(workMs: number) {
    this.workMs = workMs;
  }

  get device(): GPUDevice {
    return this as unknown as GPUDevice;
  }

  createCommandEncoder() {
    return { finish: () => ({}) };
  }

  createBuffer({ size }: { size: number }) {
    return {
      size,
      mapAsync: () => this.done(),
      getMappedRange: (_: number, bytes: number) => new Uint8Array(bytes).fill(7).buffer,
      unmap() {},
      destroy() {},
    };
  }

  private done(): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push({ from: performance.now() + this.workMs, resolve });
    });
  }

  private submit(): void {
    this.submits++;
    for (const one of this.waiting.splice(0)) {
      if (performance.now() >= one.from) one.resolve();
      else this.waiting.push(one);
    }
  }
}

function firefox(workMs: number): PollingDevice {
  const made = new PollingDevice(workMs);
  setWaiter(made.device, (promise) => polled(made.device, promise));
  return made;
}
/** Long enough for a poll that goes on after its wait to be seen. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

it('a readback ends though nothing else is submitted, short or long', async () => {
  for (const workMs of [0, 5, 40]) {
    const made = firefox(workMs);
    const readback = new Readback(made.device, 16);
    const began = performance.now();
    expect(new Uint8Array(await readback.read(16))).toEqual(new Uint8Array(16).fill(7));
    const { submits } = made;
    expect(submits).toBeGreaterThan(0);
    // No more than one a millisecond: an eager poll floods the GPU process.
    expect(submits).toBeLessThanOrEqual(performance.now() - began);
    await pause();
    expect(made.submits, 'nothing is submitted when nobody waits').toBe(submits);
    await readback.read(4);
    readback.destroy();
  }
});

it('waits at once share their submits, and the last one ends them', async () => {
  const made = firefox(10);
  const waits = Array.from({ length: 50 }, () => waitFor(made.device, made.queue.onSubmittedWorkDone()));
  await Promise.all(waits);
  expect(made.submits).toBeLessThan(50);
  const { submits } = made;
  await pause();
  expect(made.submits).toBe(submits);
});

it('ends when the device is lost, and passes on what is thrown', async () => {
  const made = firefox(Number.POSITIVE_INFINITY);
  const wait = waitFor(made.device, made.queue.onSubmittedWorkDone());
  setTimeout(() => made.lose({ reason: 'unknown', message: 'gone' }), 5);
  await expect(wait).rejects.toBeInstanceOf(DeviceLostError);
  const { submits } = made;
  await pause();
  expect(made.submits).toBe(submits);
  const fine = firefox(0);
  await expect(waitFor(fine.device, Promise.reject(new TypeError('no')))).rejects.toThrow('no');
});
