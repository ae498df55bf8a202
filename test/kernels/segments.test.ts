/** linear with put `segment`, and what reads its lists: linear and down with rows `segments`. */
import { expect, it } from 'vitest';
import { down as downTwin } from '../../shaders/down.js';
import { linear as linearTwin } from '../../shaders/linear.js';
import { roundUp } from '../../src/gpu/buffers.js';
import { down, linear, SEGMENT } from '../../src/mlp/kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { Expected, sizes } from './compare.js';
import { rowParams, storeRows, useLab } from './lab.js';
import { checkTeam, randomValues, source } from './make.js';

const K = 24;
const H = 20;
const POISON = 0xffc0beef;

describeAdapters('segments', (ctx) => {
  // Fewer rows than a segment, some segments and a part of one, whole segments; few, half and no rows active.
  it.for([
    [37, 0, 'lane'],
    [300, 0.8, 'lane'],
    [300, 0, 'subgroup'],
    [128, 1e6, 'subgroup'],
    [200, 0.5, 'workgroup'],
  ] as const)('%d rows above %d, a %s a row', ([N, threshold, team], { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkTeam(team, ctx, skip);
      const random = source(N);
      const [G, U, D] = [
        randomValues(random, N * K),
        randomValues(random, N * K),
        randomValues(random, N * H),
      ];
      const x = randomValues(random, K);
      const every = Array.from({ length: N }, (_, i) => i);
      const whole = Math.ceil(N / SEGMENT);
      const segments = lab.poisoned(whole * (SEGMENT + 1));
      const gate = lab.poisoned(N);
      const a = lab.poisoned(whole * SEGMENT);
      const y = lab.poisoned(H + 3);
      const slots = { dot: 'f32', tile: '1', team, bias: 'none', activation: 'relu' };
      const constants = { WORKGROUP: 32, ROWS: SEGMENT };
      const params = rowParams({ rows: N, stride: K / 4, xStride: K / 4, outStride: N, threshold });
      const grid = [whole, 1, 1] as const;
      const shared = { x: lab.buffer(x) };
      lab.run(
        {
          table: linear,
          variant: { slots: { ...slots, rows: 'dense', put: 'segment' }, constants },
          params,
          step: [1],
          buffers: { ...shared, weights: lab.buffer(storeRows([G], K, every, 'f32')), out: gate, segments },
          grid,
        },
        {
          table: linear,
          variant: { slots: { ...slots, rows: 'segments', put: 'gated' }, constants },
          params,
          step: [1],
          buffers: {
            ...shared,
            weights: lab.buffer(storeRows([U], K, every, 'f32')),
            row_list: segments,
            gate,
            out: a,
          },
          grid,
        },
        {
          table: down,
          variant: {
            slots: { weights: 'f32', sums: '1', rows: 'segments', finish: 'store' },
            constants: { WORKGROUP: 8 },
          },
          params: [N, 0, roundUp(H, 4) / 4, whole * SEGMENT, 0, H, H],
          step: [1],
          buffers: {
            weights: lab.buffer(storeRows([D], H, every, 'f32')),
            a,
            row_list: segments,
            out: y,
            bias: lab.buffer(new Float32Array(roundUp(H, 4))),
          },
          grid: [Math.ceil(H / 4 / 8), 1, 1],
        },
      );

      const gates = linearTwin({ W: G, x, K, activation: 'relu', threshold });
      const active = every.filter((id) => gates[id] !== 0);
      const lists = new Uint32Array((await lab.read(segments)).buffer);
      for (let s = 0; s < whole; s++) {
        const mine = active.filter((id) => Math.floor(id / SEGMENT) === s);
        expect(lists[whole * SEGMENT + s]).toBe(mine.length);
        const places = [...lists.subarray(s * SEGMENT, (s + 1) * SEGMENT)];
        expect(places.slice(0, mine.length)).toEqual(mine);
        // Nothing beyond the count is written.
        expect(places.slice(mine.length).every((word) => word === POISON)).toBe(true);
      }
      const ups = linearTwin({ W: U, x, K });
      const products = Float64Array.from(active, (id) => gates[id] * ups[id]);
      const magnitudes = linearTwin({ W: sizes(U), x: sizes(x), K });
      const terms = active.map((id, i) => ({ row: id, column: i }));
      const columns = Math.max(1, active.length);
      const padded = (values: Float64Array) => (values.length > 0 ? values : new Float64Array(1));
      const want = downTwin({ H, columns, terms, splits: 1, D, a: padded(products) });
      const bound = downTwin({
        H,
        columns,
        terms,
        splits: 1,
        D: sizes(D),
        a: padded(Float64Array.from(active, (id) => gates[id] * magnitudes[id] * 4)),
      });
      new Expected(H + 3).setRows(want, bound, H, H).check(await lab.read(y));
    }),
  );
});

describeAdapters('down in one pass', (ctx) => {
  it.for(['store', 'add'] as const)('finish %s, eight of the batch at once', (finish) =>
    useLab(ctx.device, async (lab) => {
      const N = 30;
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
          slots: { weights: 'f32', sums: '8', rows: 'dense', finish },
          constants: { WORKGROUP: 8 },
        },
        params: [N, 0, H / 4, N, 0, H, H],
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
      const want = downTwin({ H, columns: N, terms, splits: 1, D, a });
      for (let i = 0; i < got.length; i++) {
        const sum = want[i] + bias[i % H] + (finish === 'add' ? before[i] : 0);
        if (i < batch * H) expect(Math.abs(got[i] - sum)).toBeLessThan(1e-4);
        else expect(got[i]).toBe(before[i]);
      }
    }),
  );
});
