/** Rows that are read, or guessed and fetched ahead, while text is made. */
import { expect, it } from 'vitest';
import { ModelFormatError, PoolError } from '../../../src/errors.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { convertModel } from '../../../src/llama/convert.js';
import { generate, summariseSteps } from '../../../src/llama/generate.js';
import { Sampler } from '../../../src/llama/sample.js';
import type { LlamaSession, SessionOptions, StepStats } from '../../../src/llama/session.js';
import type { LoadOptions } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { FaultySource, withRows } from '../../support/faulty-source.js';
import { type MakeModelOptions, makeModel, smallModel } from '../../support/make-model.js';
import { MemorySink } from '../../support/memory-sink.js';
import { argmax } from '../../support/llama-twin.js';
import { withSession as withSessionOn } from '../../support/with-session.js';

const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
const SMALL: MakeModelOptions = {
  act: 'relu',
  hidden: 20,
  intermediate: 70,
  layers: 3,
  heads: 4,
  kvHeads: 2,
  headDim: 10,
};

describeAdapters('rows on their way', (ctx) => {
  const withSession = <T>(
    from: Checkpoint,
    load: LoadOptions,
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<T>,
  ): Promise<T> => withSessionOn(ctx.device, from, load, options, use);

  /** Runs of four tokens; a run that fails is made again. */
  async function follow(session: LlamaSession, onError?: (error: unknown) => void) {
    const tokens = [argmax(await session.prefill(PROMPT))];
    const steps: StepStats[] = [];
    while (tokens.length < 24) {
      const position = session.position;
      try {
        const run = await session.greedy(tokens[tokens.length - 1], 4);
        expect(run.steps).toHaveLength(4);
        tokens.push(...run.tokens);
        steps.push(...run.steps);
      } catch (error) {
        if (!onError) throw error;
        onError(error);
        expect(session.position).toBe(position);
      }
    }
    return { tokens, steps };
  }

  async function stored(
    options?: MakeModelOptions,
  ): Promise<{ checkpoint: Checkpoint; source: FaultySource }> {
    const sink = new MemorySink();
    await convertModel(options ? makeModel(options) : smallModel(), sink, { dtype: 'f32' });
    const source = new FaultySource(sink.folder.files.get('rows.bin') as Uint8Array);
    return { checkpoint: await openCheckpoint(withRows(sink.folder, source)), source };
  }

  it('makes a run of tokens in one submit a layer, and none for the token', async () => {
    const { checkpoint } = await stored();
    const want = await withSession(checkpoint, {}, { strategy: 'indexed' }, (s) => follow(s));
    for (const share of [0.2, 1])
      await withSession(checkpoint, { budget: { share } }, {}, async (session) => {
        const { tokens, steps } = await follow(session);
        expect(tokens).toEqual(want.tokens);
        expect(session.position).toBe(PROMPT.length + tokens.length - 1);
        // Three layers, and the end of four tokens; where rows do not fit, submits between pieces.
        for (const step of steps) {
          expect(step.readbacks).toBe(3.25);
          if (share === 1) expect(step.submits).toBe(3.25);
          expect(step.active).toEqual(step.updates.map(({ active }) => active));
        }
      });
  });

  it.each([
    ['flipped', PoolError],
    ['short', ModelFormatError],
  ] as const)('makes the same tokens when blocks were %s now and then in mid-run', async (fault, kind) => {
    const { checkpoint, source } = await stored();
    const want = await withSession(checkpoint, {}, { strategy: 'indexed' }, (s) => follow(s));
    for (const prefetch of [false, true])
      await withSession(
        checkpoint,
        { budget: { share: 0.4 }, pool: 'file' },
        { residency: { prefetch } },
        async (session) => {
          await session.prefill(PROMPT);
          session.reset();
          source.fault = fault;
          let [good, errors] = [60, 0];
          source.after = good;
          const { tokens } = await follow(session, (error) => {
            errors++;
            expect(error).toBeInstanceOf(kind);
            good += 20;
            source.after = good;
          });
          source.fault = null;
          expect(tokens).toEqual(want.tokens);
          expect(errors).toBeGreaterThan(1);
        },
      );
  });

  it('ends a read that hangs when it is told to, with the tokens there are, and can go on', async () => {
    const { checkpoint, source } = await stored();
    const options = { promptIds: PROMPT, maxTokens: 24, stopIds: [], sampler: new Sampler() };
    await withSession(checkpoint, { budget: { share: 0.2 }, pool: 'file' }, {}, async (session) => {
      const whole = await generate(session, options);
      for (const after of [0, 9, 40]) {
        session.reset();
        source.fault = 'stuck';
        source.after = after;
        source.faults = 0;
        const controller = new AbortController();
        const ended = generate(session, { ...options, signal: controller.signal });
        while (source.faults === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        controller.abort();
        const { tokens, stats } = await ended;
        source.fault = null;
        expect(stats.stoppedBy).toBe('abort');
        expect(tokens.length).toBeLessThan(24);
        expect(tokens).toEqual(whole.tokens.slice(0, tokens.length));
      }
      session.reset();
      expect((await generate(session, options)).tokens).toEqual(whole.tokens);
    });
  });

  it.each(['host', 'file'] as const)('makes the same tokens with guesses, from %s', async (pool) => {
    const { checkpoint } = await stored();
    const load = { budget: { share: 0.5 }, pool };
    const want = await withSession(checkpoint, load, {}, (s) => follow(s));
    expect(want.steps.every(({ updates }) => updates.every(({ residency }) => !residency?.prefetched))).toBe(
      true,
    );
    // A ring of a few rows: a guess may be larger.
    for (const ringBytes of [undefined, 3 * 192])
      await withSession(checkpoint, load, { residency: { prefetch: true, ringBytes } }, async (session) => {
        const { tokens, steps } = await follow(session);
        expect(tokens).toEqual(want.tokens);
        const rates = summariseSteps(session.weights, 'paired', steps).residency?.prefetch;
        expect(rates?.guessedRows).toBeGreaterThan(0);
        for (const share of [rates?.usedShare, rates?.foundShare]) {
          expect(share).toBeGreaterThan(0);
          expect(share).toBeLessThanOrEqual(1);
        }
        for (const { updates } of steps)
          for (const { residency, active, writes } of updates) {
            const { guessed, used } = residency?.prefetched ?? { guessed: 0, used: 0 };
            expect(used).toBeLessThanOrEqual(guessed);
            expect((residency?.hits ?? 0) + writes).toBe(active + (pool === 'host' ? guessed - used : 0));
          }
        // The first layer's rows are never guessed.
        expect(steps.every(({ updates }) => !updates[0].residency?.prefetched)).toBe(true);
      });
  });

  it('guesses what the next layer uses, as far as the layers before it change nothing', async () => {
    const { checkpoint } = await stored({ ...SMALL, still: true, seed: 5 });
    await withSession(
      checkpoint,
      { budget: { share: 0.9 }, pool: 'file' },
      { residency: { prefetch: true, policy: 'exact' } },
      async (session) => {
        // With all of a text alike nothing would be missing.
        await session.prefill(PROMPT);
        const steps: StepStats[] = [];
        for (const id of [7, 8, 20, 11]) {
          await session.next(id);
          steps.push(session.lastStep);
        }
        const later = steps.flatMap(({ updates }) => updates.slice(1));
        const missing = later.reduce((sum, { writes }) => sum + writes, 0);
        const guessed = later.reduce((sum, { residency }) => sum + (residency?.prefetched?.guessed ?? 0), 0);
        const used = later.reduce((sum, { residency }) => sum + (residency?.prefetched?.used ?? 0), 0);
        expect(missing).toBeGreaterThan(0);
        expect({ guessed, used }).toEqual({ guessed: missing, used: missing });
      },
    );
  });
});
