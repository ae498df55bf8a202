/** A model whose up and down rows are not on the device, a few of them excepted: the same tokens. */
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ModelFormatError, OptionError, PoolError } from '../../../src/errors.js';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { convertModel } from '../../../src/llama/convert.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { estimateBytes, type LoadOptions, loadWeights, mlpRows } from '../../../src/llama/weights.js';
import { DiskFolder } from '../../../src/node/model-folder.js';
import { openTokenizer } from '../../../src/node/text.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { FaultySource, withRows } from '../../support/faulty-source.js';
import { argmax, LlamaTwin } from '../../support/llama-twin.js';
import { makeModel } from '../../support/make-model.js';
import { MemorySink } from '../../support/memory-sink.js';
import { withSession as withSessionOn } from '../../support/with-session.js';

const SHIPPED = fileURLToPath(new URL('../../../demo/models/statesman', import.meta.url));
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
  const withSession = <T>(
    from: Checkpoint,
    load: LoadOptions,
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<T>,
  ): Promise<T> => withSessionOn(ctx.device, from, load, options, use);

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

  it.each([
    ['threshold', { mode: 'threshold', thresholds: [0.1, 0.3, 0.05] }],
    ['another policy', { residency: { policy: 'lru' } }],
    ['a ring of one row', { residency: { ringBytes: all.rowBytes } }],
  ] as const)('computes what a session with all rows on the device does: %s', async (_, options) => {
    const follow = (session: LlamaSession) => greedy(session, PROMPT, 12);
    const { residency, ...plain } = { residency: undefined, ...options };
    const want = await withSession(checkpoint, {}, { ...plain, strategy: 'paired' }, follow);
    const got = await withSession(checkpoint, { budget: { share: 0.3 } }, { ...plain, residency }, follow);
    expect(got).toEqual(want);
  });

  it('keeps to its budget and to what is said to come on top', async () => {
    const budget = { share: 0.25 };
    const ringBytes = 4 * all.rowBytes;
    // Textures are whole lines of 64 KiB each, which the estimate leaves out.
    const load = { budget, storage: 'buffer' } as const;
    await withSession(checkpoint, load, { residency: { ringBytes } }, async (session) => {
      const [slots] = session.weights.slots as number[];
      expect(slots * all.layers * all.rowBytes).toBeLessThanOrEqual(
        0.25 * all.rows * all.layers * all.rowBytes,
      );
      const estimate = estimateBytes(checkpoint.config, 'f32', session.weights.context, budget);
      const { embedding, attention, gate, norms, rotary } = estimate;
      const rest = embedding + attention + gate + norms + rotary;
      // Biases and padding of the small vectors.
      expect(Math.abs(session.weights.bytes - rest)).toBeLessThan(8192);
      await check(session);
      const held = session.bytes;
      await withSession(checkpoint, {}, { strategy: 'indexed' }, async (other) => {
        await check(other);
        // Their parts begin at multiples of 256; and what copies them is told the shapes.
        const lists = all.layers * (20 * slots + 1024);
        // Weighed against a session whose rows are elsewhere: cache and activations are the same, lists are not.
        const activations = other.bytes + 8192;
        expect(held).toBeLessThanOrEqual(activations + slots * all.layers * all.rowBytes + ringBytes + lists);
      });
      session.reset();
      await check(session);
      expect(session.bytes, 'nothing more for a second text').toBe(held);
    });
  });

  it.each([
    ['flipped', PoolError],
    ['short', ModelFormatError],
  ] as const)(
    'reads rows from a file, and goes on when a block that was %s is whole again',
    async (fault, kind) => {
      const { folder } = await converted();
      const source = new FaultySource(folder.files.get('rows.bin') as Uint8Array);
      const from = await openCheckpoint(withRows(folder, source));
      // So few rows that steps come in pieces: some faults strike between two of them.
      await withSession(from, { budget: { share: 0.2 }, pool: 'file' }, {}, async (session) => {
        source.fault = fault;
        await expect(session.prefill(PROMPT)).rejects.toBeInstanceOf(kind);
        source.fault = null;
        await check(session);
        session.reset();
        await session.prefill(PROMPT);
        let failures = 0;
        for (const [i, id] of MORE.entries()) {
          source.fault = fault;
          source.after = i;
          const outcome: unknown = await session.next(id).catch((error: unknown) => error);
          source.fault = null;
          if (!(outcome instanceof Float32Array)) {
            failures++;
            expect(outcome).toBeInstanceOf(kind);
            expect(session.position).toBe(PROMPT.length + i);
          }
          const logits = outcome instanceof Float32Array ? outcome : await session.next(id);
          expect(largestDifference(logits, expected[i + 1]), `token ${i}`).toBeLessThan(ALLOWED);
        }
        expect(failures).toBeGreaterThan(2);
      });
    },
  );

  it('says what it cannot do', async () => {
    const load = (options: LoadOptions) => loadWeights(ctx.device, checkpoint, options);
    await expect(load({ budget: { bytes: 1 } })).rejects.toThrow(/is the least/);
    await expect(load({ budget: LEAST, pool: 'file' })).rejects.toThrow(/pairslab convert/);
    await expect(load({ pool: 'file' })).rejects.toThrow(/needs a budget/);
    const weights = await load({ budget: LEAST });
    const before = gpuBytes(ctx.device);
    for (const options of [
      { strategy: 'indexed' },
      { residency: { policy: 'oldest' } },
      { residency: { ringBytes: 16 } },
    ] as const)
      expect(() => new LlamaSession(ctx.device, weights, options)).toThrow(OptionError);
    expect(gpuBytes(ctx.device)).toBe(before);
    weights.destroy();
  });

  if (ctx.adapter.name !== 'swiftshader') {
    it.each([0.25, 0.1])('generates the same text with the shipped model at %d', async (share) => {
      const folder = await DiskFolder.at(SHIPPED);
      const shipped = await openCheckpoint(folder);
      const ids = (await openTokenizer(folder)).encode('The state of the Union is');
      const follow = (session: LlamaSession) => greedy(session, ids, 48);
      const options = { prefillChunk: 64 };
      const want = await withSession(shipped, {}, { ...options, strategy: 'indexed' }, follow);
      const got = await withSession(shipped, { budget: { share } }, options, follow);
      expect(got).toEqual(want);
      await folder.close();
    });
  }
});

async function greedy(session: LlamaSession, prompt: ArrayLike<number>, count: number): Promise<number[]> {
  const made = [argmax(await session.prefill(prompt))];
  while (made.length < count) made.push(...(await session.greedy(made[made.length - 1], 4)).tokens);
  return made;
}

async function converted(): Promise<MemorySink> {
  const sink = new MemorySink();
  await convertModel(made, sink, { dtype: 'f32' });
  return sink;
}
