import { it } from 'vitest';
import { upArriving as twin } from '../../shaders/up_arriving.js';
import { activationStride } from '../../src/gpu/layout.js';
import { upArriving } from '../../src/mlp/threshold-kernels.js';
import { unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { checkArrivals } from './arrivals.js';
import { sizes } from './compare.js';
import { folded, rowParams, rowShape, spread, storeRows, useLab } from './lab.js';
import {
  cheap,
  checkF16,
  octets,
  checkTeam,
  checkWidth,
  nears,
  randomValues,
  source,
  xSlot,
} from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 75;
const CAPACITY = 45;
const WORKGROUP = 16;

// Every transition with each: what takes time is compiling.
const cases = pairwise(
  {
    weights: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    compute: ['f32', 'f16'],
    team: ['lane', 'subgroup', 'workgroup'],
    norm: ['none', 'rms'],
    width: ['vector', 'word', 'shifted'],
    ROWS: [4, 64],
    STAGED: [0, 1],
    K: [1, 77, 600],
  } as const,
  source(12),
  (one) =>
    nears({ ...one, tile: '1x1' }) && cheap({ ...one, tile: '1x1', WORKGROUP, m: N, batch: 1, fold: 1 }),
);

describeAdapters('up_arriving', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam(one.team, ctx, skip);
        checkWidth(one.width, ctx, skip);
        checkF16(one.compute, ctx, skip);
        const { K, weights, team, norm, width, ROWS } = one;
        const { slots: storedAs, units } = unitsOf(weights, width, K, one.compute);
        const random = source(seed);
        const given = randomValues(random, N * K);
        const up = stored(given, K, weights);
        const x = randomValues(random, K);
        const gate = randomValues(random, N);
        const residual = randomValues(random, K);
        const eps = 1e-3;
        const squares = residual.reduce((sum, v) => sum + v * v, 0);
        // What is left of a norm for the finished sums.
        const scale = norm === 'rms' ? 1 / Math.sqrt(squares / K + eps) : 1;
        const every = Array.from({ length: N }, (_, i) => i);
        const shape = rowShape(K, weights);
        const rowWords = 4 * shape.stride;
        const pool = new Uint32Array(storeRows([given], K, every, weights).buffer);
        const input = { up, x, K, gate };
        const inputSizes = { up: sizes(up), x: sizes(x), K, gate: sizes(gate) };
        const xStride = activationStride(K);
        const shared = {
          pool_weights: lab.buffer(pool),
          x: lab.buffer(spread(x, K, xStride, 1000, 1)),
          residual: lab.buffer(spread(residual, K, xStride, 0, 1)),
          gate: lab.buffer(gate),
        };
        await checkArrivals(
          lab,
          random,
          { N, C: CAPACITY, pool, rowWords, weights, compute: one.compute },
          (_, buffers) => ({
            table: upArriving,
            variant: {
              slots: { ...storedAs, x: xSlot(storedAs.x, one.STAGED), team, rows: 'arriving', norm },
              constants: {
                ROWS,
                WORKGROUP,
                X_QUADS: xStride / 4,
                OCTETS: octets(ctx.device, seed),
              },
            },
            params: rowParams({
              rows: CAPACITY,
              ...shape,
              units,
              xStride: xStride / 4,
              outStride: CAPACITY,
              norm: { columns: K, eps },
            }),
            buffers: { ...shared, ...buffers },
            grid: [...folded(Math.max(1, Math.ceil(CAPACITY / ROWS)), 2), 1],
          }),
          (arrivals, of) => twin(arrivals, of === 'values' ? input : inputSizes).map((v) => scale * v),
        );
      }),
    );
  });
});
