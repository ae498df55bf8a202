/** Tokens made one after the other without the CPU: the same as when each one's logits are read. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NonFiniteError, OptionError, RowError, ShapeError } from '../../../src/errors.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { type DecodeRun, generate } from '../../../src/llama/generate.js';
import { MOST_TOKENS } from '../../../src/llama/graph.js';
import { Sampler } from '../../../src/llama/sample.js';
import { LlamaSession, type StepStats } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { argmax } from '../../support/llama-twin.js';
import { SMALL_CONTEXT as CONTEXT, smallModel } from '../../support/make-model.js';
import { writeMemory } from '../../support/read-memory.js';

const PROMPT = [3, 1, 4, 1, 5, 9];
const checkpoint: Checkpoint = await openCheckpoint(smallModel());
const { vocabSize } = checkpoint.config;

describeAdapters('greedy', (ctx) => {
  let weights: LlamaWeights;
  beforeAll(async () => {
    weights = await loadWeights(ctx.device, checkpoint);
  });
  afterAll(() => weights.destroy());

  /** Token by token, each one's logits read: the first after the prompt, then `count` more. */
  async function singly(session: LlamaSession, count: number) {
    const tokens = [argmax(await session.prefill(PROMPT))];
    const active: StepStats['active'][] = [];
    for (let i = 0; i < count; i++) {
      tokens.push(argmax(await session.next(tokens[i])));
      active.push(session.lastStep.active);
    }
    return { tokens, active };
  }

  it.each(['dense', 'indexed', 'auto', 'repack', 'paired'] as const)(
    'makes the tokens and counts of single steps: %s',
    async (strategy) => {
      const session = new LlamaSession(ctx.device, weights, { strategy });
      try {
        const want = await singly(session, 1 + 5 + MOST_TOKENS);
        const logits = await session.next(want.tokens.at(-1) as number);
        session.reset();
        const tokens = [argmax(await session.prefill(PROMPT))];
        const steps: StepStats[] = [];
        for (const count of [1, 5, MOST_TOKENS]) {
          const run = await session.greedy(tokens.at(-1) as number, count);
          expect(run.tokens.length).toBe(count);
          tokens.push(...run.tokens);
          steps.push(...run.steps);
          expect(session.position).toBe(PROMPT.length + tokens.length - 1);
          expect(session.lastStep).toBe(run.steps[count - 1]);
        }
        expect(tokens).toEqual(want.tokens);
        // What auto keeps dense is counted as all rows, and which layers that are is decided between runs.
        if (strategy !== 'auto') expect(steps.map(({ active }) => active)).toEqual(want.active);
        const total = (what: 'submits' | 'readbacks') => steps.reduce((sum, step) => sum + step[what], 0);
        if (strategy !== 'repack')
          expect([total('submits'), total('readbacks')].map(Math.round)).toEqual([3, 3]);
        // Slots, and so the order of sums, depend on what came before.
        const after = await session.next(tokens.at(-1) as number);
        expect(largestDifference(after, logits)).toBeLessThan(5e-5);
      } finally {
        session.destroy();
      }
    },
  );

  // Dense: no gate is so near its threshold that another order of sums could turn a row off.
  it.each(['f32', 'f16', 'q8', 'q4'] as const)('makes the same tokens of textures: %s', async (dtype) => {
    const runs: { tokens: readonly number[]; logits: Float32Array }[] = [];
    for (const storage of ['buffer', 'texture'] as const) {
      const stored = await loadWeights(ctx.device, checkpoint, { dtype, storage });
      const session = new LlamaSession(ctx.device, stored, { strategy: 'dense' });
      try {
        for (const pool of [stored.head, stored.embedding, stored.layers[0].qkv, stored.layers[1].gate])
          expect(pool.field('weight').storage).toBe(storage);
        const logits = await session.prefill(PROMPT);
        const { tokens } = await session.greedy(argmax(logits), 12);
        runs.push({ tokens, logits: await session.next(tokens[11]) });
      } finally {
        session.destroy();
        stored.destroy();
      }
    }
    const [buffers, textures] = runs;
    expect(textures.tokens).toEqual(buffers.tokens);
    expect(largestDifference(textures.logits, buffers.logits)).toBeLessThan(1e-4);
  });

  it('refuses before any work', async () => {
    const session = new LlamaSession(ctx.device, weights, { strategy: 'indexed' });
    try {
      await session.prefill(PROMPT);
      for (const count of [0, -1, 1.5, MOST_TOKENS + 1, Number.NaN])
        await expect(session.greedy(1, count)).rejects.toBeInstanceOf(OptionError);
      await expect(session.greedy(vocabSize, 2)).rejects.toBeInstanceOf(RowError);
      await session.prefill(new Array<number>(CONTEXT - PROMPT.length - 3).fill(2));
      await expect(session.greedy(1, 4)).rejects.toBeInstanceOf(ShapeError);
      expect(session.position).toBe(CONTEXT - 3);
      expect((await session.greedy(1, 3)).tokens.length).toBe(3);
    } finally {
      session.destroy();
    }
  });

  it('names the place of logits that are not finite, and goes back', async () => {
    const spoilt = await loadWeights(ctx.device, checkpoint);
    const session = new LlamaSession(ctx.device, spoilt, { strategy: 'indexed' });
    try {
      await session.prefill(PROMPT);
      const [{ memory }] = spoilt.head.field('weight').shards;
      writeMemory(ctx.device, memory, Float32Array.of(Number.NaN, 0, 0, 0));
      const run = session.greedy(1, 4);
      await expect(run).rejects.toBeInstanceOf(NonFiniteError);
      await expect(run).rejects.toMatchObject({ details: { position: PROMPT.length } });
      expect(session.position).toBe(PROMPT.length);
    } finally {
      session.destroy();
      spoilt.destroy();
    }
  });

  it('generate stops at a stop id in the middle of a run, and has fed no more than was asked for', async () => {
    const session = new LlamaSession(ctx.device, weights, { strategy: 'indexed' });
    try {
      const { tokens: want } = await singly(session, 30);
      // The first token that did not come before it, some way in: runs have 1, 2, 4, 8 tokens.
      const stop = want.findIndex((id, i) => i > 3 && !want.slice(0, i).includes(id));
      expect(stop).toBeGreaterThan(3);
      const seen: number[] = [];
      const options = { promptIds: PROMPT, sampler: new Sampler(), onToken: (id: number) => seen.push(id) };
      session.reset();
      const stopped = await generate(session, { ...options, maxTokens: 30, stopIds: [want[stop]] });
      expect(stopped.tokens).toEqual(want.slice(0, stop));
      expect(seen).toEqual(stopped.tokens);
      expect(stopped.stats.stoppedBy).toBe('end');
      expect(session.position).toBe(PROMPT.length + stop);
      session.reset();
      const runs: number[] = [];
      const given: number[] = [];
      const onRun = async ({ tokens, steps }: DecodeRun) => {
        expect(steps.length).toBe(tokens.length);
        runs.push(...tokens);
        // When a run is told of, its tokens have been given out, and none after it.
        given.push(seen.length - stopped.tokens.length);
        await Promise.resolve();
        expect(seen.length - stopped.tokens.length).toBe(1 + runs.length);
      };
      const whole = await generate(session, { ...options, maxTokens: 30, stopIds: [], onRun });
      expect(whole.tokens).toEqual(want.slice(0, 30));
      expect(runs).toEqual(want.slice(1, 30));
      expect(given.at(-1)).toBe(30);
      expect(session.position).toBe(PROMPT.length + 29);
      session.reset();
      const full = await generate(session, { ...options, maxTokens: 1000, stopIds: [] });
      expect(full.stats.stoppedBy).toBe('context');
      expect(session.position).toBe(CONTEXT);
      expect(full.tokens.length).toBe(CONTEXT - PROMPT.length + 1);
    } finally {
      session.destroy();
    }
  });
});
