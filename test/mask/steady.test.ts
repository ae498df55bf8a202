import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NonFiniteError, OptionError, ShapeError } from '../../src/errors.js';
import { Bitmask, Hysteresis, Smoother, sticky, topK } from '../../src/mask/index.js';

const list = (mask: Bitmask) => Array.from(mask.ids());

describe('sticky', () => {
  it('keeps the best of the previous rows and fills with the best others', () => {
    const previous = Bitmask.fromIds([0, 1, 2, 3], 8);
    const scores = [1, 4, 3, 2, 9, 8, 7, 6];
    expect(list(sticky(previous, scores, 4, 0.5))).toEqual([1, 2, 4, 5]);
    expect(list(sticky(previous, scores, 4, 1))).toEqual([0, 1, 2, 3]);
    expect(list(sticky(previous, scores, 4, 0))).toEqual([4, 5, 6, 7]);
    expect(list(sticky(null, scores, 4, 0.5))).toEqual([4, 5, 6, 7]);
    expect(list(sticky(previous, scores, 8, 0.5))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(list(sticky(previous, scores, 0, 0.5))).toEqual([]);
  });

  it('lets a row that was not kept compete for the rest, and ties go to the lowest id', () => {
    expect(list(sticky(Bitmask.fromIds([2, 3], 4), [1, 1, 5, 5], 2, 0.5))).toEqual([2, 3]);
    expect(list(sticky(Bitmask.fromIds([2, 3], 4), [1, 1, 1, 1], 2, 0.5))).toEqual([0, 2]);
  });

  it('has k rows, keeps enough, and is the top k where nothing is kept', () => {
    const input = fc.record({
      scores: fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 70, maxLength: 70 }),
      previous: fc.uniqueArray(fc.integer({ min: 0, max: 69 })),
      k: fc.integer({ min: 0, max: 70 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(input, ({ scores, previous, k, share }) => {
        const old = Bitmask.fromIds(previous, 70);
        const mask = sticky(old, scores, k, share);
        expect(mask.count()).toBe(k);
        const keep = Math.min(Math.floor(share * k), previous.length);
        const byScore = (a: number, b: number) => scores[b] - scores[a] || a - b;
        const kept = [...previous].sort(byScore).slice(0, keep);
        for (const row of kept) expect(mask.has(row)).toBe(true);
        const rest = scores.map((_, i) => i).filter((i) => !kept.includes(i));
        const best = rest.sort(byScore).slice(0, k - keep);
        expect(list(mask)).toEqual([...kept, ...best].sort((a, b) => a - b));
        expect(sticky(old, scores, k, 0).equals(topK(scores, k))).toBe(true);
        expect(list(old)).toEqual([...previous].sort((a, b) => a - b));
      }),
      { numRuns: 300 },
    );
  });

  it('refuses bad arguments', () => {
    const previous = Bitmask.empty(3);
    for (const share of [-0.1, 1.1, Number.NaN]) {
      expect(() => sticky(previous, [1, 2, 3], 1, share)).toThrow(OptionError);
      expect(() => sticky(null, [1, 2, 3], 1, share)).toThrow(OptionError);
    }
    for (const k of [-1, 4, 0.5]) {
      expect(() => sticky(previous, [1, 2, 3], k, 0.5)).toThrow(OptionError);
      expect(() => sticky(null, [1, 2, 3], k, 0.5)).toThrow(OptionError);
    }
    expect(() => sticky(previous, [1, 2], 1, 0.5)).toThrow(ShapeError);
    expect(() => sticky(null, [], 0, 0.5)).toThrow(ShapeError);
    expect(() => sticky(previous, [1, Number.NaN, 3], 1, 0.5)).toThrow(NonFiniteError);
  });
});

describe('Smoother', () => {
  it('takes the first scores as they are and smooths the next', () => {
    const smoother = new Smoother(2, 0.75);
    expect(Array.from(smoother.push([4, 8]))).toEqual([4, 8]);
    expect(Array.from(smoother.push([8, 0]))).toEqual([5, 6]);
    expect(Array.from(smoother.push(Float32Array.of(5, 6)))).toEqual([5, 6]);
  });

  it('gives a copy away', () => {
    const smoother = new Smoother(1, 0.5);
    smoother.push([4])[0] = 100;
    expect(Array.from(smoother.push([0]))).toEqual([2]);
  });

  it('is unchanged by scores that it refuses', () => {
    const smoother = new Smoother(2, 0.5);
    expect(() => smoother.push([1, Number.NaN])).toThrow(NonFiniteError);
    // Still the first push.
    expect(Array.from(smoother.push([2, 4]))).toEqual([2, 4]);
    expect(() => smoother.push([1])).toThrow(ShapeError);
    expect(() => smoother.push([])).toThrow(ShapeError);
    expect(() => smoother.push([1, Number.POSITIVE_INFINITY])).toThrow(NonFiniteError);
    // Finite as a number, infinite in f32.
    expect(() => smoother.push([1, 1e39])).toThrow(NonFiniteError);
    expect(Array.from(smoother.push([0, 0]))).toEqual([1, 2]);
  });

  it('refuses bad settings', () => {
    for (const size of [0, -1, 1.5]) expect(() => new Smoother(size, 0.5)).toThrow(ShapeError);
    for (const alpha of [-0.1, 1, Number.NaN]) expect(() => new Smoother(1, alpha)).toThrow(OptionError);
  });
});

describe('Hysteresis', () => {
  it('enters above one threshold and leaves below the other', () => {
    const gate = new Hysteresis(3, { enter: 2, leave: 1 });
    expect(list(gate.push([3, 2, 1.5]))).toEqual([0]);
    expect(list(gate.push([1, 2.5, 1.5]))).toEqual([0, 1]);
    expect(list(gate.push([0.9, 1.5, 2]))).toEqual([1]);
  });

  it('gives a copy away', () => {
    const gate = new Hysteresis(1, { enter: 2, leave: 1 });
    gate.push([3]).delete(0);
    expect(list(gate.push([1.5]))).toEqual([0]);
  });

  it('is unchanged by scores that it refuses', () => {
    const gate = new Hysteresis(2, { enter: 2, leave: 1 });
    gate.push([3, 0]);
    expect(() => gate.push([0, Number.NaN])).toThrow(NonFiniteError);
    expect(() => gate.push([0])).toThrow(ShapeError);
    expect(list(gate.push([1.5, 1.5]))).toEqual([0]);
  });

  it('refuses bad settings', () => {
    expect(() => new Hysteresis(0, { enter: 2, leave: 1 })).toThrow(ShapeError);
    expect(() => new Hysteresis(1, { enter: 1, leave: 2 })).toThrow(OptionError);
    expect(() => new Hysteresis(1, { enter: Number.NaN, leave: 2 })).toThrow(OptionError);
    expect(() => new Hysteresis(1, { enter: 1, leave: Number.NaN })).toThrow(OptionError);
    expect(new Hysteresis(1, { enter: 1, leave: 1 }).push([1]).count()).toBe(0);
  });
});
