/** Nats per token of the held-out text, from logits alone: src/llama/perplexity.ts is not used. */
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import type { StoredDtype } from '../../../src/gpu/layout.js';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { perplexity } from '../../../src/llama/perplexity.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { loadWeights } from '../../../src/llama/weights.js';
import type { Strategy } from '../../../src/mlp/strategy.js';
import { openTokenizer } from '../../../src/node/text.js';
import { describeAdapters } from '../../support/adapters.js';
import { LlamaTwin } from '../../support/llama-twin.js';
import { NodeFolder, STATESMAN } from '../node-folder.js';

const folder = new NodeFolder(STATESMAN);
const { heldout } = JSON.parse(await readFile(`${STATESMAN}reference.json`, 'utf8')) as {
  heldout: { file: string; tokens: number; window: number; nats_per_token: number };
};
const { window } = heldout;
const checkpoint = await openCheckpoint(folder);
const WINDOWS = heldout.tokens / window;
const ids = (await openTokenizer(folder)).encode(await readFile(STATESMAN + heldout.file, 'utf8'));

/** -log softmax(logits)[id], in float64. */
function nats(logits: ArrayLike<number>, id: number): number {
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) most = Math.max(most, logits[i]);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - most);
  return Math.log(sum) + most - logits[id];
}

/** Nats of window `w`: each of its ids is fed from an empty cache, and each that follows one is scored. */
async function scoreWindow(session: LlamaSession, w: number, size = window): Promise<number> {
  const { vocabSize } = session.weights.config;
  const fed = ids.slice(w * size, (w + 1) * size);
  session.reset();
  const all = session.strategy === 'dense' ? await session.prefillAll(fed) : null;
  let sum = 0;
  for (let i = 0; i < size; i++) {
    const logits = all ? all.subarray(i * vocabSize, (i + 1) * vocabSize) : await session.next(fed[i]);
    sum += nats(logits, ids[w * size + i + 1]);
  }
  return sum;
}

/** Nats per token of the first windows: the reference's for all of them, the twin's for fewer. */
const twinWindows: number[] = [];
async function expectedNats(windows: number): Promise<number> {
  if (windows === WINDOWS) return heldout.nats_per_token;
  if (twinWindows.length < windows) {
    const twin = await LlamaTwin.load(checkpoint);
    for (let w = twinWindows.length; w < windows; w++) {
      const logits = twin.forward(ids.slice(w * window, (w + 1) * window));
      twinWindows.push(logits.reduce((sum, row, i) => sum + nats(row, ids[w * window + i + 1]), 0));
    }
  }
  return twinWindows.slice(0, windows).reduce((a, b) => a + b, 0) / (windows * window);
}

describeAdapters('the held-out text', (ctx) => {
  // SwiftShader takes 20 to 40 ms a token, so that each dtype would take it two to three minutes.
  const swift = ctx.adapter.name === 'swiftshader';

  async function withSession<T>(
    dtype: StoredDtype,
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<T>,
  ): Promise<T> {
    const weights = await loadWeights(ctx.device, checkpoint, { dtype });
    const session = new LlamaSession(ctx.device, weights, options);
    try {
      return await use(session);
    } finally {
      session.destroy();
      weights.destroy();
    }
  }

  it.each<[string, StoredDtype, Strategy, number]>([
    ['at once, stored as f32', 'f32', 'dense', swift ? 4 : WINDOWS],
    ['at once, stored as f16', 'f16', 'dense', swift ? 2 : WINDOWS],
    ['token by token through its active rows', 'f16', 'indexed', swift ? 1 : WINDOWS],
  ])(
    'costs the reference nats per token: %s',
    async (_name, dtype, strategy, windows) => {
      const found = await withSession(dtype, { strategy }, async (session) => {
        let sum = 0;
        for (let w = 0; w < windows; w++) sum += await scoreWindow(session, w);
        return sum / (windows * window);
      });
      const expected = await expectedNats(windows);
      // Ten times as strict as the 0.2 % that the model's README asks for.
      expect(Math.abs(found - expected) / expected).toBeLessThan(2e-4);
    },
    240_000,
  );

  /** Nats per token of the first windows, stored as f32. */
  let wide: number | undefined;

  // bf16 keeps 8 bits of each weight, as q8 nearly does.
  it.each<[StoredDtype, Strategy, number]>([
    ['bf16', 'dense', 0.005],
    ['q8', 'dense', 0.005],
    ['q8', 'indexed', 0.005],
    ['q4', 'dense', 0.03],
    ['q4', 'indexed', 0.03],
  ])(
    'stored as %s, %s, keeps the perplexity of f32 within %d',
    async (dtype, strategy, allowed) => {
      const windows = swift ? 1 : 4;
      const score = (as: StoredDtype, by: Strategy) =>
        withSession(as, { strategy: by }, async (session) => {
          let sum = 0;
          for (let w = 0; w < windows; w++) sum += await scoreWindow(session, w);
          return sum / (windows * window);
        });
      wide ??= await score('f32', 'dense');
      expect(Math.abs(Math.exp((await score(dtype, strategy)) - wide) - 1)).toBeLessThan(allowed);
    },
    240_000,
  );

  it.each<Strategy>(['dense', 'paired'])('is what perplexity() says: %s', async (strategy) => {
    await withSession('f32', { strategy }, async (session) => {
      const size = 24;
      const expected =
        ((await scoreWindow(session, 0, size)) + (await scoreWindow(session, 1, size))) / (2 * size);
      const { natsPerToken, tokens } = await perplexity(session, ids, { window: size, tokens: 2 * size });
      expect(tokens).toBe(2 * size);
      expect(natsPerToken).toBeCloseTo(expected, 5);
    });
  });
});
