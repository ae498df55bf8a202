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

describePage('tfjs', 'tfjs.ts', (page) => {
  it('needs its WebGPU backend, and says so', async () => {
    expect(await page.call('beforeBackend')).toMatch(/^AdapterError: .*setBackend\('webgpu'\)/);
    await page.call('start');
  });

  it('runs the MLP of a block: equal to tfjs alone, no copy to the host', async () => {
    const { found, left, tensors } = await page.call<{ found: BlockCase[]; left: number; tensors: number }>(
      'block',
      [1, 12, 16],
    );
    expect(found).toHaveLength(6);
    for (const { length, masked, error, share, copies, deviceCopies, grown } of found) {
      const name = `T = ${length}, ${masked ? 'masked' : 'all rows'}`;
      expect(error, name).toBeLessThan(TOLERANCE);
      expect(share, name).toBeGreaterThan(0.1);
      expect(
        copies.filter(({ how }) => how === 'mapAsync'),
        name,
      ).toEqual([]);
      // Uniforms and a mask's words, never a tensor.
      expect(Math.max(...copies.map(({ bytes }) => bytes)), name).toBeLessThan(
        masked ? 4 * (4 + 160) + 1 : 256,
      );
      // tfjs's buffers end with the last row, and 12 rows are no whole tiles of 8.
      expect(deviceCopies, name).toBe(length === 12 ? 1 : 0);
      expect(grown, name).toBe(0);
    }
    expect({ left, tensors }).toEqual({ left: 0, tensors: 0 });
  });

  it('multiplies by the rows of a slab where they lie', async () => {
    const found = await page.call<{
      errors: number[];
      copies: HostCopy[];
      empty: string;
      odd: string;
      half: string;
      left: number;
      tensors: number;
    }>('slabRows');
    for (const error of found.errors) expect(error).toBeLessThan(TOLERANCE);
    expect(found.errors).toHaveLength(3);
    // x, which comes from the host, and uniforms.
    expect(Math.max(...found.copies.map(({ bytes }) => bytes))).toBeLessThan(4 * 48 + 1);
    expect(found.empty).toMatch(/^OptionError: the slab holds no rows/);
    expect(found.odd).toMatch(
      /^OptionError: rows of 10 values are 12 values apart .* multiples of 4 for f32/,
    );
    expect(found.half).toMatch(/^OptionError: the slab's rows are f16; tfjs takes f32/);
    expect({ left: found.left, tensors: found.tensors }).toEqual({ left: 0, tensors: 0 });
  });

  it('refuses what it cannot take, and keeps nothing of it', async () => {
    expect(await page.call('refusals')).toMatchObject({
      device: expect.stringMatching(/^OptionError: the layer is on another device/),
      type: expect.stringMatching(/^OptionError: x is int32/),
      shape: expect.stringMatching(/^ShapeError: x is \[2,32\]/),
      mask: expect.stringMatching(/^ShapeError/),
      kept: 0,
      left: 0,
    });
  });
});
