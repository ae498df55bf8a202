import { it } from 'vitest';
import { downArriving as twin } from '../../shaders/down_arriving.js';
import { roundUp } from '../../src/gpu/buffers.js';
import { modelDownArriving as downArriving } from '../../src/mlp/model-kernels.js';
import { unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { ARRIVAL_KINDS, makeTransition, slabOf } from './arrivals.js';
import { checkWords, Expected, sizes } from './compare.js';
import { rowShape, spread, storeRows, useLab } from './lab.js';
import { fits, randomValues, source, checkWidth } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 75;
const CAPACITY = 45;

const SPLITS = [1, 7, 64];
// Every transition with each: what takes time is compiling.
const cases = pairwise(
  {
    weights: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    sums: ['1x1', '1x2', '1x4'],
    width: ['vector', 'word', 'shifted'],
    WORKGROUP: [8, 64],
    columns: [1, 77, 600],
  } as const,
  source(13),
  (one) => fits(one.width, one.weights),
);

describeAdapters('down_arriving', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkWidth(one.width, ctx, skip);
        const { weights, columns: H, sums, width, WORKGROUP } = one;
        const { slots: storedAs, units } = unitsOf(weights, width, H);
        const random = source(seed);
        const given = randomValues(random, N * H);
        const D = stored(given, H, weights);
        const every = Array.from({ length: N }, (_, i) => i);
        const shape = rowShape(H, weights);
        const rowWords = 4 * shape.stride;
        const pool = new Uint32Array(storeRows([given], H, every, weights).buffer);
        const poolBuffer = lab.buffer(pool);
        const stride = roundUp(H, 4);
        for (const [k, kind] of ARRIVAL_KINDS.entries()) {
          const splits = SPLITS[k % SPLITS.length];
          const { rowIds, moves, active, list } = makeTransition(random, kind, N, CAPACITY);
          const slab = slabOf(pool, rowWords, rowIds);
          const a = randomValues(random, Math.max(1, active));
          const length = (splits + 1) * stride;
          const partials = lab.poisoned(length);
          const slabBuffer = lab.buffer(slab);
          lab.run({
            table: downArriving,
            variant: {
              slots: {
                dtype: storedAs.dtype,
                quads: storedAs.quads,
                sums,
                arrive: sums,
                rows: 'arriving',
                finish: 'partials',
              },
              constants: { WORKGROUP },
            },
            params: [CAPACITY, 0, stride / 4, CAPACITY, 0, H, 0, shape.stride, units, shape.dotVectors],
            step: [1],
            buffers: {
              weights: slabBuffer,
              pool_weights: poolBuffer,
              a: lab.buffer(spread(a, a.length, CAPACITY, Number.NaN, 1)),
              partials,
              arrivals: lab.buffer(list),
            },
            grid: [Math.ceil(units / (WORKGROUP * Number(sums[2]))), splits, 1],
          });

          const arrivals = { slab, pool, rowWords, moves, rowIds, active };
          const want = twin(arrivals, { D, H, a, splits });
          // The moves are made: what is there stays.
          const made = { ...arrivals, moves: new Uint32Array(0) };
          const size = twin(made, { D: sizes(D), H, a: sizes(a), splits });
          const expected = new Expected(length, weights).setRows(want, size, H, stride);
          for (let s = 0; s < splits; s++)
            for (let c = H; c < stride; c++) expected.set(s * stride + c, 0, 0);
          expected.check(await lab.read(partials));
          checkWords(await lab.read(slabBuffer), slab, `slab, ${kind}`);
        }
      }),
    );
  });
});
