/** Models in pages of a Chromium whose GPU process crashes; two models and two tabs at once. */
import { expect, it } from 'vitest';
import { describePage } from './support/describe-page.js';

interface Found {
  tokens: number[];
  expected: number[];
  crashes: number;
  lost: number;
}

describePage(
  'models in a page whose GPU process crashes',
  'crash.ts',
  (page) => {
    it('in a worker: the same tokens through crashes while the prompt is fed, and at two tokens', async () => {
      const { told, ...found } = await page.call<Found & { told: string[] }>('inWorker', [-1, 12, 0]);
      expect(found.crashes).toBe(3);
      expect(found.lost).toBe(3);
      expect(told.every((error) => error.startsWith('DeviceLostError the GPU device was lost'))).toBe(true);
      expect(found.tokens.length).toBeGreaterThan(30);
      expect(found.tokens).toEqual(found.expected);
    });

    it('in the page: the same tokens through a crash while it loads, and two while it writes', async () => {
      const found = await page.call<Found & { losses: number; logits: number; left: number[] }>(
        'inPage',
        [1, 30],
      );
      expect(found.lost).toBe(2);
      expect(found.losses).toBe(3);
      expect(found.tokens).toEqual(found.expected);
      expect(found.logits).toBe(60);
      expect(found.left).toEqual([0, 0]);
    });

    it('two models write at once what they write alone, and meet on one device after a crash', async () => {
      const found = await page.call<{
        alone: number[][];
        atOnce: number[][];
        first: Pick<Found, 'tokens' | 'expected'>;
        second: number[];
        losses: number;
        together: boolean;
        left: number;
      }>('twoModels');
      expect(found.alone[0]).not.toEqual(found.alone[1]);
      expect(found.atOnce).toEqual(found.alone);
      expect(found.first.tokens).toEqual(found.first.expected);
      expect(found.second).toEqual(found.alone[1]);
      expect(found).toMatchObject({ losses: 1, together: true, left: 0 });
    });

    it('two tabs write at once what one writes alone, and both go on after a crash', async () => {
      const alone = await page.call<number[]>('text', 100);
      const tab = await page.another();
      try {
        await tab.call('text', 1);
        const both = await Promise.all([page.call('text', 40), tab.call('text', 40)]);
        expect(both).toEqual([alone.slice(0, 40), alone.slice(0, 40)]);
        const crashing = await Promise.all([page.call<Found>('textAndCrash'), tab.call('text', 100)]);
        const [{ tokens, expected, lost }, other] = crashing;
        expect(lost).toBe(1);
        expect(tokens).toEqual(expected);
        expect(other).toEqual(alone);
      } finally {
        await tab.close();
      }
    });
  },
  { runtimes: false, crashes: true, scripts: ['../../../src/worker/start.ts'] },
);
