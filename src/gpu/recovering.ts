import { DeviceLostError } from '../errors.js';
import { isLost } from './lost.js';

/** What can be brought to another device. */
export interface Rebuildable {
  readonly device: GPUDevice;
  rebuild(device: GPUDevice): Promise<void>;
}

/** Gives a device in place of one that was lost; `recovery` makes one that asks until there is one. */
export type Recover = (lost: DeviceLostError) => Promise<GPUDevice>;

/** Losses in a row, without a step between them that succeeds, before it is given up. */
const MOST_LOSSES = 3;

/** What each lost device was replaced by: all that was on it goes to the same one. */
const replacements = new WeakMap<Recover, WeakMap<GPUDevice, Promise<GPUDevice>>>();

async function replacementOf(
  device: GPUDevice,
  recover: Recover,
  error: DeviceLostError,
): Promise<GPUDevice> {
  let known = replacements.get(recover);
  if (!known) {
    known = new WeakMap();
    replacements.set(recover, known);
  }
  const first = known.get(device);
  const before = await first?.catch(() => undefined);
  if (before && !isLost(before)) return before;
  let asked = known.get(device);
  // Else another caller asked while this one waited.
  if (!asked || asked === first) {
    asked = recover(error);
    known.set(device, asked);
    asked.catch(() => known.delete(device));
  }
  return asked;
}

/**
 * Does `step` with `object`. When the device is lost under it, asks `recover` for another, rebuilds the object there and
 * does the step again; objects that were on one device and are given the same `recover` meet on one device again.
 *
 *     const recover = recovery();
 *     const y = await recovering(mlp, recover, () => mlp.forward(x, { mask }));
 *
 * @throws DeviceLostError when as many as four devices were lost in a row; what `recover`, `rebuild` and `step` throw.
 */
export async function recovering<T>(
  object: Rebuildable,
  recover: Recover,
  step: () => Promise<T>,
): Promise<T> {
  let lost: DeviceLostError | undefined;
  for (let losses = 0; ; ) {
    try {
      if (lost) await object.rebuild(await replacementOf(object.device, recover, lost));
      lost = undefined;
      return await step();
    } catch (error) {
      if (!(error instanceof DeviceLostError) || ++losses > MOST_LOSSES) throw error;
      lost = error;
    }
  }
}

/**
 * Makes something on `device`, or on another when that is lost meanwhile and there is a `recover`.
 * @throws as `recovering`.
 */
export function makeRecovering<T>(
  device: GPUDevice,
  recover: Recover | undefined,
  make: (device: GPUDevice) => Promise<T>,
): Promise<T> {
  if (!recover) return make(device);
  const place = {
    device,
    rebuild: async (next: GPUDevice) => {
      place.device = next;
    },
  };
  return recovering(place, recover, () => make(place.device));
}
