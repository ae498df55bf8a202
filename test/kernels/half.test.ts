/** What f16 arithmetic must keep that no tolerance shows: f32 sums, the norm before the rounding, whole vectors. */
import { expect, it } from 'vitest';
import { linear as twin } from '../../shaders/linear.js';
import { rmsNorm as normTwin } from '../../shaders/rms_norm.js';
import { OptionError } from '../../src/errors.js';
import { compose } from '../../src/gpu/kernel.js';
import { activationStride } from '../../src/gpu/layout.js';
import { gateUp } from '../../src/mlp/kernels.js';
import { modelDown as down, modelLinear as linear } from '../../src/mlp/model-kernels.js';
import { gateUpActive } from '../../src/mlp/threshold-kernels.js';
import { unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { checkWords, Expected, sizes } from './compare.js';
import { rowParams, rowShape, storeRows, useLab } from './lab.js';
import { checkF16, randomValues, source } from './make.js';

const ROWS = 8;
const half = (K: number) => unitsOf('f16', 'vector', K, 'f16');

interface Given {
  W: Float32Array;
  x: Float32Array;
  K: number;
  rows: number;
  tile?: string;
  /** What x was before the norm's weight: then the norm is left to the kernel. */
  norm?: { residual: Float32Array; eps: number };
}

/** W · x with f16 arithmetic, a lane a row. */
async function run(
  lab: Parameters<Parameters<typeof useLab>[1]>[0],
  given: Given,
): Promise<Uint32Array<ArrayBuffer>> {
  const { W, x, K, rows, tile = '4x1', norm } = given;
  const { slots, units } = half(K);
  const xStride = activationStride(K);
  const padded = (values: Float32Array) => {
    const all = new Float32Array(xStride);
    all.set(values);
    return lab.buffer(all);
  };
  const out = lab.poisoned(rows);
  const ids = Array.from({ length: rows }, (_, i) => i);
  lab.run({
    table: linear,
    variant: {
      slots: {
        ...slots,
        team: 'lane',
        tile,
        rows: 'dense',
        bias: 'none',
        activation: 'identity',
        put: 'store',
        norm: norm ? 'rms' : 'none',
      },
      constants: { WORKGROUP: 8, ROWS },
    },
    params: rowParams({
      rows,
      ...rowShape(K, 'f16'),
      units,
      xStride: xStride / 4,
      outStride: rows,
      norm: norm && { columns: K, eps: norm.eps },
    }),
    step: [1],
    buffers: {
      weights: lab.buffer(storeRows([W], K, ids, 'f16')),
      x: padded(x),
      ...(norm ? { residual: padded(norm.residual) } : {}),
      out,
    },
    grid: [Math.ceil(rows / ROWS), 1, 1],
  });
  return lab.read(out);
}

it('is a choice of the row kernels alone, for rows stored as f16 alone', () => {
  const { slots } = half(64);
  for (const table of [linear, gateUp, gateUpActive]) {
    const chosen = Object.fromEntries(
      Object.entries(table.slots).map(([slot, choices]) => [slot, Object.keys(choices)[0]]),
    );
    const code = compose(table, { slots: { ...chosen, ...slots } });
    expect(code.startsWith('enable f16;')).toBe(true);
    expect(code.match(/enable f16/g)).toHaveLength(1);
    expect(compose(table, { slots: { ...chosen, ...unitsOf('f16', 'vector', 64).slots } })).not.toMatch(
      /enable f16/,
    );
  }
  expect(down.slots.dtype).not.toHaveProperty(slots.dtype);
  for (const dtype of ['f32', 'bf16', 'q8', 'q4'] as const)
    expect(() => unitsOf(dtype, 'vector', 64, 'f16')).toThrow(OptionError);
});

describeAdapters('f16 arithmetic', (ctx) => {
  it.for(['1x1', '2x1', '4x1'])('is exact where f16 is, tile %s', (tile, { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkF16('f16', ctx, skip);
      // Quarters below 2: products are sixteenths, and four of them fit f16's 11 bits.
      const quarters = (random: () => number, length: number) =>
        Float32Array.from({ length }, () => Math.floor(random() * 15 - 7) / 4);
      for (const K of [1, 7, 8, 77, 600]) {
        const random = source(K);
        const [W, x] = [quarters(random, 19 * K), quarters(random, K)];
        const got = await run(lab, { W, x, K, rows: 19, tile });
        checkWords(got, new Uint32Array(Float32Array.from(twin({ W, x, K })).buffer), `K ${K}`);
      }
    }),
  );

  it('adds up in f32', ({ skip }) =>
    useLab(ctx.device, async (lab) => {
      checkF16('f16', ctx, skip);
      // In f16, ones stop adding up at 2048, and 70,000 is infinite.
      for (const [K, value] of [
        [4099, 1],
        [7000, 10],
      ]) {
        const ones = new Float32Array(K).fill(1);
        const got = await run(lab, { W: ones, x: new Float32Array(K).fill(value), K, rows: 1 });
        expect(new Float32Array(got.buffer)[0]).toBe(K * value);
      }
    }));

  it.for([1e-7, 1, 1e6])('takes a residual stream of size %d by its norm', (size, { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkF16('f16', ctx, skip);
      // As it is, the stream would be zero or infinite in f16.
      const K = 300;
      const random = source(7);
      const W = randomValues(random, 9 * K);
      const residual = randomValues(random, K).map((v) => v * size);
      const weight = randomValues(random, K);
      const eps = 1e-20;
      const x = Float32Array.from(residual, (v, k) => v * weight[k]);
      const got = await run(lab, { W, x, K, rows: 9, norm: { residual, eps } });
      const normed = normTwin(residual, weight, eps);
      // W was rounded when it was stored: another 2^-11, within the tolerance.
      new Expected(9, 'f16', 'f16')
        .setRows(twin({ W, x: normed, K }), twin({ W: sizes(W), x: sizes(normed), K }), 9, 9)
        .check(got);
    }),
  );

  it('lets NaN show', ({ skip }) =>
    useLab(ctx.device, async (lab) => {
      checkF16('f16', ctx, skip);
      const K = 40;
      const W = new Float32Array(8 * K).fill(1);
      W[3 * K + 17] = Number.NaN;
      const got = await run(lab, { W, x: new Float32Array(K).fill(1), K, rows: 8 });
      const values = [...new Float32Array(got.buffer)];
      expect(values.map(Number.isNaN).indexOf(true)).toBe(3);
      expect(values.filter((v) => v === K)).toHaveLength(7);
    }));
});
