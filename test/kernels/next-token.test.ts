import { expect, it } from 'vitest';
import { nextToken as nextTokenTwin } from '../../shaders/next_token.js';
import { nextToken, NO_TOKEN } from '../../src/llama/kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { type Lab, poisoned, useLab } from './lab.js';
import { randomValues, source } from './make.js';

/** Runs the kernel over each of `logits` in turn, as decode steps would, and returns what it left. */
async function follow(lab: Lab, logits: readonly Float32Array[], WORKGROUP: number) {
  const next = lab.buffer(Uint32Array.of(1, 7, 0));
  const tokens = lab.buffer(Uint32Array.of(3, 4));
  const made = lab.poisoned(logits.length + 2);
  lab.run(
    ...logits.map((values) => ({
      table: nextToken,
      variant: { constants: { WORKGROUP } },
      params: [values.length],
      buffers: { next, logits: lab.buffer(values), tokens, made },
      grid: [1, 1, 1] as const,
    })),
  );
  return {
    next: [...(await lab.read(next))],
    tokens: [...(await lab.read(tokens))],
    made: [...(await lab.read(made))],
  };
}

describeAdapters('next_token', (ctx) => {
  for (const WORKGROUP of [4, 8, 64, 256]) {
    it(`finds the first of the largest, ${WORKGROUP} lanes`, () =>
      useLab(ctx.device, async (lab) => {
        const random = source(WORKGROUP);
        // Few different values, so that there are ties; sizes below, at and beyond the workgroup's.
        const logits = [1, 3, WORKGROUP, WORKGROUP + 1, 1000, 2048].map((vocab, i) =>
          randomValues(random, vocab).map((v) => (i % 2 ? v : Math.round(2 * v) - 9)),
        );
        const want = logits.map(nextTokenTwin);
        const { next, tokens, made } = await follow(lab, logits, WORKGROUP);
        expect(made).toEqual([...want, ...poisoned(2)]);
        expect(tokens).toEqual([want.at(-1), 4]);
        expect(next).toEqual([1, 7 + logits.length, logits.length]);
      }));
  }

  it('passes over -Infinity', () =>
    useLab(ctx.device, async (lab) => {
      const logits = new Float32Array(100).fill(Number.NEGATIVE_INFINITY);
      logits[61] = -3e38;
      expect((await follow(lab, [logits], 8)).made[0]).toBe(61);
    }));

  for (const [name, value] of [
    ['NaN', Number.NaN],
    ['Infinity', Number.POSITIVE_INFINITY],
  ] as const) {
    it(`gives no token for ${name}, nor after it`, () =>
      useLab(ctx.device, async (lab) => {
        const random = source(3);
        const logits = [randomValues(random, 50), randomValues(random, 50), randomValues(random, 50)];
        logits[1][17] = value;
        const { made } = await follow(lab, logits, 8);
        expect(made.slice(0, 3)).toEqual([nextTokenTwin(logits[0]), NO_TOKEN, NO_TOKEN]);
      }));
  }

  it('gives no token when all are -Infinity', () =>
    useLab(ctx.device, async (lab) => {
      expect((await follow(lab, [new Float32Array(9).fill(Number.NEGATIVE_INFINITY)], 4)).made[0]).toBe(
        NO_TOKEN,
      );
    }));
});
