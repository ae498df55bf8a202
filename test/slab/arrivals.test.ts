/** What a slab hands to kernels that bring in its rows themselves. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CapacityError, OptionError } from '../../src/errors.js';
import { readBuffer } from '../../src/gpu/readback.js';
import type { Region } from '../../src/gpu/regions.js';
import { Bitmask } from '../../src/mask/index.js';
import { Slab } from '../../src/slab/slab.js';
import { describeAdapters } from '../support/adapters.js';
import { makePool } from './twin.js';

const ROWS = 40;
const CAPACITY = 30;
const SHAPES = { a: { cols: [4] } };

describeAdapters('arrivals of a slab', (ctx) => {
  it('say for every slot where its row comes from', async () => {
    const { pool } = makePool(ctx.device, ROWS, SHAPES);
    const ids = fc.uniqueArray(fc.integer({ min: 0, max: ROWS - 1 }), { maxLength: CAPACITY });
    const strategy = fc.constantFrom('paired' as const, 'repack' as const);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(ids, strategy), { minLength: 1, maxLength: 6 }), async (steps) => {
        const slab = new Slab(pool, { capacity: CAPACITY });
        for (const [rows, strategy] of steps) {
          const mask = Bitmask.fromIds(rows, ROWS);
          const before = slab.rowIds();
          const given: { arrivals: Region; active: number }[] = [];
          const stats = slab.encodeArrivals(mask, { strategy, tau: 1 }, (arrivals, active) => {
            expect(slab.rowIds()).toEqual(before);
            given.push({ arrivals, active });
          });
          slab.submitted();
          expect(slab.mask().equals(mask)).toBe(true);
          expect(given).toHaveLength(stats.kind === 'none' ? 0 : 1);
          if (stats.kind === 'none') continue;
          const [{ arrivals, active }] = given;
          const { buffer, offset, size } = arrivals;
          const words = new Uint32Array(await readBuffer(ctx.device, buffer, offset, size));
          const [stay, pooled, count] = words;
          expect([active, count]).toEqual([rows.length, rows.length]);
          const after = new Uint32Array(count).fill(ROWS);
          for (const slot of words.subarray(4, 4 + stay)) after[slot] = before[slot];
          let last = -1;
          for (let n = 0; n < count - stay; n++) {
            const [to, source] = words.subarray(4 + stay + 2 * n);
            // Ascending, to slots that do not stay; those of the pool first.
            expect(to).toBeGreaterThan(last);
            expect(after[to]).toBe(ROWS);
            expect(source < 2 ** 31).toBe(n < pooled);
            if (n >= pooled) expect(source - 2 ** 31).toBeGreaterThanOrEqual(count);
            after[to] = n < pooled ? source : before[source - 2 ** 31];
            last = to;
          }
          expect(after).toEqual(slab.rowIds());
          expect(stats.writes).toBe(count - stay);
        }
        slab.destroy();
      }),
      { numRuns: 60 },
    );
    pool.destroy();
  });

  it('change nothing when the work cannot be recorded', () => {
    const { pool } = makePool(ctx.device, ROWS, SHAPES);
    const slab = new Slab(pool, { capacity: CAPACITY, pendingUpdates: 2 });
    const mask = Bitmask.fromIds([1, 2], ROWS);
    const never = () => expect.unreachable('recorded');
    const fail = () => {
      throw new Error('no');
    };
    expect(() => slab.encodeArrivals(mask, {}, fail)).toThrow('no');
    expect(slab.active).toBe(0);
    slab.encodeArrivals(mask, {}, () => {});
    // Both places are taken.
    expect(() => slab.encodeArrivals(Bitmask.fromIds([3], ROWS), {}, never)).toThrow(OptionError);
    expect(slab.mask().equals(mask)).toBe(true);
    slab.submitted();
    expect(() => slab.encodeArrivals(Bitmask.full(ROWS), {}, never)).toThrow(CapacityError);
    expect(() => slab.encodeArrivals(mask, { strategy: 'both' as 'paired' }, never)).toThrow(OptionError);
    const near = Bitmask.fromIds([1, 3], ROWS);
    expect(slab.encodeArrivals(near, { deferBelow: 5 }, never).kind).toBe('deferred');
    expect(slab.encodeArrivals(mask, {}, never).kind).toBe('none');
    expect(slab.mask().equals(mask)).toBe(true);
    slab.destroy();
    pool.destroy();
  });
});
