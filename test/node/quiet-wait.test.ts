import { expect, test, vi } from 'vitest';
import { waitFor } from '../../src/gpu/wait.js';
import { quietWait } from '../../src/node/quiet-wait.js';
import { describeAdapters } from '../support/adapters.js';

const later = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

test('the value and the rejection pass through, with a sleep and without', async () => {
  const failure = new Error('no');
  for (const ms of [undefined, 0, 1]) {
    const value = {};
    expect(await quietWait(Promise.resolve(value), ms)).toBe(value);
    expect(
      await quietWait(
        later(5).then(() => value),
        ms,
      ),
    ).toBe(value);
    await expect(quietWait(Promise.reject(failure), ms)).rejects.toBe(failure);
    await expect(
      quietWait(
        later(5).then(() => Promise.reject(failure)),
        ms,
      ),
    ).rejects.toBe(failure);
  }
});

test('the main thread sleeps only while something is pending, once a turn for all', async () => {
  const sleep = vi.spyOn(Atomics, 'wait');
  await Promise.all([quietWait(later(20), 2), quietWait(later(20), 1), quietWait(later(20), 3)]);
  expect(sleep.mock.calls.length).toBeGreaterThan(0);
  expect(sleep.mock.calls.length).toBeLessThanOrEqual(25);
  expect(Math.max(...sleep.mock.calls.map((call) => call[3] ?? 0))).toBeLessThanOrEqual(3);
  await later(2);
  sleep.mockClear();
  await later(10);
  expect(sleep).not.toHaveBeenCalled();
  await quietWait(later(5), 1);
  expect(sleep).toHaveBeenCalled();
  sleep.mockRestore();
});

test('after a short wait nothing sleeps for a while', async () => {
  const sleep = vi.spyOn(Atomics, 'wait');
  let now = 100;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
  const wait = async (ms: number): Promise<boolean> => {
    sleep.mockClear();
    const waited = quietWait(later(10), 1);
    now += ms;
    await waited;
    return sleep.mock.calls.length > 0;
  };
  await wait(5);
  expect(await wait(0.1), 'after a long wait').toBe(true);
  expect(await wait(0.1), 'after a short one').toBe(false);
  expect(await wait(5), 'a long one, once the while is over').toBe(true);
  expect(await wait(0), 'after it').toBe(true);
  clock.mockRestore();
  sleep.mockRestore();
});

describeAdapters('the waiter of a device', (ctx) => {
  test('is the quiet one', async () => {
    const sleep = vi.spyOn(Atomics, 'wait');
    await waitFor(ctx.device, later(10));
    expect(sleep).toHaveBeenCalled();
    sleep.mockRestore();
    await waitFor(ctx.device, ctx.device.queue.onSubmittedWorkDone());
  });
});
