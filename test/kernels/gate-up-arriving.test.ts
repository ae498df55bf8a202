import { it } from 'vitest';
import { gateUpArriving as twin } from '../../shaders/gate_up_arriving.js';
import { activationStride } from '../../src/gpu/layout.js';
import { gateUpArriving } from '../../src/mlp/fused-update.js';
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
    tile: ['1x1', '2x1', '4x1'],
    width: ['vector', 'word', 'shifted'],
    ROWS: [4, 64],
    STAGED: [0, 1],
    K: [1, 77, 600],
  } as const,
  source(12),
  (one) => nears(one) && cheap({ ...one, WORKGROUP, m: N, batch: 1, fold: 1 }),
);

describeAdapters('gate_up_arriving', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam(one.team, ctx, skip);
        checkWidth(one.width, ctx, skip);
        checkF16(one.compute, ctx, skip);
        const { K, weights, team, tile, width, ROWS } = one;
        const { slots: storedAs, units } = unitsOf(weights, width, K, one.compute);
        const random = source(seed);
        const given = [randomValues(random, N * K), randomValues(random, N * K)];
        const [gate, up] = given.map((matrix) => stored(matrix, K, weights));
        const x = randomValues(random, K);
        const every = Array.from({ length: N }, (_, i) => i);
        const shape = rowShape(K, weights, 2);
        const rowWords = 4 * shape.stride;
        const pool = new Uint32Array(storeRows(given, K, every, weights).buffer);
        const input = { gate, up, x, K, activation: 'silu' } as const;
        const inputSizes = {
          gate: sizes(gate),
          up: sizes(up),
          x: sizes(x),
          K,
          activation: 'identity',
        } as const;
        const xStride = activationStride(K);
        const shared = {
          pool_weights: lab.buffer(pool),
          x: lab.buffer(spread(x, K, xStride, 1000, 1)),
        };
        await checkArrivals(
          lab,
          random,
          { N, C: CAPACITY, pool, rowWords, weights, compute: one.compute },
          (active, buffers) => ({
            table: gateUpArriving,
            variant: {
              slots: {
                ...storedAs,
                x: xSlot(storedAs.x, one.STAGED),
                tile,
                team,
                rows: 'arriving',
                activation: 'silu',
              },
              constants: {
                ROWS,
                WORKGROUP,
                X_QUADS: xStride / 4,
                OCTETS: octets(ctx.device, seed),
              },
            },
            params: rowParams({ rows: CAPACITY, ...shape, units, xStride: xStride / 4, outStride: CAPACITY }),
            buffers: { ...shared, ...buffers },
            grid: [...folded(Math.max(1, Math.ceil(active / ROWS)), 2), 1],
          }),
          (arrivals, of) => twin(arrivals, of === 'values' ? input : inputSizes),
        );
      }),
    );
  });
});
