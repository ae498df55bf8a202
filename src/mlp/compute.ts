import { AdapterError, OptionError } from '../errors.js';
import type { StoredDtype } from '../gpu/layout.js';
import { traitsOf } from '../gpu/traits.js';

/**
 * What the matrices read by rows (gate, up, and a model's other matrices) are multiplied in. Sums are f32 always, and so
 * are down, norms, attention and activations.
 *
 * f16: weights are used as they are stored and x is rounded to f16, so that a product and the sum of four of them have 11
 * bits. Only when asked for, since results change: by a few parts in ten thousand, where the values of x stay within
 * ±65,504, and so do sums of four products. Beyond that they become infinite or NaN.
 */
export type Compute = 'f32' | 'f16';
export const COMPUTES: readonly Compute[] = ['f32', 'f16'];

/**
 * Whether rows stored as `dtype` can be multiplied in `compute`, and on `device`, where one is given.
 * @throws OptionError for an unknown `compute`, and for f16 over rows of another dtype; AdapterError for f16 on a device
 * without `shader-f16`.
 */
export function checkCompute(compute: string, dtype: StoredDtype, device?: GPUDevice): Compute {
  if (!(COMPUTES as readonly string[]).includes(compute)) {
    throw new OptionError(`compute "${compute}" is unknown; use one of ${COMPUTES.join(', ')}.`, { compute });
  }
  if (compute !== 'f16') return 'f32';
  if (dtype !== 'f16') {
    throw new OptionError(
      `compute f16 is for matrices stored as f16; these are stored as ${dtype}. Use dtype f16, or compute f32.`,
      { compute, dtype },
    );
  }
  if (device && !traitsOf(device).f16) {
    throw new AdapterError(
      'compute f16 needs the feature shader-f16, which this device does not have. Use compute f32; or, where the ' +
        'adapter has the feature, ask for it in requestDevice; or choose another adapter.',
      { compute, feature: 'shader-f16' },
    );
  }
  return 'f16';
}
