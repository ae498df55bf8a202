/** The CPU twin against the shipped model's reference, which an independent implementation wrote. */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Checkpoint, openCheckpoint } from '../../src/llama/checkpoint.js';
import { Sampler } from '../../src/llama/sample.js';
import { argmax, erf, LlamaTwin } from '../support/llama-twin.js';
import { type MakeModelOptions, makeModel } from '../support/make-model.js';
import { NodeFolder, STATESMAN } from './node-folder.js';

interface Reference {
  prompts: {
    prompt: string;
    prompt_ids: number[];
    tokens: number[];
    top_logits_after_prompt: [number, number][];
  }[];
}

const made = async (options: MakeModelOptions) => LlamaTwin.load(await openCheckpoint(makeModel(options)));
const largestDifference = (a: Float64Array, b: Float64Array) =>
  Math.max(...a.map((v, i) => Math.abs(v - b[i])));

describe('on the shipped model', () => {
  let checkpoint: Checkpoint;
  let twin: LlamaTwin;
  let reference: Reference;

  beforeAll(async () => {
    checkpoint = await openCheckpoint(new NodeFolder(STATESMAN));
    twin = await LlamaTwin.load(checkpoint);
    reference = JSON.parse(await readFile(`${STATESMAN}reference.json`, 'utf8')) as Reference;
  });

  it.each([0, 1])('gives the logits and the greedy tokens of prompt %i', (which) => {
    const { prompt_ids, tokens, top_logits_after_prompt } = reference.prompts[which];
    let logits = twin.forward(prompt_ids).at(-1)!;
    for (const [id, value] of top_logits_after_prompt)
      expect(Math.abs(logits[id] - value)).toBeLessThan(1e-4);
    expect(argmax(logits)).toBe(top_logits_after_prompt[0][0]);
    const greedy = new Sampler();
    const found: number[] = [];
    while (found.length < tokens.length) {
      found.push(greedy.pick(Float32Array.from(logits)));
      logits = twin.next(found.at(-1)!);
    }
    expect(found).toEqual(tokens);
  });

  it('has sparse gates: a threshold of 0 changes nothing, a larger one does', async () => {
    const ids = reference.prompts[0].prompt_ids;
    const zero = await LlamaTwin.load(checkpoint, { threshold: [0, 0, 0, 0] });
    expect(zero.forward(ids)).toEqual(twin.forward(ids));
    const some = await LlamaTwin.load(checkpoint, { threshold: [0, 0.1, 0, 0] });
    expect(largestDifference(some.forward(ids).at(-1)!, twin.forward(ids).at(-1)!)).toBeGreaterThan(1e-6);
  });
});

describe('on made models', () => {
  const ids = [3, 1, 4, 1, 5];

  it('forgets at forward and goes on at next', async () => {
    const twin = await made({});
    const all = twin.forward(ids);
    twin.forward(ids.slice(0, 4));
    expect(twin.next(ids[4])).toEqual(all[4]);
    expect(twin.forward(ids)).toEqual(all);
  });

  it.each<[string, MakeModelOptions]>([
    [
      'silu, GQA, odd sizes',
      { hidden: 20, intermediate: 37, heads: 4, kvHeads: 2, headDim: 6, dtype: 'f16' },
    ],
    ['gelu, biases, tied', { act: 'gelu', attentionBias: true, mlpBias: true, tied: true, dtype: 'bf16' }],
    ['gelu_tanh, sharded', { act: 'gelu_new', sharded: true, layers: 3 }],
    ['linear rope', { config: { rope_scaling: { type: 'linear', factor: 2 } } }],
  ])('gives finite logits of some size: %s', async (_name, options) => {
    const logits = (await made(options)).forward(ids).at(-1)!;
    expect(logits.length).toBe(32);
    expect(logits.every(Number.isFinite)).toBe(true);
    expect(Math.max(...logits)).toBeGreaterThan(0.1);
    expect(Math.max(...logits)).toBeLessThan(100);
  });

  it('makes the same model from the same seed, another from another', async () => {
    const [a, b, c] = await Promise.all([made({ seed: 2 }), made({ seed: 2 }), made({ seed: 3 })]);
    expect(a.forward(ids)).toEqual(b.forward(ids));
    expect(a.forward(ids)).not.toEqual(c.forward(ids));
  });

  it('knows erf', () => {
    // Abramowitz and Stegun, table 7.1.
    expect(erf(0)).toBe(0);
    expect(erf(0.5)).toBeCloseTo(0.5204998778, 10);
    expect(erf(-1)).toBeCloseTo(-0.8427007929, 10);
    expect(erf(2)).toBeCloseTo(0.995322265, 9);
    expect(erf(5.9)).toBeCloseTo(1, 14);
    expect(erf(-9)).toBe(-1);
  });
});
