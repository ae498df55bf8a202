/** The shipped model on every adapter against what an independent float64 implementation wrote. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StoredDtype } from '../../../src/gpu/layout.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { LlamaSession } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters, IN_CHROMIUM } from '../../support/adapters.js';
import { activeRows, gateTwin } from '../../support/gate-twin.js';
import { argmax, LlamaTwin } from '../../support/llama-twin.js';
import { NodeFolder, readModelText, STATESMAN } from '../node-folder.js';
import { largestDifference } from '../../support/compare-logits.js';

interface Prompt {
  prompt: string;
  prompt_ids: number[];
  tokens: number[];
  top_logits_after_prompt: [number, number][];
}

/** demo/models/README.md: what f32 arithmetic may differ by. */
const ALLOWED = 5e-4;
const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
/** Steps whose active rows are compared with the twin's. */
const COUNTED = 6;

const reference = JSON.parse(await readModelText('reference.json')) as { prompts: Prompt[] };
const checkpoint: Checkpoint = await openCheckpoint(new NodeFolder(STATESMAN));

/** Logits of the whole first prompt and its continuation, in float64. */
let twinLogits: Float64Array[] | undefined;
async function expectedLogits(): Promise<Float64Array[]> {
  const { prompt_ids, tokens } = reference.prompts[0];
  twinLogits ??= (await LlamaTwin.load(checkpoint)).forward([...prompt_ids, ...tokens.slice(0, -1)]);
  return twinLogits;
}

/** How many rows of each layer have a gate above 0, for the first tokens after the prompt: [step][layer]. */
let twinCounts: number[][] | undefined;
async function expectedCounts(): Promise<number[][]> {
  if (twinCounts) return twinCounts;
  const { prompt_ids, tokens } = reference.prompts[0];
  const counts = Array.from({ length: COUNTED }, () => [] as number[]);
  for (let layer = 0; layer < checkpoint.config.layers; layer++) {
    const gates = await gateTwin(checkpoint, layer, [...prompt_ids, ...tokens.slice(0, COUNTED)]);
    for (let step = 0; step < COUNTED; step++)
      counts[step].push(activeRows(gates[prompt_ids.length + step]).length);
  }
  twinCounts = counts;
  return counts;
}

describeAdapters('the shipped model', (ctx) => {
  // In a tab one of them: each takes 20 s there.
  describe.each<StoredDtype>(IN_CHROMIUM ? ['f16'] : ['f32', 'f16'])('stored as %s', (dtype) => {
    let weights: LlamaWeights;
    beforeAll(async () => {
      weights = await loadWeights(ctx.device, checkpoint, { dtype });
    });
    afterAll(() => weights.destroy());

    it.each(STRATEGIES)('gives the reference tokens and logits: %s', async (strategy) => {
      // SwiftShader takes 10 to 20 times as long as lavapipe; two strategies there go through all prompts.
      const few = ctx.adapter.name === 'swiftshader' && (strategy === 'repack' || strategy === 'paired');
      const prompts = few ? reference.prompts.slice(0, 2) : reference.prompts;
      const session = new LlamaSession(ctx.device, weights, { strategy });
      try {
        for (const [which, { prompt, prompt_ids, tokens, top_logits_after_prompt }] of prompts.entries()) {
          session.reset();
          let logits = await session.prefill(prompt_ids);
          for (const [id, value] of top_logits_after_prompt)
            expect(Math.abs(logits[id] - value), `${prompt}: logit ${id}`).toBeLessThan(ALLOWED);
          const found: number[] = [];
          for (;;) {
            if (which === 0) {
              const expected = (await expectedLogits())[prompt_ids.length - 1 + found.length];
              expect(largestDifference(logits, expected), `token ${found.length}`).toBeLessThan(ALLOWED);
            }
            found.push(argmax(logits));
            if (found.length === tokens.length) break;
            logits = await session.next(found[found.length - 1]);
          }
          expect(found, prompt).toEqual(tokens);
        }
      } finally {
        session.destroy();
      }
    });

    it.each(['indexed', 'repack', 'paired'] as const)(
      'uses the rows whose gate is above 0: %s',
      async (strategy) => {
        const { prompt_ids, tokens } = reference.prompts[0];
        const session = new LlamaSession(ctx.device, weights, { strategy });
        await session.prefill(prompt_ids);
        const found: (number[] | null)[] = [];
        for (let step = 0; step < COUNTED; step++) {
          await session.next(tokens[step]);
          found.push(session.lastStep.active);
        }
        session.destroy();
        expect(found).toEqual(await expectedCounts());
        // Sparse, as its README says: what is left out is most of it.
        for (const active of found.flatMap((step) => step ?? []))
          expect(active).toBeLessThan(checkpoint.config.intermediateSize / 2);
      },
    );

    it('paired: the device makes the masks and plans that the host makes, at every step', async () => {
      const { prompt_ids, tokens } = reference.prompts[0];
      const [device, host] = (['device', 'host'] as const).map(
        (planOn) => new LlamaSession(ctx.device, weights, { strategy: 'paired', planOn }),
      );
      try {
        for (const session of [device, host]) await session.prefill(prompt_ids);
        const count = ctx.adapter.name === 'swiftshader' ? 5 : 15;
        for (let at = 0; at < 3 * count; at += count) {
          const [made, planned] = [
            await device.greedy(tokens[at], count),
            await host.greedy(tokens[at], count),
          ];
          expect(made.tokens).toEqual(planned.tokens);
          expect(made.tokens).toEqual(tokens.slice(at + 1, at + 1 + count));
          expect(made.steps.map(({ updates }) => updates)).toEqual(
            planned.steps.map(({ updates }) => updates),
          );
          // Nearly all rows are new, so that from the second run on they are multiplied on their way into the slabs.
          const total = (of: 'writes' | 'active') =>
            made.steps.flatMap(({ updates }) => updates).reduce((sum, update) => sum + update[of], 0);
          expect(total('writes') / total('active')).toBeGreaterThan(0.8);
        }
      } finally {
        device.destroy();
        host.destroy();
      }
    });
  });
});
