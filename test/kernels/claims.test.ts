/** Workgroups that claim their rows: whatever a dispatch has left, the next one finds the counter at its beginning. */
import { expect, it } from 'vitest';
import { gateUp as gateUpTwin } from '../../shaders/gate_up.js';
import { linear as linearTwin } from '../../shaders/linear.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { gateUp } from '../../src/mlp/kernels.js';
import { modelLinear } from '../../src/mlp/model-kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { Expected, sizes } from './compare.js';
import { rowParams, rowShape, storeRows, useLab } from './lab.js';
import { checkTeam, randomIds, randomValues, source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 300;
const K = 64;
/** Rows of one dispatch after the other. */
const COUNTS = [40, 0, 1, 300, 7, 8, 9, 0, 300];

const cases = pairwise(
  {
    table: ['linear', 'gate_up'],
    tile: ['1x1', '4x1'],
    ROWS: [4, 8, 64],
    workgroups: [1, 2, 32],
    staged: [false, true],
  } as const,
  source(41),
);

describeAdapters('claims', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam('subgroup', ctx, skip);
        const { tile, ROWS, workgroups } = one;
        const pair = one.table === 'gate_up';
        const WORKGROUP = traitsOf(ctx.device).subgroup;
        const random = source(seed);
        const parts = Array.from({ length: pair ? 2 : 1 }, () => randomValues(random, N * K));
        const x = randomValues(random, K);
        const every = Array.from({ length: N }, (_, i) => i);
        const weights = lab.buffer(storeRows(parts, K, every, 'f32'));
        const claims = lab.buffer(new Uint32Array(1));
        const xBuffer = lab.buffer(x);
        const steps = COUNTS.map((count) => ({ ids: randomIds(random, count, N), out: lab.poisoned(N + 3) }));
        const slots = { dtype: 'f32', quads: '1', x: one.staged ? '1_staged' : '1', tile, team: 'claims' };
        const put: Record<string, string> = pair ? {} : { norm: 'none', put: 'store' };
        lab.run(
          ...steps.map(({ ids, out }) => ({
            table: pair ? gateUp : modelLinear,
            variant: {
              slots: { ...slots, ...put, rows: 'indexed', bias: 'none', activation: 'identity' },
              constants: { WORKGROUP, ROWS, SUBGROUP: WORKGROUP, X_QUADS: K / 4 },
            },
            params: rowParams({
              rows: N,
              ...rowShape(K, 'f32', parts.length),
              xStride: K / 4,
              outStride: N,
            }),
            step: [1],
            buffers: {
              weights,
              claims,
              x: xBuffer,
              out,
              row_list: lab.buffer(Uint32Array.of(ids.length, 0, 0, 0, ...ids)),
            },
            grid: [workgroups, 1, 1] as const,
          })),
        );
        const twin = ([first, up]: readonly ArrayLike<number>[], by: ArrayLike<number>, rows: number[]) => {
          return pair
            ? gateUpTwin({ gate: first, up, x: by, K, activation: 'identity', rows })
            : linearTwin({ W: first, x: by, K, rows });
        };
        for (const { ids, out } of steps) {
          new Expected(N + 3)
            .setRows(twin(parts, x, ids), twin(parts.map(sizes), sizes(x), ids), ids.length, N)
            .check(await lab.read(out));
        }
        expect([...(await lab.read(claims))], 'set back').toEqual([0]);
      }),
    );
  });
});
