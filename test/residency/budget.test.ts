import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OptionError } from '../../src/errors.js';
import { budgetRows, parseBudget, splitByUse, splitEvenly } from '../../src/residency/budget.js';

const SET = { layers: 4, rows: 100, rowBytes: 64 };

describe('parseBudget', () => {
  it.each([
    ['25%', { share: 0.25 }],
    ['12.5 %', { share: 0.125 }],
    ['100%', { share: 1 }],
    ['512MB', { bytes: 512e6 }],
    ['1.5 GiB', { bytes: 1.5 * 2 ** 30 }],
    ['.5kib', { bytes: 512 }],
    ['64 kB', { bytes: 64_000 }],
    ['4096', { bytes: 4096 }],
    [4096, { bytes: 4096 }],
    ['7b', { bytes: 7 }],
  ])('reads %s', (text, budget) => expect(parseBudget(text)).toEqual(budget));

  it.each([
    '',
    ' ',
    '%',
    '0%',
    '101%',
    '-5%',
    '0',
    '-1',
    'all',
    '5 apples',
    '1e9',
    '0x10',
    'NaN%',
    '0.5',
    '9e99',
    Number.NaN,
    1e300,
  ])('refuses %j', (text) => {
    expect(() => parseBudget(text)).toThrow(OptionError);
    expect(() => parseBudget(text)).toThrow(/no budget/);
  });
});

describe('a budget', () => {
  it('holds whole rows, at most all, and is refused below one a layer', () => {
    expect(budgetRows({ share: 0.25 }, SET)).toBe(100);
    expect(budgetRows({ bytes: 64 * 7 + 63 }, SET)).toBe(7);
    expect(budgetRows({ bytes: 1e12 }, SET)).toBe(400);
    expect(() => budgetRows({ bytes: 64 * 4 - 1 }, SET)).toThrow(/256 bytes is the least/);
    expect(() => budgetRows({ share: 0.009 }, SET)).toThrow(OptionError);
  });

  it('is split evenly, with nothing above it', () => {
    expect(splitEvenly({ bytes: 64 * 11 }, SET)).toEqual([2, 2, 2, 2]);
    expect(splitEvenly({ share: 1 }, SET)).toEqual([100, 100, 100, 100]);
  });

  it('is split by use: no other split has more uses among its rows', () => {
    const input = fc
      .record({
        layers: fc.integer({ min: 1, max: 3 }),
        rows: fc.integer({ min: 1, max: 5 }),
        least: fc.integer({ min: 1, max: 2 }),
      })
      .filter(({ rows, least }) => least <= rows)
      .chain(({ layers, rows, least }) =>
        fc.record({
          set: fc.constant({ layers, rows, rowBytes: 10 }),
          least: fc.constant(least),
          total: fc.integer({ min: layers * least, max: layers * rows }),
          counts: fc.array(fc.array(fc.nat(9), { minLength: rows, maxLength: rows }), {
            minLength: layers,
            maxLength: layers,
          }),
        }),
      );
    const served = (slots: readonly number[], counts: readonly number[][]): number =>
      slots.reduce(
        (sum, n, l) =>
          sum +
          counts[l]
            .toSorted((a, b) => b - a)
            .slice(0, n)
            .reduce((a, b) => a + b, 0),
        0,
      );
    const splits = (total: number, layers: number, least: number, rows: number): number[][] => {
      if (layers === 0) return total === 0 ? [[]] : [];
      const all: number[][] = [];
      for (let n = least; n <= Math.min(rows, total); n++) {
        for (const rest of splits(total - n, layers - 1, least, rows)) all.push([n, ...rest]);
      }
      return all;
    };
    fc.assert(
      fc.property(input, ({ set, least, total, counts }) => {
        const slots = splitByUse({ bytes: total * 10 }, set, counts, least);
        expect(slots.reduce((a, b) => a + b, 0)).toBe(total);
        expect(slots.every((n) => n >= least && n <= set.rows)).toBe(true);
        const best = Math.max(
          ...splits(total, set.layers, least, set.rows).map((split) => served(split, counts)),
        );
        expect(served(slots, counts)).toBe(best);
      }),
      { numRuns: 300 },
    );
  });

  it('refuses counts of another model, and more for each layer than there is', () => {
    const counts = Array.from({ length: 4 }, () => new Float64Array(100));
    expect(() => splitByUse({ share: 0.5 }, SET, counts.slice(1))).toThrow(OptionError);
    expect(() =>
      splitByUse(
        { share: 0.5 },
        SET,
        counts.map((layer) => layer.subarray(1)),
      ),
    ).toThrow(OptionError);
    expect(() => splitByUse({ share: 0.5 }, SET, counts, 51)).toThrow(/at least 51 slots/);
    expect(() => splitByUse({ share: 0.5 }, SET, counts, 0)).toThrow(OptionError);
  });
});
