/** Teams at their edges: workgroups smaller than a subgroup, or with a team that does not fill it. */
import { expect, it } from 'vitest';
import { linear as twin } from '../../shaders/linear.js';
import { modelLinear as linear } from '../../src/mlp/model-kernels.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { residentUnits, unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes } from './compare.js';
import { rowParams, rowShape, storeRows, useLab } from './lab.js';
import { checkTeam, randomValues, source } from './make.js';

const N = 21;
const K = 300;

describeAdapters('teams', (ctx) => {
  // Subgroups have 4 lanes on SwiftShader, 8 on lavapipe, 32 or 64 on most GPUs.
  it.for([1, 2, 4, 8, 32])('subgroups in workgroups of %d', (WORKGROUP, { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkTeam('subgroup', ctx, skip);
      const random = source(WORKGROUP);
      const W = randomValues(random, N * K);
      const x = randomValues(random, K);
      const out = lab.poisoned(N + 3);
      lab.run({
        table: linear,
        variant: {
          slots: {
            dtype: 'f32',
            quads: '1',
            x: '1',
            tile: '1x1',
            norm: 'none',
            team: 'subgroup',
            rows: 'dense',
            bias: 'none',
            activation: 'identity',
            put: 'store',
          },
          constants: { WORKGROUP, ROWS: 3 },
        },
        params: rowParams({ rows: N, stride: K / 4, dotVectors: K / 4, xStride: K / 4, outStride: N }),
        step: [1],
        buffers: {
          weights: lab.buffer(
            storeRows(
              [W],
              K,
              Array.from({ length: N }, (_, i) => i),
              'f32',
            ),
          ),
          x: lab.buffer(x),
          out,
        },
        grid: [N / 3, 1, 1],
      });
      new Expected(N + 3)
        .setRows(twin({ W, x, K }), twin({ W: sizes(W), x: sizes(x), K }), N, N)
        .check(await lab.read(out));
    }),
  );
});

describeAdapters('x in registers', (ctx) => {
  // Units a lane: one, some, as many as there are registers.
  it.for([1, 2, 3, 5, 8])('%d units a lane', (each, { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkTeam('subgroup', ctx, skip);
      const lanes = traitsOf(ctx.device).subgroup;
      for (const dtype of ['f32', 'f16', 'q8', 'q4'] as const) {
        const width = dtype === 'q8' || dtype === 'q4' ? 'word' : 'vector';
        const quads = Number(unitsOf(dtype, width, 1).slots.quads);
        const cols = each * lanes * quads * 4;
        const random = source(each);
        const given = randomValues(random, N * cols);
        const W = stored(given, cols, dtype);
        const x = randomValues(random, cols);
        const every = Array.from({ length: N }, (_, i) => i);
        const out = lab.poisoned(N + 3);
        expect(residentUnits(dtype, width, cols, lanes)).toBe(each);
        lab.run({
          table: linear,
          variant: {
            slots: {
              ...unitsOf(dtype, width, cols).slots,
              tile: 'resident',
              norm: 'none',
              team: 'subgroup',
              rows: 'dense',
              bias: 'none',
              activation: 'identity',
              put: 'store',
            },
            constants: { WORKGROUP: 2 * lanes, ROWS: 4, RESIDENT: each },
          },
          params: rowParams({
            rows: N,
            ...rowShape(cols, dtype),
            units: unitsOf(dtype, width, cols).units,
            xStride: cols / 4,
            outStride: N,
          }),
          step: [1],
          buffers: { weights: lab.buffer(storeRows([given], cols, every, dtype)), x: lab.buffer(x), out },
          grid: [Math.ceil(N / 4), 1, 1],
        });
        new Expected(N + 3, dtype)
          .setRows(twin({ W, x, K: cols }), twin({ W: sizes(W), x: sizes(x), K: cols }), N, N)
          .check(await lab.read(out));
      }
    }),
  );

  it('is for rows that come out even', () => {
    expect(residentUnits('f32', 'vector', 8 * 4 * 8, 8)).toBe(8);
    expect(residentUnits('f32', 'vector', 9 * 4 * 8, 8)).toBe(0);
    expect(residentUnits('f32', 'vector', 36, 8)).toBe(0);
  });
});
