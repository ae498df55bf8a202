/** A model whose matrices are multiplied in f16: near what f32 gives, by every strategy, and only where it can be. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { AdapterError, OptionError } from '../../../src/errors.js';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { perplexity } from '../../../src/llama/perplexity.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { STRATEGIES } from '../../../src/mlp/strategy.js';
import { requestDevice } from '../../../src/node/device.js';
import { openTokenizer } from '../../../src/node/text.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { smallModel } from '../../support/make-model.js';
import { NodeFolder, STATESMAN } from '../node-folder.js';

const made = await openCheckpoint(smallModel());
const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5];
const MORE = [3, 5, 8, 9];

describeAdapters('a model in f16 arithmetic', (ctx) => {
  const needsF16 = (skip: (reason: string) => void): void => {
    if (!ctx.has('shader-f16')) skip(`${ctx.adapter.name} has no shader-f16`);
  };

  /** The logits of a prompt's tokens at once, of the last once more, and of the tokens after it one by one. */
  async function logitsOf(weights: LlamaWeights, options: SessionOptions): Promise<Float32Array[]> {
    const session = new LlamaSession(ctx.device, weights, { prefillChunk: 4, ...options });
    try {
      expect(session.compute).toBe(options.compute ?? 'f32');
      const all = [await session.prefillAll(PROMPT)];
      session.reset();
      all.push((await session.prefill(PROMPT)).slice());
      for (const id of MORE) all.push((await session.next(id)).slice());
      return all;
    } finally {
      session.destroy();
    }
  }

  it('has nearly the logits of f32, by every strategy', async ({ skip }) => {
    needsF16(skip);
    const weights = await loadWeights(ctx.device, made, { dtype: 'f16' });
    const wanted = await logitsOf(weights, { strategy: 'dense' });
    for (const strategy of STRATEGIES) {
      const got = await logitsOf(weights, { strategy, compute: 'f16' });
      for (const [i, logits] of got.entries()) {
        const size = Math.max(...wanted[i].map(Math.abs));
        const difference = largestDifference(logits, wanted[i]);
        expect(difference, `${strategy}, ${i}`).toBeLessThan(0.01 * size);
        expect(difference, `${strategy}, ${i}: it is f16 arithmetic`).toBeGreaterThan(1e-5 * size);
      }
    }
    weights.destroy();
  });

  describe('refuses', () => {
    it.each(['f32', 'bf16', 'q8', 'q4'] as const)('weights stored as %s', async (dtype) => {
      const weights = await loadWeights(ctx.device, made, { dtype, context: 16 });
      const before = gpuBytes(ctx.device);
      const create = () => new LlamaSession(ctx.device, weights, { compute: 'f16' });
      expect(create).toThrow(OptionError);
      expect(create).toThrow(`these are stored as ${dtype}. Use dtype f16, or compute f32.`);
      expect(gpuBytes(ctx.device)).toBe(before);
      weights.destroy();
    });

    it('a device without shader-f16', async () => {
      const bare = await requestDevice({ adapter: ctx.adapter.name, features: [], tuning: false });
      try {
        const weights = await loadWeights(bare.device, made, { dtype: 'f16', context: 16 });
        const before = gpuBytes(bare.device);
        const create = () => new LlamaSession(bare.device, weights, { compute: 'f16' });
        expect(create).toThrow(AdapterError);
        expect(create).toThrow(/shader-f16.*Use compute f32/);
        expect(gpuBytes(bare.device)).toBe(before);
        weights.destroy();
      } finally {
        bare.destroy();
      }
    });
  });

  it.for(['dense', 'indexed'] as const)(
    'keeps the perplexity of the shipped model, %s',
    { timeout: 240_000 },
    async (strategy, { skip }) => {
      needsF16(skip);
      const folder = new NodeFolder(STATESMAN);
      const ids = (await openTokenizer(folder)).encode(await readFile(`${STATESMAN}heldout.txt`, 'utf8'));
      const weights = await loadWeights(ctx.device, await openCheckpoint(folder), { dtype: 'f16' });
      const score = async (options: SessionOptions): Promise<number> => {
        const session = new LlamaSession(ctx.device, weights, options);
        const found = await perplexity(session, ids, {
          window: 256,
          tokens: strategy === 'dense' ? 512 : 256,
        });
        session.destroy();
        return found.perplexity;
      };
      const wide = await score({ strategy: 'dense' });
      const half = await score({ strategy, compute: 'f16' });
      // What the model's README allows; measured 1e-5.
      expect(Math.abs(half / wide - 1)).toBeLessThan(0.002);
      weights.destroy();
    },
  );
});
