import { it } from 'vitest';
import { gateUp as twin } from '../../shaders/gate_up.js';
import { maskValues } from '../../shaders/mask_values.js';
import { decodeF16, encodeF16 } from '../../src/dtype.js';
import { gateUp } from '../../src/mlp/kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { Expected, sizes } from './compare.js';
import { folded, pickRows, rowParams, shardsOf, spread, storeRows, useLab } from './lab.js';
import { cheap, checkTeam, randomIds, randomValues, source, tiledWorkgroup } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 75;

const cases = pairwise(
  {
    weights: ['f32', 'f16'],
    team: ['lane', 'subgroup', 'workgroup'],
    rows: ['dense', 'masked', 'packed', 'indexed'],
    bias: ['none', 'row'],
    // All of them: activation.test.ts.
    activation: ['silu', 'relu2'],
    BATCH_TILE: [1, 8],
    ROWS: [1, 4, 16, 64],
    WORKGROUP: [16, 64, 128],
    K: [1, 20, 77, 600],
    batch: [1, 3, 9],
    shards: [1, 3],
    fold: [1, 3],
    m: [0, 1, 40, N],
  } as const,
  source(2),
  (one) => (one.shards === 1 || one.rows !== 'packed') && (one.m === N || one.rows !== 'dense') && cheap(one),
);
cases.push(tiledWorkgroup({ ...cases[0], rows: 'masked', m: 40 }));

describeAdapters('gate_up', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam(one.team, ctx, skip);
        const { K, batch, activation, weights, team, BATCH_TILE, ROWS, WORKGROUP } = one;
        const random = source(seed);
        const matrix = () => {
          const values = randomValues(random, N * K);
          return weights === 'f16' ? decodeF16(encodeF16(values)) : values;
        };
        const gate = matrix();
        const up = matrix();
        const x = randomValues(random, batch * K);
        const gateBias = one.bias === 'row' ? randomValues(random, N) : undefined;
        const upBias = one.bias === 'row' ? randomValues(random, N) : undefined;
        const ids = randomIds(random, one.m, N);
        const every = Array.from({ length: N }, (_, i) => i);
        const listed = one.rows === 'packed' || one.rows === 'indexed';
        const rows = listed ? ids : every;

        const keep = one.rows === 'masked' ? new Set(ids) : undefined;
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

        // The slots beyond the active ones hold rows that nothing may read: NaN.
        const slots = [...ids, ...every.slice(ids.length)];
        const slab = [gate, up].map((part) => pickRows(part, K, slots).fill(Number.NaN, ids.length * K));
        const outStride = N + 2;
        const xStride = Math.ceil(K / 8) * 8;
        const tiles = Math.ceil(batch / BATCH_TILE);
        const length = tiles * BATCH_TILE * outStride;
        const xBuffer = new Float32Array(tiles * BATCH_TILE * xStride).fill(Number.NaN);
        xBuffer.set(spread(x, K, xStride, 1000, batch));
        const out = lab.poisoned(length);
        const shared = {
          x: lab.buffer(xBuffer),
          out,
          row_list: lab.buffer(Uint32Array.of(ids.length, 0, 0, 0, ...ids)),
          row_mask: lab.buffer(maskValues(every.map((id) => Number(ids.includes(id))))),
        };
        lab.run(
          ...shardsOf(N, one.shards).map((shard) => {
            const here = every.slice(shard.base, shard.base + shard.rows);
            const held = one.rows === 'packed' ? slots : here;
            const stored =
              one.rows === 'packed'
                ? storeRows(slab, K, every, weights)
                : storeRows([gate, up], K, here, weights);
            const biases = new Float32Array(held.length * 4).fill(Number.NaN);
            held.forEach((id, i) => {
              biases[i * 4] = gateBias ? gateBias[id] : 0;
              biases[i * 4 + 1] = upBias ? upBias[id] : 0;
            });
            const [gx, gy] = folded(Math.ceil((listed ? N : shard.rows) / ROWS), one.fold);
            const stride = stored.length / held.length / 16;
            return {
              table: gateUp,
              variant: {
                slots: {
                  dot: weights,
                  tile: String(BATCH_TILE),
                  team,
                  rows: one.rows,
                  bias: one.bias,
                  activation,
                },
                constants: { ROWS, WORKGROUP },
              },
              params: rowParams({
                ...shard,
                stride,
                dotVectors: stride / 2,
                xStride: xStride / 4,
                outStride,
              }),
              step: [batch],
              buffers: { ...shared, weights: lab.buffer(stored), bias: lab.buffer(biases) },
              grid: [gx, gy, tiles] as const,
            };
          }),
        );
        new Expected(length, weights).setRows(want, size, rows.length, outStride).check(await lab.read(out));
      }),
    );
  });
});
