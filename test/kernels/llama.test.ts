/** embed, rms_norm and rope; attention.test.ts has attention. */
import { describe, expect, it } from 'vitest';
import { embed as embedTwin } from '../../shaders/embed.js';
import { rmsNorm as rmsNormTwin } from '../../shaders/rms_norm.js';
import { rope as ropeTwin } from '../../shaders/rope.js';
import { f32Bits, roundUp } from '../../src/gpu/buffers.js';
import { activationStride } from '../../src/gpu/layout.js';
import { embed, rmsNorm, rope } from '../../src/llama/kernels.js';
import { unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes } from './compare.js';
import { rowParams, rowShape, shardsOf, spread, storeRows, useLab } from './lab.js';
import { randomValues, source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const embeds = pairwise(
  {
    weights: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    storage: ['buffer', 'texture'],
    WORKGROUP: [16, 64, 128],
    K: [1, 5, 20, 77, 600],
    batch: [1, 3, 9],
    shards: [1, 3],
    gridBatch: [0, 2],
    // Whether what the first layer reads, times its norm's weight, is left as well.
    next: ['none', 'scaled'],
  } as const,
  source(9),
);

describeAdapters('embed', (ctx) => {
  embeds.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { weights, K, batch, WORKGROUP } = one;
        const N = 30;
        const random = source(seed);
        const given = randomValues(random, N * K);
        const E = stored(given, K, weights);
        const tokens = Uint32Array.from({ length: batch + one.gridBatch }, () => Math.floor(random() * N));
        // As the model lays x out; what lies beyond K is made zero from the row's padding, as far as lanes reach.
        const xStride = activationStride(K);
        const shape = rowShape(K, weights);
        const { dtype, quads } = unitsOf(weights, 'vector', K, 'f32', one.storage).slots;
        const written = shape.dotVectors * Number(quads) * 4;
        const nextNorm = randomValues(random, xStride);
        const x = lab.poisoned((batch + one.gridBatch) * xStride);
        const scaled = lab.poisoned((batch + one.gridBatch) * xStride);
        const outs = { x, scaled, next_norm: lab.buffer(nextNorm) };
        const tokenBuffer = lab.buffer(tokens);
        lab.run(
          ...shardsOf(N, one.shards).map(({ base, rows }) => {
            const here = Array.from({ length: rows }, (_, i) => base + i);
            return {
              table: embed,
              variant: { slots: { dtype, quads, next: one.next }, constants: { WORKGROUP } },
              params: rowParams({ rows, base, ...shape, xStride: xStride / 4 }),
              step: [batch],
              buffers: {
                weights: lab.rows(one.storage, storeRows([given], K, here, weights)),
                tokens: tokenBuffer,
                ...outs,
              },
              grid: [Math.ceil(shape.dotVectors / WORKGROUP), batch + one.gridBatch, 1] as const,
            };
          }),
        );
        const expected = new Expected((batch + one.gridBatch) * xStride);
        const want = embedTwin(E, K, tokens.subarray(0, batch));
        // Widening is exact.
        expected.setRows(want, undefined, K, xStride);
        for (let b = 0; b < batch; b++) for (let c = K; c < written; c++) expected.set(b * xStride + c, 0);
        expected.check(await lab.read(x));
        if (one.next === 'none') return;
        const got = new Float32Array((await lab.read(x)).buffer);
        const wantScaled = new Expected((batch + one.gridBatch) * xStride);
        for (let b = 0; b < batch; b++) {
          for (let c = 0; c < written; c++)
            wantScaled.set(b * xStride + c, Math.fround(got[b * xStride + c] * nextNorm[c]));
        }
        wantScaled.check(await lab.read(scaled));
      }),
    );
  });
});

const norms = pairwise(
  {
    WORKGROUP: [16, 64, 128],
    K: [1, 20, 77, 600],
    batch: [1, 3],
    eps: [1e-5, 1e-2],
    scale: [1e-3, 1, 1e3],
  } as const,
  source(10),
);

describeAdapters('rms_norm', (ctx) => {
  norms.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { K, batch, eps, WORKGROUP } = one;
        const random = source(seed);
        const x = randomValues(random, batch * K).map((v) => v * one.scale);
        const weight = randomValues(random, K);
        const stride = K + 5;
        const out = lab.poisoned(batch * stride);
        lab.run({
          table: rmsNorm,
          variant: { constants: { WORKGROUP } },
          params: [K, stride, f32Bits(eps)],
          buffers: { x: lab.buffer(spread(x, K, stride, Number.NaN)), weight: lab.buffer(weight), out },
          grid: [batch, 1, 1],
        });
        const want = rmsNormTwin(x, weight, eps);
        new Expected(batch * stride).setRows(want, sizes(want), K, stride).check(await lab.read(out));
      }),
    );
  });
});

const frequenciesOf = (half: number) => Float64Array.from({ length: half }, (_, d) => 10_000 ** (-d / half));

const ropes = pairwise(
  {
    WORKGROUP: [8, 16, 64, 128],
    heads: ['4/4', '4/2', '6/1'],
    half: [1, 10, 32, 40],
    batch: [1, 3],
    position: [0, 1, 63, 900],
    gridBatch: [0, 2],
  } as const,
  source(11),
);

describeAdapters('rope', (ctx) => {
  ropes.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { half, batch, position, WORKGROUP } = one;
        const [heads, kvHeads] = one.heads.split('/').map(Number);
        const dim = 2 * half;
        const all = heads + 2 * kvHeads;
        const width = all * dim;
        const stride = width + 4;
        const positions = position + batch + 2;
        const qkv = randomValues(source(seed), (batch + one.gridBatch) * width);
        const frequencies = frequenciesOf(half);
        const turns = new Float32Array(positions * dim);
        for (let p = 0; p < positions; p++) {
          frequencies.forEach((frequency, d) => {
            turns[p * dim + 2 * d] = Math.cos(p * frequency);
            turns[p * dim + 2 * d + 1] = Math.sin(p * frequency);
          });
        }
        const qkvBuffer = lab.buffer(spread(qkv, width, stride, Number.NaN));
        const cachedDim = roundUp(dim, 4);
        const cache = positions * kvHeads * cachedDim;
        const keys = lab.poisoned(cache);
        const values = lab.poisoned(cache);
        lab.run({
          table: rope,
          variant: { constants: { WORKGROUP } },
          params: [heads, kvHeads, half, stride, cachedDim],
          step: [batch, position],
          buffers: { turns: lab.buffer(turns), qkv: qkvBuffer, keys, values },
          grid: [Math.ceil((all * half) / WORKGROUP), batch + one.gridBatch, 1],
        });

        // q is turned in place; the rest of qkv stays.
        const after = new Float32Array((await lab.read(qkvBuffer)).buffer);
        const wantKeys = new Expected(cache);
        const wantValues = new Expected(cache);
        for (let b = 0; b < batch + one.gridBatch; b++) {
          const token = qkv.subarray(b * width, (b + 1) * width);
          const turned = ropeTwin(token, position + b, frequencies);
          for (let c = 0; c < width; c++) {
            const got = after[b * stride + c];
            const pair = Math.abs(token[c]) + Math.abs(token[Math.floor(c / dim) * dim + ((c + half) % dim)]);
            if (b >= batch || c >= heads * dim) expect(got).toBe(token[c]);
            else expect(Math.abs(got - turned[c])).toBeLessThanOrEqual(1e-5 * pair);
            // Which cached head, keys' first and then values', and which of its dimensions.
            const head = Math.floor(c / dim) - heads;
            if (b >= batch || head < 0) continue;
            const at = ((position + b) * kvHeads + (head % kvHeads)) * cachedDim + (c % dim);
            if (head < kvHeads) wantKeys.set(at, turned[c], pair);
            else wantValues.set(at, token[c]);
          }
          for (let c = width; c < stride; c++) expect(after[b * stride + c]).toBeNaN();
        }
        wantKeys.check(await lab.read(keys));
        wantValues.check(await lab.read(values));
      }),
    );
  });
});

describe("the twin's rope", () => {
  const frequencies = frequenciesOf(8);
  const x = randomValues(source(13), 16);
  const y = randomValues(source(14), 16);
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((s, v, i) => s + v * b[i], 0);

  it('leaves position 0 as it is', () => {
    expect([...ropeTwin(x, 0, frequencies)]).toEqual([...x]);
  });

  it('makes a dot product depend on the distance of two positions alone', () => {
    const at = (p: number, q: number) => dot(ropeTwin(x, p, frequencies), ropeTwin(y, q, frequencies));
    expect(at(105, 100)).toBeCloseTo(at(5, 0), 12);
    expect(at(7, 100)).toBeCloseTo(at(0, 93), 12);
    expect(at(5, 0)).not.toBeCloseTo(at(0, 5), 3);
  });
});
