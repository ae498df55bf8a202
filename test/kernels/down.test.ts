import { expect, it } from 'vitest';
import { down as twin } from '../../shaders/down.js';
import { sumPartials as sumTwin } from '../../shaders/sum_partials.js';
import { roundUp } from '../../src/gpu/buffers.js';
import { modelDown as down, modelSumPartials as sumPartials } from '../../src/mlp/model-kernels.js';
import { sumsBatch, unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes } from './compare.js';
import {
  poisoned,
  poisonOthers,
  poisonRows,
  rowShape,
  shardsOf,
  slotList,
  spread,
  storeRows,
  useLab,
} from './lab.js';
import { fits, randomIds, randomValues, source, checkWidth } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 45;

const cases = pairwise(
  {
    weights: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    rows: ['dense', 'packed', 'indexed', 'slots'],
    sums: ['1x1', '1x2', '1x4', '4x1', '8x1', 'row'],
    /** Vectors a lane of sums `row`. */
    lane: [1, 3, 8, 40],
    storage: ['buffer', 'texture'],
    width: ['vector', 'word', 'shifted'],
    WORKGROUP: [16, 64, 128],
    columns: [1, 20, 77, 600],
    batch: [1, 3, 9],
    shards: [1, 3],
    splits: [1, 2, 7, 64],
    m: [0, 1, 30, N],
  } as const,
  source(3),
  (one) =>
    (one.shards === 1 || one.rows === 'dense' || one.rows === 'indexed') &&
    (one.m === N || one.rows !== 'dense') &&
    fits(one.width, one.weights) &&
    (one.sums === 'row' || one.lane === 1) &&
    (one.lane < 40 || one.weights === 'f32') &&
    // A vector of q8 or q4 times a batch is more sums than there are registers, and no variant.
    (one.width === 'word' || sumsBatch(one.sums) === 1 || (one.weights !== 'q8' && one.weights !== 'q4')),
);

describeAdapters('down', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkWidth(one.width, ctx, skip);
        const { weights, columns: H, batch, splits, sums, width, WORKGROUP } = one;
        const { slots: storedAs, units } = unitsOf(weights, width, H, 'f32', one.storage);
        const vectors = sums === 'row' ? one.lane : Number(sums[2]);
        const random = source(seed);
        const given = randomValues(random, N * H);
        const D = stored(given, H, weights);
        const ids = randomIds(random, one.m, N);
        const every = Array.from({ length: N }, (_, i) => i);
        const listed = one.rows !== 'dense';
        const anywhere = one.rows === 'slots';
        // A list's activations are in the list's order, those of dense rows by row id.
        const columns = Math.max(1, listed ? ids.length : N);
        const a = randomValues(random, batch * columns);

        const slots = anywhere ? randomIds(random, N, N) : [...ids, ...every.slice(ids.length)];
        // Values of a row of partials: whole quads.
        const stride = roundUp(H, 4);
        const xStride = N + 3;
        const tiles = Math.ceil(batch / sumsBatch(sums));
        const aBuffer = new Float32Array(tiles * sumsBatch(sums) * xStride).fill(Number.NaN);
        aBuffer.set(spread(a, columns, xStride, Number.NaN, batch));
        const length = (splits * one.shards + 1) * batch * stride;
        const partials = lab.poisoned(length);
        const expected = new Expected(length, weights);
        const shared = {
          a: lab.buffer(aBuffer),
          partials,
          row_list: lab.buffer(anywhere ? slotList(slots, ids) : Uint32Array.of(ids.length, 0, 0, 0, ...ids)),
        };
        lab.run(
          ...shardsOf(N, one.shards).map(({ base, rows }, s) => {
            const here = every.slice(base, base + rows);
            const held = storeRows([given], H, one.rows === 'packed' || anywhere ? slots : here, weights);
            // The slots beyond the active ones hold rows that nothing may read: NaN.
            if (one.rows === 'packed') poisonRows(held, ids.length, N);
            if (anywhere) poisonOthers(held, slots, ids);
            const shape = rowShape(H, weights);
            const terms = listed
              ? ids.map((id, i) => ({ row: here.includes(id) ? id : null, column: i }))
              : here.map((id) => ({ row: id, column: id }));
            const input = { H, columns, terms, splits };
            const want = twin({ ...input, D, a });
            const size = twin({ ...input, D: sizes(D), a: sizes(a) });
            const start = s * splits * batch * stride;
            expected.setRows(want, size, H, stride, start);
            for (let at = 0; at < splits * batch; at++)
              for (let c = H; c < stride; c++) expected.set(start + at * stride + c, 0, 0);
            return {
              table: down,
              variant: {
                slots: {
                  dtype: storedAs.dtype,
                  quads: storedAs.quads,
                  sums,
                  rows: one.rows,
                  finish: 'partials',
                },
                constants: { WORKGROUP, ...(sums === 'row' ? { LANE_VECTORS: one.lane } : {}) },
              },
              params: [
                rows,
                base,
                stride / 4,
                xStride,
                s * splits,
                H,
                0,
                shape.stride,
                units,
                shape.dotVectors,
              ],
              step: [batch],
              buffers: { ...shared, weights: lab.rows(one.storage, held) },
              grid: [Math.ceil(units / (WORKGROUP * vectors)), splits, tiles] as const,
            };
          }),
        );
        expected.check(await lab.read(partials));
      }),
    );
  });
});

const sumCases = pairwise(
  {
    put: ['store', 'add'],
    WORKGROUP: [16, 64, 128],
    columns: [1, 20, 77, 600],
    batch: [1, 3, 9],
    splits: [1, 2, 64],
    // What the grid has beyond the step's batch is not written.
    gridBatch: [0, 2],
  } as const,
  source(4),
);

describeAdapters('sum_partials', (ctx) => {
  sumCases.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { columns, batch, splits, put, WORKGROUP } = one;
        const random = source(seed);
        const stride = Math.ceil(columns / 8) * 8;
        const partials = spread(randomValues(random, splits * batch * columns), columns, stride, Number.NaN);
        const bias = randomValues(random, columns);
        const add = put === 'add' ? randomValues(random, batch * columns) : undefined;
        const shape = { splits, stride, columns };
        const want = sumTwin(partials, bias, shape, add);
        const size = sumTwin(sizes(partials), sizes(bias), shape, add && sizes(add));
        const outStride = columns + 3;
        const before = poisoned((batch + one.gridBatch) * outStride);
        const floats = new Float32Array(before.buffer);
        for (let b = 0; add && b < batch; b++)
          floats.set(add.subarray(b * columns, (b + 1) * columns), b * outStride);
        const out = lab.buffer(before);
        lab.run({
          table: sumPartials,
          variant: { slots: { put }, constants: { WORKGROUP } },
          params: [splits, stride / 4, columns, outStride],
          step: [batch],
          buffers: { partials: lab.buffer(partials), bias: lab.buffer(bias), out },
          grid: [Math.ceil(stride / 4 / WORKGROUP), batch + one.gridBatch, 1],
        });
        new Expected(before.length).setRows(want, size, columns, outStride).check(await lab.read(out));
      }),
    );
  });
});

describeAdapters('down in one pass', (ctx) => {
  const H = 20;
  it.for(['store', 'add'] as const)('finish %s, eight of the batch at once', (finish) =>
    useLab(ctx.device, async (lab) => {
      const batch = 9;
      const random = source(7);
      const D = randomValues(random, N * H);
      const a = randomValues(random, batch * N);
      const bias = randomValues(random, H);
      const before = randomValues(random, 16 * H);
      const every = Array.from({ length: N }, (_, i) => i);
      const out = lab.buffer(before);
      const activations = new Float32Array(16 * N).fill(Number.NaN);
      activations.set(a);
      lab.run({
        table: down,
        variant: {
          slots: { dtype: 'f32', quads: '1', sums: '8x1', rows: 'dense', finish },
          constants: { WORKGROUP: 8 },
        },
        params: [N, 0, H / 4, N, 0, H, H, H / 4, H / 4, H / 4],
        step: [batch],
        buffers: {
          weights: lab.buffer(storeRows([D], H, every, 'f32')),
          a: lab.buffer(activations),
          out,
          bias: lab.buffer(bias),
        },
        grid: [1, 1, 2],
      });
      const got = new Float32Array((await lab.read(out)).buffer);
      const terms = every.map((id) => ({ row: id, column: id }));
      const want = twin({ H, columns: N, terms, splits: 1, D, a });
      for (let i = 0; i < got.length; i++) {
        const sum = want[i] + bias[i % H] + (finish === 'add' ? before[i] : 0);
        if (i < batch * H) expect(Math.abs(got[i] - sum)).toBeLessThan(1e-4);
        else expect(got[i]).toBe(before[i]);
      }
    }),
  );
});
