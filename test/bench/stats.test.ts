import { describe, expect, it } from 'vitest';
import { randomSource, ratioOf, statsOf } from '../../src/tune/stats.js';

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

describe('statistics', () => {
  it('finds median, mean, percentiles and extremes in any order of values', () => {
    expect(statsOf([5, 1, 4, 2, 3])).toMatchObject({
      n: 5,
      median: 3,
      mean: 3,
      p10: 1,
      p90: 5,
      min: 1,
      max: 5,
    });
    expect(statsOf([4, 1, 3, 10])).toMatchObject({ n: 4, median: 3.5, mean: 4.5 });
    expect(statsOf(upTo(101))).toMatchObject({ median: 51, p10: 11, p90: 91 });
  });

  // Of a published table of intervals for the median: n, the ranks, the confidence.
  it.each([
    [1, 1, 1, 0],
    [2, 1, 2, 0.5],
    [3, 1, 3, 0.75],
    [5, 1, 5, 0.938],
    [6, 1, 6, 0.969],
    [7, 1, 7, 0.984],
    [9, 2, 8, 0.961],
    [10, 2, 9, 0.979],
    [12, 3, 10, 0.961],
    [14, 3, 12, 0.987],
    [17, 5, 13, 0.951],
    [20, 6, 15, 0.959],
  ])('of %i values puts the median between ranks %i and %i', (n, low, high, confidence) => {
    const { ci } = statsOf(upTo(n));
    expect(ci).toMatchObject({ low, high });
    expect(ci.confidence).toBeCloseTo(confidence, 3);
  });

  it('holds for thousands of values, where 2^-n is no number', () => {
    const { ci } = statsOf(upTo(4001));
    // Normal approximation: (n + 1) / 2 ± 1.96 · √n / 2.
    expect(Math.abs(ci.low - (2001 - 62))).toBeLessThanOrEqual(1);
    expect(ci.low + ci.high).toBe(4002);
    expect(ci.confidence).toBeGreaterThanOrEqual(0.95);
    expect(ci.confidence).toBeLessThan(0.953);
  });

  it('covers the true median as often as it says', () => {
    const random = randomSource(11);
    let covered = 0;
    for (let trial = 0; trial < 2000; trial++) {
      // Skewed, median 1/8.
      const { ci } = statsOf(Array.from({ length: 9 }, () => random() ** 3));
      if (ci.low <= 1 / 8 && 1 / 8 <= ci.high) covered++;
    }
    expect(covered / 2000).toBeGreaterThan(0.945);
    expect(covered / 2000).toBeLessThan(0.977);
  });

  it('takes ratios pair by pair, not of medians', () => {
    expect(ratioOf([10, 20, 60], [1, 4, 3])).toMatchObject({ median: 10, min: 5, max: 20 });
    expect(() => ratioOf([1, 2], [1])).toThrow(/2 runs do not pair with 1/);
  });

  it('refuses no values', () => expect(() => statsOf([])).toThrow(RangeError));
});
