/** Nats per token of the held-out text, from logits alone: src/llama/perplexity.ts is not used. */
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import type { StoredDtype } from '../../../src/gpu/layout.js';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { perplexity } from '../../../src/llama/perplexity.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { loadWeights } from '../../../src/llama/weights.js';
import { openTokenizer } from '../../../src/node/text.js';
import { describeAdapters } from '../../support/adapters.js';
import { NodeFolder, STATESMAN } from '../node-folder.js';

const folder = new NodeFolder(STATESMAN);
const { heldout } = JSON.parse(await readFile(`${STATESMAN}reference.json`, 'utf8')) as {
  heldout: { file: string; tokens: number; window: number; nats_per_token: number };
};
const { window } = heldout;
const WINDOWS = heldout.tokens / window;
const ids = (await openTokenizer(folder)).encode(await readFile(STATESMAN + heldout.file, 'utf8'));

/** -log softmax(logits)[id], in float64. */
function nats(logits: Float32Array, id: number): number {
  let most = -Infinity;
  for (const logit of logits) most = Math.max(most, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return Math.log(sum) + most - logits[id];
}

/** Nats of window `w`: each of its ids is fed from an empty cache, and each that follows one is scored. */
async function scoreWindow(session: LlamaSession, w: number): Promise<number> {
  const { vocabSize } = session.weights.config;
  const fed = ids.slice(w * window, (w + 1) * window);
  session.reset();
  const all = session.strategy === 'dense' ? await session.prefillAll(fed) : null;
  let sum = 0;
  for (let i = 0; i < window; i++) {
    const logits = all ? all.subarray(i * vocabSize, (i + 1) * vocabSize) : await session.next(fed[i]);
    sum += nats(logits, ids[w * window + i + 1]);
  }
  return sum;
}

describeAdapters('the held-out text', (ctx) => {
  async function withSession<T>(
    dtype: StoredDtype,
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<T>,
  ): Promise<T> {
    const weights = await loadWeights(ctx.device, await openCheckpoint(folder), { dtype });
    const session = new LlamaSession(ctx.device, weights, options);
    try {
      return await use(session);
    } finally {
      session.destroy();
      weights.destroy();
    }
  }

  /** Nats per token of each window, per dtype; the first is compared with what the sparse strategies give. */
  const first: Partial<Record<StoredDtype, number>> = {};
  const expectNear = (found: number, expected: number) =>
    expect(Math.abs(found - expected) / expected).toBeLessThan(2e-4);

  it.each<StoredDtype>(['f32', 'f16'])(
    'costs the reference nats per token: dense, stored as %s',
    async (dtype) => {
      const total = await withSession(dtype, { strategy: 'dense' }, async (session) => {
        let sum = 0;
        for (let w = 0; w < WINDOWS; w++) {
          const cost = await scoreWindow(session, w);
          if (w === 0) first[dtype] = cost;
          sum += cost;
        }
        return sum;
      });
      expectNear(total / heldout.tokens, heldout.nats_per_token);
    },
    240_000,
  );

  it('costs the same token by token: indexed', async () => {
    const swift = ctx.adapter.name === 'swiftshader';
    const windows = swift ? 1 : WINDOWS;
    const total = await withSession('f16', { strategy: 'indexed' }, async (session) => {
      let sum = 0;
      for (let w = 0; w < windows; w++) sum += await scoreWindow(session, w);
      return sum;
    });
    const expected = swift ? first.f16! / window : heldout.nats_per_token;
    expectNear(total / (windows * window), expected);
  }, 240_000);

  it('is what perplexity() says', async () => {
    const { natsPerToken, tokens } = await withSession('f32', { strategy: 'dense' }, (session) =>
      perplexity(session, ids, { window, tokens: window }),
    );
    expect(tokens).toBe(window);
    expect(natsPerToken).toBeCloseTo(first.f32! / window, 6);
  });
});
