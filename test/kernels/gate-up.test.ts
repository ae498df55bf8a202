import { it } from 'vitest';
import { gateUp as twin } from '../../shaders/gate_up.js';
import { maskValues } from '../../shaders/mask_values.js';
import { activationStride } from '../../src/gpu/layout.js';
import { gateUp } from '../../src/mlp/kernels.js';
import { tileBatch, unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes } from './compare.js';
import { folded, poisonRows, rowParams, rowShape, shardsOf, spread, storeRows, useLab } from './lab.js';
import {
  cheap,
  checkF16,
  octets,
  checkTeam,
  nears,
  randomIds,
  randomValues,
  sharedTiles,
  source,
  tiledWorkgroup,
  checkWidth,
  xSlot,
} from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 75;

const cases = pairwise(
  {
    weights: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    compute: ['f32', 'f16'],
    team: ['lane', 'subgroup', 'workgroup', 'shared'],
    rows: ['dense', 'masked', 'packed', 'packed_masked', 'indexed', 'indexed_masked'],
    bias: ['none', 'row', 'row_texels'],
    storage: ['buffer', 'texture'],
    // All of them: activation.test.ts.
    activation: ['silu', 'relu2'],
    tile: ['1x1', '2x1', '4x1', '1x8', '4x4', '4x8'],
    width: ['vector', 'word', 'shifted'],
    ROWS: [1, 4, 16, 64],
    UNROLL: [1, 2, 4],
    STAGED: [0, 1],
    WORKGROUP: [16, 64, 128],
    K: [1, 20, 77, 600],
    batch: [1, 3, 9],
    shards: [1, 3],
    fold: [1, 3],
    m: [0, 1, 40, N],
  } as const,
  source(2),
  (one) =>
    (one.shards === 1 || !one.rows.startsWith('packed')) &&
    (one.m === N || one.rows !== 'dense') &&
    nears(one) &&
    cheap(one),
);
cases.push(
  tiledWorkgroup({ ...cases[0], rows: 'masked', m: 40 }),
  ...sharedTiles(cases[0], { rows: 'indexed', shards: 3, m: 40 }),
  ...sharedTiles(cases[0], { rows: 'packed', shards: 1, m: 40 }).slice(0, 1),
);
const [, halves] = sharedTiles(cases[0]);
cases.push({ ...halves, compute: 'f16', rows: 'dense', m: N });

describeAdapters('gate_up', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam(one.team, ctx, skip);
        checkWidth(one.width, ctx, skip);
        checkF16(one.compute, ctx, skip);
        const { K, batch, activation, weights, team, tile, width, ROWS, WORKGROUP } = one;
        const { slots: storedAs, units } = unitsOf(weights, width, K, one.compute, one.storage);
        const random = source(seed);
        const given = [randomValues(random, N * K), randomValues(random, N * K)];
        const [gate, up] = given.map((matrix) => stored(matrix, K, weights));
        const x = randomValues(random, batch * K);
        const gateBias = one.bias !== 'none' ? randomValues(random, N) : undefined;
        const upBias = one.bias !== 'none' ? randomValues(random, N) : undefined;
        const ids = randomIds(random, one.m, N);
        const every = Array.from({ length: N }, (_, i) => i);
        const packed = one.rows.startsWith('packed');
        const listed = packed || one.rows.startsWith('indexed');
        const rows = listed ? ids : every;

        // Each element of the batch has a mask of its own, or all have one; a list has the rows of any.
        const each = seed % 2 === 1;
        const masks = Array.from({ length: batch }, (_, b) => ids.filter((id) => !each || (id + b) % 3 > 0));
        const keep = one.rows.endsWith('masked') ? masks.map((mask) => new Set(mask)) : undefined;
        const want = twin({ gate, up, x, K, activation, rows, gateBias, upBias, keep });
        const size = twin({
          gate: sizes(gate),
          up: sizes(up),
          x: sizes(x),
          K,
          activation: activation === 'relu2' ? 'relu2' : 'identity',
          rows,
          gateBias: gateBias && sizes(gateBias),
          upBias: upBias && sizes(upBias),
        });

        const slots = [...ids, ...every.slice(ids.length)];
        const outStride = N + 2;
        const xStride = activationStride(K);
        const tiles = Math.ceil(batch / tileBatch(tile));
        const length = tiles * tileBatch(tile) * outStride;
        const xBuffer = new Float32Array(tiles * tileBatch(tile) * xStride).fill(Number.NaN);
        xBuffer.set(spread(x, K, xStride, 1000, batch));
        const out = lab.poisoned(length);
        const shared = {
          x: lab.buffer(xBuffer),
          out,
          row_list: lab.buffer(Uint32Array.of(ids.length, 0, 0, 0, ...ids)),
          row_masks: lab.buffer(
            Uint32Array.of(
              each ? Math.ceil(N / 32) : 0,
              ...[0, 0, 0],
              ...masks.flatMap((mask) => [...maskValues(every.map((id) => Number(mask.includes(id))))]),
            ),
          ),
        };
        lab.run(
          ...shardsOf(N, one.shards).map((shard) => {
            const here = every.slice(shard.base, shard.base + shard.rows);
            const held = packed ? slots : here;
            const rows = storeRows(given, K, held, weights);
            // The slots beyond the active ones hold rows that nothing may read: NaN.
            if (packed) poisonRows(rows, ids.length, N);
            const biases = new Float32Array(held.length * 4).fill(Number.NaN);
            held.forEach((id, i) => {
              biases[i * 4] = gateBias ? gateBias[id] : 0;
              biases[i * 4 + 1] = upBias ? upBias[id] : 0;
            });
            const [gx, gy] = folded(Math.ceil((listed ? N : shard.rows) / ROWS), one.fold);
            return {
              table: gateUp,
              variant: {
                slots: {
                  ...storedAs,
                  x: xSlot(storedAs.x, one.STAGED),
                  tile,
                  team,
                  rows: one.rows,
                  bias: one.bias,
                  activation,
                },
                constants: {
                  ROWS,
                  WORKGROUP,
                  UNROLL: one.UNROLL,
                  X_QUADS: xStride / 4,
                  OCTETS: octets(ctx.device, seed),
                },
              },
              params: rowParams({
                ...shard,
                ...rowShape(K, weights, 2),
                units,
                xStride: xStride / 4,
                outStride,
              }),
              step: [batch],
              buffers: {
                ...shared,
                weights: lab.rows(one.storage, rows),
                bias: lab.rows(one.bias === 'row_texels' ? 'texture' : 'buffer', biases),
              },
              grid: [gx, gy, tiles] as const,
            };
          }),
        );
        new Expected(length, weights, one.compute)
          .setRows(want, size, rows.length, outStride)
          .check(await lab.read(out));
      }),
    );
  });
});
