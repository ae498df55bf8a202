import { expect, it } from 'vitest';
import type { HostCopy } from './pages/host-copies.js';
import { describePage } from './support/describe-page.js';

/** f32 sums in another order. */
const TOLERANCE = 1e-4;

interface BlockCase {
  length: number;
  masked: boolean;
  error: number;
  /** What leaving out the MLP would be off by. */
  share: number;
  copies: HostCopy[];
  deviceCopies: number;
  grown: number;
}

describePage('onnxruntime-web', 'onnxruntime.ts', (page) => {
  it('has no device before the first session, and says so', async () => {
    expect(await page.call('beforeSessions')).toMatch(/^AdapterError: .*create a session/);
  });

  it('runs the MLP of a block between two ONNX graphs: equal to one graph, no copy to the host', async () => {
    const hidden = 64;
    const { found, left } = await page.call<{ found: BlockCase[]; left: number }>('block', [1, 12, 16]);
    expect(found).toHaveLength(6);
    for (const { length, masked, error, share, copies, deviceCopies, grown } of found) {
      const name = `T = ${length}, ${masked ? 'masked' : 'all rows'}`;
      expect(error, name).toBeLessThan(TOLERANCE);
      expect(share, name).toBeGreaterThan(0.1);
      // The logits that the test itself asks for are all that is read; x, 12 rows or 16, is all that comes.
      expect(
        copies.filter(({ how }) => how === 'mapAsync'),
        name,
      ).toHaveLength(1);
      const large = copies.filter(({ how, bytes }) => how !== 'mapAsync' && bytes >= length * hidden * 4);
      expect(large.length, `${name}: ${JSON.stringify(copies)}`).toBe(1);
      // onnxruntime's buffers have room for whole tiles of rows.
      expect(deviceCopies, name).toBe(0);
      expect(grown, name).toBe(0);
    }
    expect(left).toBe(0);
  });

  it.each([false, true])('asks for no copy between two sessions (mask: %s)', async (masked) => {
    const { step, after, tensorBytes } = await page.call<{
      step: HostCopy[];
      after: HostCopy[];
      tensorBytes: number;
    }>('between', masked);
    // A mask's ids are the only thing that the host sends.
    expect(step).toEqual(masked ? [{ how: 'writeBuffer', bytes: 4 * (4 + 4) }] : []);
    expect(after.filter(({ how }) => how === 'mapAsync')).toEqual([]);
    expect(after.filter(({ bytes }) => bytes >= tensorBytes)).toEqual([]);
  });

  it('multiplies by the rows of a slab where they lie', async () => {
    const found = await page.call<{
      errors: number[];
      updates: number[];
      empty: string;
      odd: string;
      stays: string;
      left: number;
    }>('slabRows');
    for (const error of found.errors) expect(error).toBeLessThan(TOLERANCE);
    expect(found.updates).toEqual([4, 4, 1]);
    expect(found.empty).toMatch(/^OptionError: the slab holds no rows/);
    expect(found.odd).toMatch(
      /^OptionError: rows of 10 values are 12 values apart .* multiples of 4 for f32/,
    );
    expect(found.stays).toBe('unmapped');
    expect(found.left).toBe(0);
  });

  it('refuses what it cannot take without a copy, and frees what it lent', async () => {
    const found = await page.call<Record<string, unknown>>('refusals');
    expect(found).toMatchObject({
      device: expect.stringMatching(/^OptionError: the layer is on another device/),
      place: expect.stringMatching(/^OptionError: x is on "cpu"/),
      type: expect.stringMatching(/^OptionError: x is int32/),
      dims: expect.stringMatching(/^ShapeError: x is \[2,32\]/),
      mask: expect.stringMatching(/^ShapeError/),
      values: 64,
      zero: true,
      before: 64 * 4,
      after: 0,
    });
  });
});
