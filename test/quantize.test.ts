import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeF16 } from '../src/dtype.js';
import {
  dequantizeQ4,
  dequantizeQ8,
  Q4_GROUP,
  QuantizationMeter,
  quantizeQ4,
  quantizeQ8,
} from '../src/quantize.js';

/** Rows like those of models, and rows of one size only, of zeros, and with a single large value. */
const rows = fc
  .tuple(
    fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 100 }),
    fc.constantFrom(1e-3, 1, 37, 1e4),
    fc.option(fc.nat()),
  )
  .map(([values, scale, spike]) => {
    const row = Float32Array.from(values, (value) => value * scale);
    if (spike !== null) row[spike % row.length] = 30 * scale;
    return row;
  });

const roundQ8 = (row: Float32Array) => {
  const values = new Int8Array(row.length);
  const scale = quantizeQ8(row, values);
  return { values, scale, back: dequantizeQ8(values, scale, new Float32Array(row.length)) };
};

const roundQ4 = (row: Float32Array) => {
  const nibbles = new Uint8Array(Math.ceil(row.length / Q4_GROUP) * 16);
  const halves = new Uint16Array(Math.ceil(row.length / Q4_GROUP));
  const fits = quantizeQ4(row, nibbles, halves);
  const steps = Array.from(row, (_, i) => (((nibbles[i >> 1] >> (4 * (i & 1))) & 15) << 28) >> 28);
  const back = dequantizeQ4(nibbles, halves, new Float32Array(row.length));
  return { fits, nibbles, steps, scales: decodeF16(halves), back };
};

/** Of a group, over the values that are there. */
const squaredError = (row: Float32Array, value: (i: number) => number, g: number): number => {
  let sum = 0;
  for (let i = g * Q4_GROUP; i < Math.min(row.length, (g + 1) * Q4_GROUP); i++)
    sum += (row[i] - value(i)) ** 2;
  return sum;
};

describe('q8', () => {
  it('is off by at most half a step, and keeps zero and the largest', () => {
    fc.assert(
      fc.property(rows, (row) => {
        const { scale, back } = roundQ8(row);
        const most = row.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
        row.forEach((value, i) => {
          // Too small for a normal scale: the row is zero.
          if (scale === 0) expect(back[i]).toBe(0);
          // A few units in the last place of f32 for the scale's own rounding.
          else expect(Math.abs(back[i] - value)).toBeLessThanOrEqual(scale * 0.5 + most * 2 ** -22);
          if (value === 0) expect(back[i]).toBe(0);
        });
        expect(scale).toBe(most < 127 * 2 ** -126 ? 0 : Math.fround(most / 127));
      }),
    );
  });

  it('stays within -127 and 127', () => {
    fc.assert(
      fc.property(rows, (row) => {
        for (const n of roundQ8(row).values) expect(Math.abs(n)).toBeLessThanOrEqual(127);
      }),
    );
  });

  it('makes a row of numbers too small for a normal scale zero', () => {
    const { scale, back } = roundQ8(Float32Array.of(1e-40, -1e-37, 0));
    expect(scale).toBe(0);
    expect([...back]).toEqual([0, 0, 0]);
  });
});

describe('q4', () => {
  it('takes the nearest step for every value, half a step off at most where nothing is cut off', () => {
    fc.assert(
      fc.property(rows, (row) => {
        const { steps, scales, back, fits } = roundQ4(row);
        expect(fits).toBe(true);
        row.forEach((value, i) => {
          const scale = Math.abs(scales[Math.floor(i / Q4_GROUP)]);
          const error = Math.abs(back[i] - value);
          if (steps[i] > -8 && steps[i] < 7) {
            // A scale below half the least half is zero.
            const allowed = scale === 0 ? 9 * 2 ** -25 : scale * 0.5 * (1 + 2 ** -20);
            expect(error).toBeLessThanOrEqual(allowed);
          }
          if (value === 0) expect(back[i] === 0).toBe(true);
        });
      }),
    );
  });

  it('is never worse than the plain scales, but for their rounding to f16', () => {
    fc.assert(
      fc.property(rows, (row) => {
        const { back } = roundQ4(row);
        for (let g = 0; g * Q4_GROUP < row.length; g++) {
          const group = row.subarray(g * Q4_GROUP, (g + 1) * Q4_GROUP);
          const largest = group.reduce((m, v) => (Math.abs(v) > Math.abs(m) ? v : m), 0);
          if (largest === 0) continue;
          const plain = (i: number) => {
            const scale = largest / -8;
            return scale * Math.max(-8, Math.min(7, Math.round(row[i] / scale)));
          };
          const found = Math.sqrt(squaredError(row, (i) => back[i], g));
          const allowed = Math.sqrt(squaredError(row, plain, g));
          // Rounding a scale to f16 moves each value by at most 2^-11 of itself, or by what a subnormal scale loses.
          const rounding = Math.sqrt(group.reduce((sum, v) => sum + v * v, 0)) * 2 ** -10;
          expect(found).toBeLessThanOrEqual(allowed + rounding + 2 ** -25 * 8 * Math.sqrt(Q4_GROUP));
        }
      }),
    );
  });

  it('keeps whole steps exactly', () => {
    const row = Float32Array.from({ length: 64 }, (_, i) => ((i % 16) - 8) * (i < 32 ? 0.25 : -2));
    const { back } = roundQ4(row);
    // -0 is as good as 0.
    expect(Array.from(back, (v) => v + 0)).toEqual(Array.from(row, (v) => v + 0));
  });

  it('puts value i in nibble i, the earlier of two in the low half', () => {
    const row = Float32Array.of(-8, 1, 2, 7);
    const { nibbles, scales } = roundQ4(row);
    expect([...scales]).toEqual([1]);
    expect([...nibbles.subarray(0, 3)]).toEqual([0x18, 0x72, 0]);
  });

  it('says when a scale is too large for f16', () => {
    expect(roundQ4(Float32Array.of(8 * 65_504)).fits).toBe(true);
    expect(roundQ4(Float32Array.of(10 * 65_504)).fits).toBe(false);
  });
});

describe('QuantizationMeter', () => {
  it('adds up rows', () => {
    const meter = new QuantizationMeter();
    expect(meter.result).toEqual({ rmsRelative: 0, maxAbsolute: 0 });
    meter.add(Float32Array.of(3, 0), Float32Array.of(3, 0));
    meter.add(Float32Array.of(0, 4), Float32Array.of(1, 2));
    expect(meter.result.maxAbsolute).toBe(2);
    expect(meter.result.rmsRelative).toBeCloseTo(Math.sqrt(5 / 25), 12);
  });
});
