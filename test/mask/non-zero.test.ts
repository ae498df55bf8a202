import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Bitmask, nonZero } from '../../src/mask/index.js';

it('takes every value that is not 0, of any size, from any place of a buffer', () => {
  const value = fc.oneof(fc.constant(0), fc.constant(-0), fc.float({ noNaN: true }));
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 200 }), fc.nat(3), (values, skip) => {
      const padded = Float32Array.from([...new Array<number>(skip).fill(1), ...values]);
      const want = Bitmask.fromBooleans(values);
      expect(nonZero(padded.subarray(skip)).equals(want)).toBe(true);
    }),
  );
  expect([...nonZero(Float32Array.of(Number.NaN, 0, Number.POSITIVE_INFINITY))]).toEqual([0, 2]);
});
