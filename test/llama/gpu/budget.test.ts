/** A model whose up and down rows are not on the device, a few of them excepted: the same tokens. */
import { describe, expect, it } from 'vitest';
import { OptionError, PoolError } from '../../../src/errors.js';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import { MemorySource, type ModelFolder } from '../../../src/io/byte-source.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { convertModel } from '../../../src/llama/convert.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { estimateBytes, type LoadOptions, loadWeights, mlpRows } from '../../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../../src/node/commands/start.js';
import { DiskFolder } from '../../../src/node/model-folder.js';
import { openTokenizer } from '../../../src/node/text.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { argmax, LlamaTwin } from '../../support/llama-twin.js';
import { makeModel } from '../../support/make-model.js';
import { MemorySink } from '../../support/memory-sink.js';

const ALLOWED = 5e-5;
const made = makeModel({
  act: 'relu',
  hidden: 20,
  intermediate: 70,
  layers: 3,
  heads: 4,
  kvHeads: 2,
  headDim: 10,
  mlpBias: true,
  maxPositions: 64,
  seed: 3,
});
const checkpoint = await openCheckpoint(made);
const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
const MORE = [8, 9, 7, 9, 3, 2];
const expected = (await (await LlamaTwin.load(checkpoint)).forward([...PROMPT, ...MORE])).slice(
  PROMPT.length - 1,
);
const all = mlpRows(checkpoint.config, 'f32');
/** One row of each layer. */
const LEAST = { bytes: all.layers * all.rowBytes };

describeAdapters('a model under a budget', (ctx) => {
  async function withSession<T>(
    from: Checkpoint,
    load: LoadOptions,
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<T>,
  ): Promise<T> {
    const before = gpuBytes(ctx.device);
    const weights = await loadWeights(ctx.device, from, load);
    const session = new LlamaSession(ctx.device, weights, { prefillChunk: 8, ...options });
    try {
      return await use(session);
    } finally {
      session.destroy();
      weights.destroy();
      expect(gpuBytes(ctx.device), 'everything is given back').toBe(before);
    }
  }

  async function check(session: LlamaSession): Promise<void> {
    const found = [await session.prefill(PROMPT)];
    for (const id of MORE) found.push(await session.next(id));
    for (const [i, logits] of found.entries())
      expect(largestDifference(logits, expected[i]), `token ${i}`).toBeLessThan(ALLOWED);
  }

  it.each([
    ['a row of each layer', LEAST],
    ['25 %', { share: 0.25 }],
    ['all', { share: 1 }],
  ] as const)('of %s computes what the twin does', (_, budget) =>
    withSession(checkpoint, { budget }, {}, async (session) => {
      await check(session);
      const { updates, active } = session.lastStep;
      const [slots] = session.weights.slots as number[];
      expect(updates.map(({ residency }) => residency?.pieces)).toEqual(
        active?.map((m) => Math.max(1, Math.ceil(m / slots))),
      );
    }),
  );

  it.each(['dense', 'repack', 'paired'] as const)('computes the same by %s', (strategy) =>
    withSession(checkpoint, { budget: { share: 0.4 } }, { strategy }, async (session) => {
      await check(session);
      const { updates } = session.lastStep;
      for (const { active, writes, residency } of updates) {
        expect(residency?.hits).toBe(active - writes);
        if (strategy === 'repack') expect(writes).toBe(active);
        if (strategy === 'dense') expect(active).toBe(70);
      }
    }),
  );
});
