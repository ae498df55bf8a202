/** Every activation, as `linear` and `gate_up` apply it, over a fine grid and far out. */
import { describe, expect, it } from 'vitest';
import { type ActivationSlot, activate, erf } from '../../shaders/lib/activate.js';
import { gateUp } from '../../src/mlp/kernels.js';
import { modelLinear as linear } from '../../src/mlp/model-kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { Expected } from './compare.js';
import { rowParams, storeRows, useLab } from './lab.js';

const ACTIVATIONS: ActivationSlot[] = [
  'identity',
  'silu',
  'gelu_erf',
  'gelu_tanh',
  'relu',
  'relu2',
  'fatrelu',
];
const FAT = 0.25;

/** -8 to 8 in steps of 1/16, and arguments for which e^x is large, overflows in f32, or cannot matter. */
const values = Float32Array.from([
  ...Array.from({ length: 257 }, (_, i) => (i - 128) / 16),
  ...[1e-20, 1e-6, 12.5, 20, 40, 60, 88, 100, 1000, 1e4].flatMap((v) => [v, -v]),
]);
const every = Array.from(values, (_, i) => i);

/** W [n, 1] = values, so that each result is act(value) (times an up of 1). */
function launch(lab: Parameters<Parameters<typeof useLab>[1]>[0], activation: string, gated: boolean) {
  const out = lab.poisoned(values.length + 4);
  const parts = gated ? [values, new Float32Array(values.length).fill(1)] : [values];
  const stored = { dtype: 'f32', quads: '1', x: '1' };
  const base = { ...stored, tile: '1x1', team: 'lane', rows: 'dense', bias: 'none', activation };
  lab.run({
    table: gated ? gateUp : linear,
    variant: {
      slots: gated ? base : { ...base, put: 'activate', norm: 'none' },
      constants: { WORKGROUP: 16, ROWS: 16 },
    },
    params: rowParams({
      rows: values.length,
      stride: parts.length,
      dotVectors: 1,
      partStride: 1,
      xStride: 2,
      outStride: values.length,
      fat: FAT,
    }),
    step: [1],
    buffers: {
      weights: lab.buffer(storeRows(parts, 1, every, 'f32')),
      x: lab.buffer(Float32Array.of(1, 0, 0, 0, 0, 0, 0, 0)),
      out,
    },
    grid: [Math.ceil(values.length / 16), 1, 1],
  });
  return out;
}

describeAdapters('activations', (ctx) => {
  it.each(ACTIVATIONS)('%s', (activation) =>
    useLab(ctx.device, async (lab) => {
      for (const gated of [false, true]) {
        const words = await lab.read(launch(lab, activation, gated));
        const expected = new Expected(words.length);
        values.forEach((v, i) => {
          expected.set(i, activate(activation, v, FAT), activation === 'relu2' ? v * v : Math.abs(v));
        });
        expected.check(words);
        for (const value of new Float32Array(words.buffer).subarray(0, values.length))
          expect(value).toSatisfy(Number.isFinite);
      }
    }),
  );

  // Closer than sums are compared, so that a digit missing in a constant shows. Half of what erf promises, 1.5e-7, is
  // gelu_erf's; the rest is for the rounding of a few operations in f32.
  it.each(['silu', 'gelu_erf', 'gelu_tanh'] as const)('%s is within 5e-7 of its argument', (activation) =>
    useLab(ctx.device, async (lab) => {
      const got = new Float32Array((await lab.read(launch(lab, activation, false))).buffer);
      values.forEach((v, i) => {
        const error = Math.abs(got[i] - activate(activation, v));
        expect(error, `at ${v}`).toBeLessThanOrEqual(5e-7 * Math.abs(v));
      });
    }),
  );
});

describe("the twins' erf", () => {
  // DLMF 7.2.1 by 20-digit tables (Abramowitz and Stegun 7.1).
  it.each([
    [0, 0],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [3, 0.9999779095030014],
    [7, 1],
  ])('erf(%d) = %d, and is odd', (z, value) => {
    expect(Math.abs(erf(z) - value)).toBeLessThan(1e-15);
    expect(Math.abs(erf(-z) + value)).toBeLessThan(1e-15);
  });
});
