import fc from 'fast-check';
import { expect, it } from 'vitest';
import { joinBlocks } from '../../src/pool/ranges.js';

const blocks = fc.uniqueArray(fc.nat(200), { maxLength: 80 }).map((ids) => Uint32Array.from(ids).sort());

it('joins blocks into reads that bring each of them once, within the limits, and cannot be joined further', () => {
  fc.assert(
    fc.property(blocks, fc.nat(6), fc.integer({ min: 1, max: 20 }), (wanted, maxGap, maxBlocks) => {
      const ranges = joinBlocks(wanted, maxGap, maxBlocks);
      const has = new Set(wanted);
      const brought = ranges.flatMap(({ begin, end }) =>
        Array.from({ length: end - begin }, (_, i) => begin + i).filter((block) => has.has(block)),
      );
      expect(brought).toEqual([...wanted]);
      ranges.forEach(({ begin, end }, r) => {
        expect(has.has(begin) && has.has(end - 1)).toBe(true);
        expect(end - begin).toBeLessThanOrEqual(maxBlocks);
        let gap = 0;
        for (let block = begin; block < end; block++) {
          gap = has.has(block) ? 0 : gap + 1;
          expect(gap).toBeLessThanOrEqual(maxGap);
        }
        const next = ranges[r + 1];
        if (!next) return;
        expect(next.begin).toBeGreaterThanOrEqual(end);
        // Another read only where the gap, or the read with one more block, would be too large.
        expect(next.begin - end > maxGap || next.begin + 1 - begin > maxBlocks).toBe(true);
      });
    }),
  );
});

it('joins neighbours whatever the gap, and nothing from nothing', () => {
  expect(joinBlocks(Uint32Array.of(3, 4, 5, 9), 0, 100)).toEqual([
    { begin: 3, end: 6 },
    { begin: 9, end: 10 },
  ]);
  expect(joinBlocks(Uint32Array.of(3, 4, 5, 9), 3, 100)).toEqual([{ begin: 3, end: 10 }]);
  expect(joinBlocks(new Uint32Array(0), 3, 100)).toEqual([]);
});
