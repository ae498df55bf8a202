import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NonFiniteError, OptionError, ShapeError } from '../../src/errors.js';
import { type Bitmask, type Scores, sigma, threshold, topK, topKUnion } from '../../src/mask/index.js';
import { topPositions } from '../../src/mask/top.js';

const list = (mask: Bitmask) => Array.from(mask.ids());

/** The definition: order by score, then by id, and take k. */
function naiveTopK(scores: ArrayLike<number>, k: number): number[] {
  const order = Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, k).sort((a, b) => a - b);
}

describe('threshold', () => {
  it('is strict and takes infinities', () => {
    expect(list(threshold([1, 2, 3], 2))).toEqual([2]);
    expect(list(threshold(Float32Array.of(1, 2, 3), Number.NEGATIVE_INFINITY))).toEqual([0, 1, 2]);
    expect(list(threshold([1, 2, 3], Number.POSITIVE_INFINITY))).toEqual([]);
    expect(() => threshold([1], Number.NaN)).toThrow(OptionError);
  });
});

describe('sigma', () => {
  it('selects what stands out', () => {
    // mean 1, population sigma 3: 10 is exactly 3 sigma above.
    const scores = [...new Array(9).fill(0), 10];
    expect(list(sigma(scores))).toEqual([9]);
    expect(list(sigma(scores, { k: 2.99 }))).toEqual([9]);
    expect(list(sigma(scores, { k: 3.01 }))).toEqual([]);
    expect(list(sigma(scores, { k: -10 }))).toHaveLength(10);
  });

  it('selects nothing from equal scores, though their plain mean may round', () => {
    for (const v of [0.1, 1 / 3, -0.7]) {
      for (const n of [3, 10, 1001]) expect(sigma(new Array(n).fill(v), { k: 0 }).count()).toBe(0);
    }
  });

  it('refuses a bad k and a spread that overflows', () => {
    expect(() => sigma([1], { k: Number.NaN })).toThrow(OptionError);
    expect(() => sigma([1e308, -1e308])).toThrow(NonFiniteError);
  });
});

describe('topK', () => {
  it('gives ties to the lowest ids', () => {
    expect(list(topK([1, 2, 2, 2, 0], 2))).toEqual([1, 2]);
    expect(list(topK(new Float32Array(100), 3))).toEqual([0, 1, 2]);
    expect(list(topK([0, -0, 0], 2))).toEqual([0, 1]);
  });

  it('goes from none to all', () => {
    expect(list(topK([3, 1, 2], 0))).toEqual([]);
    expect(list(topK([3, 1, 2], 3))).toEqual([0, 1, 2]);
  });

  it.each([-1, 4, 1.5, Number.NaN])('refuses k = %d of 3', (k) => {
    expect(() => topK([3, 1, 2], k)).toThrow(OptionError);
    expect(() => topKUnion([3, 1, 2], { batch: 1 }, k)).toThrow(OptionError);
  });

  it('tells numbers apart that are equal in f32', () => {
    expect(list(topK([1, 1 + 1e-12], 1))).toEqual([1]);
  });

  it('agrees with a full sort, with few and with many ties, and leaves the scores alone', () => {
    const values = fc.oneof(
      fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 300 }),
      fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 300 }),
    );
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean(), (array, share, typed) => {
        const scores = typed ? Float32Array.from(array) : array;
        const before = Array.from(scores);
        const k = Math.round(share * scores.length);
        expect(list(topK(scores, k))).toEqual(naiveTopK(scores, k));
        expect(Array.from(scores)).toEqual(before);
      }),
      { numRuns: 1000 },
    );
  });

  it('is exact and not quadratic at N = 65,536, whatever the order', () => {
    const n = 65_536;
    const inputs: Record<string, (i: number) => number> = {
      random: (i) => Math.fround(Math.sin(i * 12.9898) * 43758.5453) % 1,
      ascending: (i) => i,
      descending: (i) => -i,
      organ: (i) => Math.min(i, n - i),
      equal: () => 1,
      killer: (i) => (i % 2 === 0 ? i : n - i),
    };
    for (const [name, f] of Object.entries(inputs)) {
      const scores = Float32Array.from({ length: n }, (_, i) => f(i));
      const start = performance.now();
      const mask = topK(scores, 4096);
      // A few milliseconds; quadratic would be seconds.
      expect(performance.now() - start, name).toBeLessThan(500);
      expect(list(mask), name).toEqual(naiveTopK(scores, 4096));
    }
  });

  it('finishes by sorting when partitioning makes no headway', () => {
    // Built against the median of (first, middle, last): the adversary decides each value when it is first compared.
    const n = 4096;
    const scores = antiQuickselect(n);
    expect(Array.from(topPositions(scores, n / 2))).toEqual(naiveTopK(scores, n / 2));
  });
});

/** Puts the largest values where the median of three will look, round by round, so that each round cuts off little. */
function antiQuickselect(n: number): Float64Array {
  const at = Array.from({ length: n }, (_, i) => i);
  const out = new Float64Array(n);
  let hi = n - 1;
  for (let value = n; hi > 2; value -= 2, hi -= 2) {
    const mid = hi >>> 1;
    out[at[hi]] = value;
    out[at[mid]] = value - 1;
    [at[mid], at[hi - 1]] = [at[hi - 1], at[mid]];
  }
  return out;
}

describe('topKUnion', () => {
  it('is the union of the rows of the batch', () => {
    const scores = [9, 1, 8, 0, 0, 1, 9, 8];
    expect(list(topKUnion(scores, { batch: 2 }, 2))).toEqual([0, 2, 3]);
    expect(list(topKUnion(Float32Array.from(scores), { batch: 2 }, 1))).toEqual([0, 2]);
    expect(topKUnion(scores, { batch: 1 }, 3).equals(topK(scores, 3))).toBe(true);
    expect(topKUnion(scores, { batch: 2 }, 0).size).toBe(4);
  });

  it('refuses a batch that does not fit', () => {
    expect(() => topKUnion([1, 2, 3], { batch: 2 }, 1)).toThrow(ShapeError);
    for (const batch of [0, -1, 1.5]) expect(() => topKUnion([1, 2], { batch }, 1)).toThrow(OptionError);
    expect(() => topKUnion([1, 2, 3, 4], { batch: 2 }, 3)).toThrow(OptionError);
  });
});

describe('bad scores', () => {
  const selectors: Record<string, (scores: Scores) => Bitmask> = {
    threshold: (s) => threshold(s, 0),
    sigma: (s) => sigma(s),
    topK: (s) => topK(s, 0),
    topKUnion: (s) => topKUnion(s, { batch: 1 }, 0),
  };
  for (const [name, select] of Object.entries(selectors)) {
    it(`${name} refuses none, NaN and infinity`, () => {
      expect(() => select([])).toThrow(ShapeError);
      expect(() => select(new Float32Array(0))).toThrow(ShapeError);
      expect(() => select([1, Number.NaN, Number.NaN])).toThrow(/score 1 of 3 is NaN/);
      expect(() => select(Float32Array.of(1, 2, Number.NEGATIVE_INFINITY))).toThrow(
        /score 2 of 3 is -Infinity/,
      );
      expect(() => select([Number.POSITIVE_INFINITY])).toThrow(NonFiniteError);
    });
  }
});
