import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NonFiniteError, OptionError, RowError, ShapeError } from '../../src/errors.js';
import { countAdded } from '../../src/mask/diff.js';
import { Bitmask, diff } from '../../src/mask/index.js';

const SIZES = [1, 2, 31, 32, 33, 63, 64, 65, 1000];
const list = (mask: Bitmask) => Array.from(mask.ids());

/** A set of row ids with its N, at sizes about the word boundaries. */
const idsIn = (max = 140) =>
  fc.integer({ min: 1, max }).chain((size) =>
    fc.record({
      size: fc.constant(size),
      ids: fc.uniqueArray(fc.integer({ min: 0, max: size - 1 }), { maxLength: size }),
      more: fc.uniqueArray(fc.integer({ min: 0, max: size - 1 }), { maxLength: size }),
    }),
  );
const ascending = (ids: Iterable<number>) => [...ids].sort((a, b) => a - b);

describe('Bitmask', () => {
  it.each(SIZES)('empty and full masks of %i rows', (n) => {
    expect(Bitmask.empty(n).words.length).toBe(Math.ceil(n / 32));
    expect(Bitmask.empty(n).count()).toBe(0);
    const full = Bitmask.full(n);
    expect(full.count()).toBe(n);
    expect(list(full)).toEqual(Array.from({ length: n }, (_, i) => i));
    expect(Bitmask.fromWords(full.words, n).equals(full)).toBe(true);
    for (const i of [0, n - 1]) {
      full.delete(i);
      expect(full.has(i)).toBe(false);
    }
    expect(full.count()).toBe(Math.max(0, n - 2));
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])('refuses a size of %d', (n) => {
    expect(() => Bitmask.empty(n)).toThrow(ShapeError);
    expect(() => Bitmask.full(n)).toThrow(ShapeError);
    expect(() => Bitmask.fromIds([], n)).toThrow(ShapeError);
  });

  it('names the row id and N that it refuses', () => {
    expect(() => Bitmask.fromIds([3, 40], 40)).toThrow(/row 40 .*N = 40/);
    expect(() => Bitmask.fromIds([3, 7, 3], 40)).toThrow(/row 3 of N = 40 is given twice/);
    for (const bad of [-1, 1.5, Number.NaN, 40, 2 ** 32]) {
      expect(() => Bitmask.fromIds([bad], 40)).toThrow(RowError);
      const mask = Bitmask.empty(40);
      expect(() => mask.has(bad)).toThrow(RowError);
      expect(() => mask.add(bad)).toThrow(RowError);
      expect(() => mask.delete(bad)).toThrow(RowError);
      expect(mask.count()).toBe(0);
    }
    expect(() => Bitmask.fromIds([1, 1], 4)).toThrow(RowError);
  });

  it('agrees with a Set in every operation', () => {
    fc.assert(
      fc.property(idsIn(), ({ size, ids, more }) => {
        const mask = Bitmask.fromIds(ids, size);
        const set = new Set(ids);
        expect(list(mask)).toEqual(ascending(set));
        expect([...mask]).toEqual(ascending(set));
        expect(mask.count()).toBe(set.size);
        for (let i = 0; i < size; i++) expect(mask.has(i)).toBe(set.has(i));
        const copy = mask.clone();
        const both = mask.union(Bitmask.fromIds(more, size));
        expect(list(both)).toEqual(ascending(new Set([...ids, ...more])));
        const left = mask.without(Bitmask.fromIds(more, size));
        expect(list(left)).toEqual(ascending(ids.filter((i) => !more.includes(i))));
        for (const i of more) {
          const remove = set.has(i);
          if (remove) mask.delete(i);
          else mask.add(i);
          if (remove) set.delete(i);
          else set.add(i);
        }
        expect(list(mask)).toEqual(ascending(set));
        expect(list(copy)).toEqual(ascending(ids));
        expect(copy.equals(mask)).toBe(more.length === 0);
        const flags = Array.from({ length: size }, (_, i) => set.has(i));
        expect(Bitmask.fromBooleans(flags).equals(mask)).toBe(true);
        expect(Bitmask.fromBooleans(flags.map(Number)).equals(mask)).toBe(true);
        expect(Bitmask.fromWords(mask.words, size).equals(mask)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('add and delete may repeat', () => {
    const mask = Bitmask.empty(33);
    mask.add(31);
    mask.add(31);
    mask.add(32);
    expect(list(mask)).toEqual([31, 32]);
    mask.delete(31);
    mask.delete(31);
    expect(list(mask)).toEqual([32]);
  });

  it('takes flags, with NaN refused', () => {
    expect(list(Bitmask.fromBooleans(Uint8Array.of(0, 2, 0, 1)))).toEqual([1, 3]);
    expect(() => Bitmask.fromBooleans([true, Number.NaN])).toThrow(/flag 1 is NaN/);
    expect(() => Bitmask.fromBooleans([0, Number.NaN])).toThrow(NonFiniteError);
    expect(() => Bitmask.fromBooleans([])).toThrow(ShapeError);
  });

  it('takes a threshold, strictly above', () => {
    expect(list(Bitmask.fromThreshold([1, 2, 3], 2))).toEqual([2]);
    expect(() => Bitmask.fromThreshold([1], Number.NaN)).toThrow(OptionError);
  });

  it('copies words and refuses those that are not a mask', () => {
    const words = Uint32Array.of(0x80000001, 1);
    const mask = Bitmask.fromWords(words, 33);
    words[0] = 0;
    expect(list(mask)).toEqual([0, 31, 32]);
    expect(() => Bitmask.fromWords(Uint32Array.of(0, 2), 33)).toThrow(/bit 33 is set .*N = 33/);
    expect(() => Bitmask.fromWords(Uint32Array.of(0, 2), 33)).toThrow(ShapeError);
    expect(() => Bitmask.fromWords(Uint32Array.of(0x80000000), 31)).toThrow(ShapeError);
    expect(() => Bitmask.fromWords(new Uint32Array(1), 33)).toThrow(ShapeError);
    expect(() => Bitmask.fromWords(new Uint32Array(2), 32)).toThrow(ShapeError);
  });

  it('masks of different sizes are unequal and do not combine', () => {
    expect(Bitmask.empty(32).equals(Bitmask.empty(31))).toBe(false);
    expect(() => Bitmask.empty(32).union(Bitmask.empty(31))).toThrow(ShapeError);
    expect(() => Bitmask.empty(32).without(Bitmask.empty(31))).toThrow(ShapeError);
  });
});

describe('diff', () => {
  it('agrees with sets', () => {
    fc.assert(
      fc.property(idsIn(), ({ size, ids, more }) => {
        const { added, removed } = diff(Bitmask.fromIds(ids, size), Bitmask.fromIds(more, size));
        expect(Array.from(added)).toEqual(ascending(more.filter((i) => !ids.includes(i))));
        expect(Array.from(removed)).toEqual(ascending(ids.filter((i) => !more.includes(i))));
        expect(countAdded(Bitmask.fromIds(ids, size), Bitmask.fromIds(more, size))).toBe(added.length);
      }),
      { numRuns: 300 },
    );
  });

  it('refuses masks of different sizes', () => {
    expect(() => diff(Bitmask.empty(32), Bitmask.empty(33))).toThrow(ShapeError);
    expect(() => countAdded(Bitmask.empty(32), Bitmask.empty(33))).toThrow(ShapeError);
  });
});
