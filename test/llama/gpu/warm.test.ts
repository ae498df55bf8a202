/** Decode, once warm, makes nothing on the device for a token: no buffer, bind group, kernel or error scope. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { Sampler } from '../../../src/llama/sample.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { made } from '../../support/count-made.js';
import { smallModel } from '../../support/make-model.js';

const checkpoint = await openCheckpoint(smallModel());
const SESSIONS: readonly SessionOptions[] = [
  { strategy: 'auto' },
  { strategy: 'dense' },
  { strategy: 'indexed' },
  { strategy: 'repack' },
  { strategy: 'paired' },
  { strategy: 'paired', planOn: 'host' },
];

describeAdapters('decode, once warm', (ctx) => {
  let weights: LlamaWeights;
  let few: LlamaWeights;
  beforeAll(async () => {
    weights = await loadWeights(ctx.device, checkpoint);
    few = await loadWeights(ctx.device, checkpoint, { budget: { share: 0.4 } });
  });
  afterAll(() => {
    weights.destroy();
    few.destroy();
  });

  async function check(session: LlamaSession): Promise<void> {
    const sampler = new Sampler({ temperature: 0.8, topK: 5, seed: 1 });
    const tokens = async () => {
      session.reset();
      await session.prefill([3, 1, 4]);
      for (const id of [1, 5, 9, 2]) await session.next(id);
      await session.greedy(6, 4);
      await session.follow(5, 4, sampler);
    };
    try {
      expect(await made(ctx.device, tokens), 'the first tokens').not.toEqual([]);
      await tokens();
      expect(await made(ctx.device, tokens)).toEqual([]);
    } finally {
      session.destroy();
    }
  }

  it.each(SESSIONS)('%o', async (options) => {
    await check(new LlamaSession(ctx.device, weights, { prefillChunk: 8, ...options }));
  });

  it('under a budget', async () => {
    await check(new LlamaSession(ctx.device, few, { prefillChunk: 8 }));
  });
});
