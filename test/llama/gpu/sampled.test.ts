/** Tokens drawn one after the other without the CPU: those that `Sampler` picks from each one's logits. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NonFiniteError } from '../../../src/errors.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { generate } from '../../../src/llama/generate.js';
import { Sampler, type SamplerOptions } from '../../../src/llama/sample.js';
import { LlamaSession, type SessionOptions, type StepStats } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { smallModel } from '../../support/make-model.js';
import { writeMemory } from '../../support/read-memory.js';

const PROMPT = [3, 1, 4, 1, 5, 9];
const COUNTS = [1, 5, 16];
const TOTAL = COUNTS.reduce((a, b) => a + b);
const HOW: SamplerOptions = { temperature: 0.8, topK: 12, topP: 0.95, seed: 5 };
const checkpoint: Checkpoint = await openCheckpoint(smallModel());

describeAdapters('sampled', (ctx) => {
  let weights: LlamaWeights;
  let few: LlamaWeights;
  beforeAll(async () => {
    weights = await loadWeights(ctx.device, checkpoint);
    few = await loadWeights(ctx.device, checkpoint, { budget: { share: 0.5 } });
  });
  afterAll(() => {
    weights.destroy();
    few.destroy();
  });

  async function withSession(
    from: LlamaWeights,
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<void>,
  ): Promise<void> {
    const session = new LlamaSession(ctx.device, from, options);
    try {
      await use(session);
    } finally {
      session.destroy();
    }
  }

  /** After PROMPT: each one's logits come to the CPU. */
  async function singly(session: LlamaSession, count: number, sampler: Sampler): Promise<number[]> {
    session.reset();
    const tokens = [sampler.pick(await session.prefill(PROMPT))];
    for (let i = 0; i < count; i++) tokens.push(sampler.pick(await session.next(tokens[i])));
    return tokens;
  }

  async function inRuns(session: LlamaSession, sampler: Sampler) {
    session.reset();
    const tokens = [sampler.pick(await session.prefill(PROMPT))];
    const steps: StepStats[] = [];
    for (const count of COUNTS) {
      const run = await session.follow(tokens.at(-1) as number, count, sampler);
      tokens.push(...run.tokens);
      steps.push(...run.steps);
    }
    return { tokens, steps };
  }

  it.each(['dense', 'indexed', 'repack', 'paired'] as const)(
    'makes the tokens of single steps: %s',
    (strategy) =>
      withSession(weights, { strategy }, async (session) => {
        for (const how of [HOW, { temperature: 1.5, seed: 1 }, { temperature: 1, topP: 0.8, seed: 2 }]) {
          const want = await singly(session, TOTAL, new Sampler(how));
          const { tokens, steps } = await inRuns(session, new Sampler(how));
          expect(tokens).toEqual(want);
          expect(new Set(tokens).size).toBeGreaterThan(4);
          const readbacks = steps.reduce((sum, step) => sum + step.readbacks, 0);
          if (strategy !== 'repack') expect(Math.round(readbacks)).toBe(COUNTS.length);
        }
      }),
  );

  it('draws the same again for a token that is redone', async () => {
    // So few slots that some tokens do not fit.
    await withSession(weights, { strategy: 'paired' }, async (all) => {
      const want = await inRuns(all, new Sampler(HOW));
      const most = Math.max(...want.steps.flatMap(({ active }) => active as number[]));
      await withSession(weights, { strategy: 'paired', slabRows: most - 2 }, async (session) => {
        const { tokens, steps } = await inRuns(session, new Sampler(HOW));
        expect(tokens).toEqual(want.tokens);
        const redone = steps.filter((step) => step.redone).length;
        expect(redone).toBeGreaterThan(0);
        expect(redone).toBeLessThan(TOTAL);
      });
    });
  });

  it('goes on reproducibly after a stop in the middle of a run', () =>
    withSession(weights, { strategy: 'indexed' }, async (session) => {
      const want = await singly(session, 30, new Sampler(HOW));
      const stop = want.findIndex((id, i) => i > 3 && !want.slice(0, i).includes(id));
      expect(stop).toBeGreaterThan(3);
      session.reset();
      const sampler = new Sampler(HOW);
      const options = { promptIds: PROMPT, sampler, maxTokens: 30 };
      const { tokens } = await generate(session, { ...options, stopIds: [want[stop]] });
      expect(tokens).toEqual(want.slice(0, stop));
      // The words of tokens that were made beyond it are still to come.
      const other = new Sampler(HOW);
      other.ahead(stop + 1);
      other.take(stop + 1);
      expect(sampler.ahead(8)).toEqual(other.ahead(8));
    }));

  it.each([
    ['repack', {}],
    ['paired', { planOn: 'host' }],
    ['paired', { slabRows: 1, planOn: 'host' }],
    ['a budget', {}],
  ] as const)('a step of a run fails: session and sampler go back to its start (%s, %o)', (how, options) => {
    const [from, strategy] = how === 'a budget' ? [few, undefined] : [weights, how];
    return withSession(from, { strategy, ...options }, async (session) => {
      const sampler = new Sampler(HOW);
      const run = () => session.follow(7, 6, sampler);
      await session.prefill(PROMPT);
      if ('slabRows' in options) {
        await expect(run()).rejects.toThrow(/do not fit|slots/);
        expect(session.position).toBe(PROMPT.length);
        return;
      }
      const { tokens: want } = await run();
      const words = sampler.ahead(1);
      sampler.giveBack(6);
      session.reset(PROMPT.length);
      let masks = 0;
      session.onMask = () => {
        if (++masks > 5) throw new Error('seen enough');
      };
      await expect(run()).rejects.toThrow('seen enough');
      expect(session.position).toBe(PROMPT.length);
      session.onMask = null;
      expect((await run()).tokens).toEqual(want);
      expect(sampler.ahead(1)).toEqual(words);
    });
  });

  it.each(['indexed', 'paired', 'repack'] as const)('logits that are not finite: %s', async (strategy) => {
    const spoilt = await loadWeights(ctx.device, checkpoint);
    await withSession(spoilt, { strategy }, async (session) => {
      await session.prefill(PROMPT);
      const [{ memory }] = spoilt.head.field('weight').shards;
      writeMemory(ctx.device, memory, Float32Array.of(Number.NaN, 0, 0, 0));
      const sampler = new Sampler(HOW);
      for (const given of [sampler, undefined])
        await expect(session.follow(1, 4, given)).rejects.toBeInstanceOf(NonFiniteError);
      expect(session.position).toBe(PROMPT.length);
      expect(sampler.ahead(2)).toEqual(new Sampler(HOW).ahead(2));
    });
    spoilt.destroy();
  });
});
