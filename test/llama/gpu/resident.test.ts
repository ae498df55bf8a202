/** Paired with its masks, plans and copies made on the device: the tokens of dense, and the updates that the host plans. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { OptionError } from '../../../src/errors.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { LlamaSession, type SessionOptions, type StepStats } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { argmax } from '../../support/llama-twin.js';
import { makeModel } from '../../support/make-model.js';

const PROMPT = [3, 1, 4, 1, 5, 9];
const COUNTS = [1, 5, 16, 3];
const TOTAL = COUNTS.reduce((a, b) => a + b);
const checkpoint: Checkpoint = await openCheckpoint(
  makeModel({
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
  }),
);
const { layers } = checkpoint.config;

describeAdapters('paired on the device', (ctx) => {
  let weights: LlamaWeights;
  beforeAll(async () => {
    weights = await loadWeights(ctx.device, checkpoint);
  });
  afterAll(() => weights.destroy());

  /** The likeliest tokens after PROMPT, several to a submit. */
  async function run(options: SessionOptions): Promise<{ tokens: number[]; steps: StepStats[] }> {
    const session = new LlamaSession(ctx.device, weights, { prefillChunk: 8, ...options });
    try {
      const tokens = [argmax(await session.prefill(PROMPT))];
      const steps: StepStats[] = [];
      for (const count of COUNTS) {
        const made = await session.greedy(tokens.at(-1) as number, count);
        expect(made.tokens.length).toBe(count);
        expect(session.lastStep).toBe(made.steps.at(-1));
        tokens.push(...made.tokens);
        steps.push(...made.steps);
      }
      expect(session.position).toBe(PROMPT.length + TOTAL);
      return { tokens, steps };
    } finally {
      session.destroy();
    }
  }
  const total = (steps: readonly StepStats[], what: 'submits' | 'readbacks') =>
    Math.round(steps.reduce((sum, step) => sum + step[what], 0));

  it.each([
    { mode: 'exact' },
    { mode: 'threshold', thresholds: new Array<number>(layers).fill(0.05) },
  ] as SessionOptions[])('$mode: the tokens and the updates that the host plans', async (options) => {
    const device = await run({ strategy: 'paired', ...options });
    const host = await run({ strategy: 'paired', planOn: 'host', ...options });
    const dense = await run({ strategy: 'dense', ...options });
    expect(device.tokens).toEqual(dense.tokens);
    expect(host.tokens).toEqual(dense.tokens);
    for (const [i, step] of device.steps.entries()) {
      expect(step.active, `step ${i}`).toEqual(host.steps[i].active);
      expect(step.updates, `step ${i}`).toEqual(host.steps[i].updates);
      expect(step.redone).toBeUndefined();
    }
    expect(device.steps.flatMap(({ updates }) => updates).some(({ writes }) => writes > 0)).toBe(true);
    expect([total(device.steps, 'submits'), total(device.steps, 'readbacks')]).toEqual([4, 4]);
    expect(total(host.steps, 'readbacks')).toBe(TOTAL * (layers + 1));
  });

  it('one token at a time: one submit, one readback, the logits of dense', async () => {
    const [paired, dense] = (['paired', 'dense'] as const).map(
      (strategy) => new LlamaSession(ctx.device, weights, { strategy, prefillChunk: 8 }),
    );
    await paired.prefill(PROMPT);
    await dense.prefill(PROMPT);
    for (const id of [2, 6, 5, 3, 5]) {
      const [got, want] = [await paired.next(id), await dense.next(id)];
      expect(largestDifference(got, want)).toBeLessThan(5e-5);
      expect(paired.lastStep).toMatchObject({ submits: 1, readbacks: 1 });
      expect(paired.lastStep.updates.length).toBe(layers);
    }
    paired.destroy();
    dense.destroy();
  });

  it('a token that needs more rows than there are slots is done again, and said so', async () => {
    const dense = await run({ strategy: 'dense' });
    const free = await run({ strategy: 'paired' });
    const most = free.steps.map(({ active }) => Math.max(...(active as number[])));
    // Half of the tokens fit.
    const slabRows = [...most].sort((a, b) => a - b)[Math.floor(TOTAL / 2)];
    const tight = await run({ strategy: 'paired', slabRows });
    expect(tight.tokens).toEqual(dense.tokens);
    const late = most.map((rows) => rows > slabRows);
    expect(late).toContain(true);
    expect(late).toContain(false);
    expect(tight.steps.map(({ redone }) => redone !== undefined)).toEqual(late);
    for (const [i, { active, redone, updates }] of tight.steps.entries()) {
      const needed = free.steps[i].active as number[];
      expect(active, `step ${i}`).toEqual(needed);
      expect(updates.length).toBe(redone ? 0 : layers);
      // The layers after the first that did not fit had the wrong input, and may not have fitted either.
      if (redone) expect(redone[0]).toBe(needed.findIndex((rows) => rows > slabRows));
    }
    expect(total(tight.steps, 'submits')).toBeGreaterThan(total(free.steps, 'submits'));
  });

  it('done again, one token at a time', async () => {
    const session = new LlamaSession(ctx.device, weights, {
      strategy: 'paired',
      slabRows: 1,
      prefillChunk: 8,
    });
    const dense = new LlamaSession(ctx.device, weights, { strategy: 'dense', prefillChunk: 8 });
    await session.prefill(PROMPT);
    await dense.prefill(PROMPT);
    for (const id of [2, 6, 5]) {
      const [got, want] = [await session.next(id), await dense.next(id)];
      expect(largestDifference(got, want)).toBeLessThan(5e-5);
      expect(session.lastStep).toMatchObject({ submits: 2, readbacks: 2, updates: [] });
      expect(session.lastStep.redone?.[0]).toBe(0);
    }
    session.destroy();
    dense.destroy();
  });

  it('refuses another place to plan on, and slots that cannot be', () => {
    const make = (options: object) => () =>
      new LlamaSession(ctx.device, weights, { strategy: 'paired', ...options });
    expect(make({ planOn: 'gpu' })).toThrow(OptionError);
    for (const slabRows of [0, 71, 1.5]) expect(make({ slabRows })).toThrow(OptionError);
  });
});
