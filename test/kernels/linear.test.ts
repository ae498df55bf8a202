import { it } from 'vitest';
import { linear as twin } from '../../shaders/linear.js';
import { maskValues } from '../../shaders/mask_values.js';
import { activationStride } from '../../src/gpu/layout.js';
import { modelLinear as linear } from '../../src/mlp/model-kernels.js';
import { tileBatch, unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes } from './compare.js';
import {
  folded,
  poisoned,
  poisonOthers,
  poisonRows,
  rowParams,
  rowShape,
  shardsOf,
  slotList,
  spread,
  storeRows,
  useLab,
} from './lab.js';
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
const FAT = 0.2;

const cases = pairwise(
  {
    weights: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    compute: ['f32', 'f16'],
    team: ['lane', 'subgroup', 'workgroup', 'shared'],
    rows: ['dense', 'masked', 'packed', 'packed_masked', 'indexed', 'indexed_masked', 'slots'],
    bias: ['none', 'row', 'row_texels'],
    storage: ['buffer', 'texture'],
    put: ['store', 'add', 'activate', 'gated'],
    // All of them: activation.test.ts.
    activation: ['identity', 'silu', 'fatrelu'],
    threshold: [-1, 0, 0.3],
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
  source(1),
  (one) =>
    // A mask and an activation are only for `activate`; a slab is one shard; and dense rows are all of them.
    (one.put === 'activate' ||
      (!one.rows.endsWith('masked') && one.activation === 'identity' && one.threshold === -1)) &&
    (one.shards === 1 || !(one.rows.startsWith('packed') || one.rows === 'slots')) &&
    (one.m === N || one.rows !== 'dense') &&
    // A jump would turn rounding into any difference.
    (one.compute === 'f32' || (one.activation !== 'fatrelu' && one.threshold <= 0)) &&
    nears(one) &&
    cheap(one),
);
cases.push(
  tiledWorkgroup({ ...cases[0], put: 'add', activation: 'identity', threshold: -1, rows: 'indexed', m: 40 }),
  ...sharedTiles(cases[0], { put: 'add', activation: 'identity', threshold: -1, rows: 'dense', m: N }),
);

describeAdapters('linear', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam(one.team, ctx, skip);
        checkWidth(one.width, ctx, skip);
        checkF16(one.compute, ctx, skip);
        const { K, batch, put, activation } = one;
        const random = source(seed);
        const given = randomValues(random, N * K);
        const W = stored(given, K, one.weights);
        const x = randomValues(random, batch * K);
        const bias = one.bias !== 'none' ? randomValues(random, N) : undefined;
        const gate = put === 'gated' ? randomValues(random, batch * N) : undefined;
        const ids = randomIds(random, one.m, N);
        const every = Array.from({ length: N }, (_, i) => i);
        const packed = one.rows.startsWith('packed');
        const anywhere = one.rows === 'slots';
        const listed = packed || anywhere || one.rows.startsWith('indexed');
        const rows = listed ? ids : every;
        const add = put === 'add' ? randomValues(random, batch * rows.length) : undefined;

        const input = { K, rows, activation, fat: FAT, threshold: one.threshold };
        // Each element of the batch has a mask of its own, or all have one; a list has the rows of any.
        const each = seed % 2 === 1;
        const masks = Array.from({ length: batch }, (_, b) => ids.filter((id) => !each || (id + b) % 3 > 0));
        const keep = one.rows.endsWith('masked') ? masks.map((mask) => new Set(mask)) : undefined;
        const want = twin({ ...input, W, x, bias, gate, add, keep });
        const size = twin({
          W: sizes(W),
          x: sizes(x),
          K,
          rows,
          bias: bias && sizes(bias),
          gate: gate && sizes(gate),
          add: add && sizes(add),
        });

        const slots = anywhere ? randomIds(random, N, N) : [...ids, ...every.slice(ids.length)];
        const list = anywhere ? slotList(slots, ids) : Uint32Array.of(ids.length, 0, 0, 0, ...ids);
        const outStride = N + 2;
        const gateStride = N + 1;
        const xStride = activationStride(K);
        const tiles = Math.ceil(batch / tileBatch(one.tile));
        const before = poisoned(tiles * tileBatch(one.tile) * outStride);
        if (add) {
          const floats = new Float32Array(before.buffer);
          for (let b = 0; b < batch; b++)
            floats.set(add.subarray(b * rows.length, (b + 1) * rows.length), b * outStride);
        }
        const out = lab.buffer(before);
        // Padding of x meets the zeros of the padding of W: any finite value does. Beyond the batch may be anything.
        const xs = spread(x, K, xStride, 1000, batch);
        const xBuffer = new Float32Array(tiles * tileBatch(one.tile) * xStride).fill(Number.NaN);
        xBuffer.set(xs);
        const shared = {
          x: lab.buffer(xBuffer),
          out,
          gate: lab.buffer(gate ? spread(gate, N, gateStride, Number.NaN) : poisoned(4)),
          row_list: lab.buffer(list),
          row_masks: lab.buffer(
            Uint32Array.of(
              each ? Math.ceil(N / 32) : 0,
              ...[0, 0, 0],
              ...masks.flatMap((mask) => [...maskValues(every.map((id) => Number(mask.includes(id))))]),
            ),
          ),
        };
        const { weights, team, tile, width, ROWS, WORKGROUP } = one;
        const { slots: storedAs, units } = unitsOf(weights, width, K, one.compute, one.storage);
        lab.run(
          ...shardsOf(N, one.shards).map((shard) => {
            const here = every.slice(shard.base, shard.base + shard.rows);
            const held = packed || anywhere ? slots : here;
            const rows = storeRows([given], K, held, weights);
            // The slots beyond the active ones hold rows that nothing may read: NaN.
            if (packed) poisonRows(rows, ids.length, N);
            if (anywhere) poisonOthers(rows, slots, ids);
            const biases = new Float32Array(held.length * 4).fill(Number.NaN);
            held.forEach((id, i) => {
              biases[i * 4] = bias ? bias[id] : 0;
            });
            const [gx, gy] = folded(Math.ceil((listed ? N : shard.rows) / ROWS), one.fold);
            return {
              table: linear,
              variant: {
                slots: {
                  ...storedAs,
                  x: xSlot(storedAs.x, one.STAGED),
                  tile,
                  team,
                  rows: one.rows,
                  bias: one.bias,
                  activation,
                  put,
                  norm: 'none',
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
                ...rowShape(K, weights),
                units,
                xStride: xStride / 4,
                outStride,
                gateStride,
                threshold: one.threshold,
                fat: FAT,
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
        new Expected(before.length, weights, one.compute)
          .setRows(want, size, rows.length, outStride)
          .check(await lab.read(out));
      }),
    );
  });
});
