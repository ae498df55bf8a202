import { Bitmask } from './bitmask.js';

/**
 * The rows whose value is not 0, NaN among them: what a layer's gate left, read back from the device. Unlike
 * `Bitmask.fromBooleans` it checks nothing, and takes some microseconds for thousands of rows.
 * @throws ShapeError when there are no values.
 */
export function nonZero(values: Float32Array): Bitmask {
  const mask = Bitmask.empty(values.length);
  const { words } = mask;
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  // By their bits: all but the sign of 0 and -0 is 0.
  for (let i = 0; i < bits.length; i++) if (bits[i] << 1 !== 0) words[i >>> 5] |= 1 << (i & 31);
  return mask;
}
