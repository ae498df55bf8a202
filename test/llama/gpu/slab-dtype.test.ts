/** Sessions whose slabs keep other dtypes than the weights are stored as: rows are converted on their way in. */
import { describe, expect, it } from 'vitest';
import { OptionError } from '../../../src/errors.js';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { argmax } from '../../support/llama-twin.js';
import { smallModel } from '../../support/make-model.js';

const checkpoint = await openCheckpoint(smallModel());
const PROMPT = [3, 1, 4, 1, 5];
const MORE = [9, 2, 6, 5, 3, 5];
/** Of the largest logit. f32 holds what the kernels would widen to, but a scale multiplies before the sum, not after. */
const TOLERANCE = { f32: 1e-5, f16: 5e-3 };

describeAdapters('slabs of another dtype', (ctx) => {
  async function run(weights: LlamaWeights, options: SessionOptions) {
    const session = new LlamaSession(ctx.device, weights, { prefillChunk: 8, ...options });
    try {
      await session.prefill(PROMPT);
      const logits: Float32Array[] = [];
      const updates: unknown[] = [];
      for (const id of MORE) {
        logits.push((await session.next(id)).slice());
        updates.push(session.lastStep.updates.map(({ active, writes }) => [active, writes]));
      }
      return { logits, updates, bytes: session.bytes };
    } finally {
      session.destroy();
    }
  }

  it.each([
    ['q8', 'f16'],
    ['q8', 'f32'],
    ['q4', 'f16'],
    ['q4', 'f32'],
    ['f32', 'f16'],
  ] as const)(
    '%s weights, %s slabs: the tokens of slabs as stored, within rounding',
    async (dtype, slabDtype) => {
      const weights = await loadWeights(ctx.device, checkpoint, { dtype });
      const ways = [
        { strategy: 'paired', planOn: 'device' },
        { strategy: 'paired', planOn: 'host' },
        { strategy: 'repack' },
      ] as const;
      for (const way of ways) {
        const stored = await run(weights, way);
        const converted = await run(weights, { ...way, slabDtype });
        expect(converted.updates, 'the same rows, written as often').toEqual(stored.updates);
        expect(converted.bytes, 'the slabs have other rows').not.toBe(stored.bytes);
        for (const [i, want] of stored.logits.entries()) {
          const got = converted.logits[i];
          const allowed = TOLERANCE[slabDtype] * Math.max(...want.map(Math.abs));
          const off = largestDifference(got, want);
          expect(off, `${way.strategy}, token ${i}`).toBeLessThan(allowed);
          if (slabDtype === 'f16') expect(off, 'values were rounded').toBeGreaterThan(0);
          // The likeliest token is the same, unless others are as near as the rounding.
          expect(want[argmax(got)]).toBeGreaterThanOrEqual(want[argmax(want)] - 2 * allowed);
        }
      }
      weights.destroy();
    },
  );

  describe('are refused', () => {
    it.each<[string, SessionOptions, RegExp]>([
      ['where there are none', { strategy: 'indexed', slabDtype: 'f16' }, /use strategy repack or paired/],
      ['where auto may have none', { slabDtype: 'f16' }, /use strategy repack or paired/],
      [
        'in a dtype with scales',
        { strategy: 'paired', slabDtype: 'q8' as 'f16' },
        /"q8" is unknown; use one of f32, f16/,
      ],
    ])('%s', async (_, options, message) => {
      const weights = await loadWeights(ctx.device, checkpoint, { dtype: 'q8', context: 16 });
      expect(() => new LlamaSession(ctx.device, weights, options)).toThrow(OptionError);
      expect(() => new LlamaSession(ctx.device, weights, options)).toThrow(message);
      weights.destroy();
    });
  });
});
