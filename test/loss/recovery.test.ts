/** Asking for another device, until there is one or it is given up. */
import { expect, it } from 'vitest';
import { AdapterError, DeviceLostError, OptionError } from '../../src/errors.js';
import { recovery } from '../../src/gpu/recovery.js';

const lost = new DeviceLostError('the GPU device was lost', { reason: 'unknown' });
/** A device in as far as it can be lost. */
const device = (isLost = false) =>
  ({
    lost: isLost ? Promise.resolve({ reason: 'unknown', message: '' }) : new Promise(() => {}),
  }) as unknown as GPUDevice;

it('asks again while there is none, and tells of the loss once', async () => {
  const given = device();
  const answers = [() => Promise.reject(new AdapterError('not yet')), () => Promise.resolve(given)];
  const told: DeviceLostError[] = [];
  let asked = 0;
  const recover = recovery({
    requestDevice: () => answers[asked++](),
    onLost: (error) => told.push(error),
  });
  expect(await recover(lost)).toBe(given);
  expect(asked).toBe(2);
  expect(told).toEqual([lost]);
});

it('takes no device that is known to be lost', async () => {
  const gone = device(true);
  // Known since it was last asked.
  await recovery({ requestDevice: async () => gone, tries: 1 })(lost);
  await gone.lost;
  const answers = [gone, gone, device()];
  expect(await recovery({ requestDevice: async () => answers.shift() as GPUDevice })(lost)).not.toBe(gone);
  expect(answers).toEqual([]);
});

it('gives up after as many tries, and says why', async () => {
  let asked = 0;
  const cause = new OptionError('the browser gives none.');
  const recover = recovery({
    requestDevice() {
      asked++;
      return Promise.reject(cause);
    },
    tries: 2,
  });
  const error = await recover(lost).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(AdapterError);
  expect(error).toMatchObject({
    cause,
    message: expect.stringMatching(/lost, .* 2 tries: OptionError: the browser gives none.*reload the page/),
    details: { tries: 2, reason: 'unknown' },
  });
  expect(asked).toBe(2);
});

it('asks the browser where nothing else is said, and says so where there is none', async () => {
  if (typeof navigator !== 'undefined' && 'gpu' in navigator) return;
  await expect(recovery({ tries: 1 })(lost)).rejects.toThrow(/there is no WebGPU here, or/);
});
