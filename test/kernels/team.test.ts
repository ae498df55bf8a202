/** Teams at their edges: workgroups smaller than a subgroup, or with a team that does not fill it. */
import { it } from 'vitest';
import { linear as twin } from '../../shaders/linear.js';
import { linear } from '../../src/mlp/kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { Expected, sizes } from './compare.js';
import { rowParams, storeRows, useLab } from './lab.js';
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
            dot: 'f32',
            tile: '1',
            team: 'subgroup',
            rows: 'dense',
            bias: 'none',
            activation: 'identity',
            put: 'store',
          },
          constants: { WORKGROUP, ROWS: 3 },
        },
        params: rowParams({ rows: N, stride: K / 4, xStride: K / 4, outStride: N }),
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
