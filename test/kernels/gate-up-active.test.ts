/** The gated layer that finds its own mask, and down over the list that it leaves. */
import { expect, it } from 'vitest';
import { down as downTwin } from '../../shaders/down.js';
import { type GateUpActiveInput, gateUpActive as twin } from '../../shaders/gate_up_active.js';
import { activate } from '../../shaders/lib/activate.js';
import { linear as linearTwin } from '../../shaders/linear.js';
import { rmsNorm as normTwin } from '../../shaders/rms_norm.js';
import { activationStride } from '../../src/gpu/layout.js';
import { modelDown as down, modelLinear as linear } from '../../src/mlp/model-kernels.js';
import { gateUpActive } from '../../src/mlp/threshold-kernels.js';
import { unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes, TOLERANCE_F16 } from './compare.js';
import { poisoned, rowParams, rowShape, storeRows, useLab } from './lab.js';
import { checkF16, octets, checkTeam, checkWidth, fits, nears, randomValues, source, xSlot } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 75;

const cases = pairwise(
  {
    weights: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    compute: ['f32', 'f16'],
    width: ['vector', 'word', 'shifted'],
    team: ['lane', 'subgroup', 'workgroup'],
    tile: ['1x1', '2x1', '4x1'],
    bias: ['none', 'row', 'row_texels'],
    storage: ['buffer', 'texture'],
    STAGED: [0, 1],
    activation: ['relu', 'silu'],
    threshold: [0, 0.5, 1e9],
    ALL: [0, 1],
    norm: ['none', 'rms'],
    ROWS: [32, 64, 128],
    WORKGROUP: [8, 64],
    K: [1, 20, 77, 300],
    fold: [1, 2],
  } as const,
  source(21),
  (one) =>
    nears(one) &&
    fits(one.width, one.weights, one.compute) &&
    (one.compute === 'f32' || one.weights === 'f16'),
);

/** What rounding may change: the rows so near the threshold that they may be active or not, and each value. */
function leeway(
  { gate, up, x, K, activation, gateBias, upBias }: Omit<GateUpActiveInput, 'threshold'>,
  threshold: number,
  { weights, compute }: { weights: string; compute: string },
): { open: ReadonlySet<number>; bound: (row: number) => number } {
  if (compute === 'f32')
    return { open: new Set(), bound: () => (weights === 'f32' ? 2e-5 : 1e-4) * (1 + K) * 2 };
  const sized = (W: ArrayLike<number>, bias?: ArrayLike<number>) =>
    linearTwin({ W: sizes(W), x: sizes(x), K, bias: bias && sizes(bias) });
  const [gates, gateSizes, upSizes] = [
    linearTwin({ W: gate, x, K, bias: gateBias }),
    sized(gate, gateBias),
    sized(up, upBias),
  ];
  const open = new Set<number>();
  gates.forEach((g, row) => {
    const off = TOLERANCE_F16 * gateSizes[row];
    const keeps = [g - off, g, g + off].map((at) => Math.abs(activate(activation, at)) > threshold);
    if (keeps.includes(true) && keeps.includes(false)) open.add(row);
  });
  return { open, bound: (row) => 2 * TOLERANCE_F16 * gateSizes[row] * upSizes[row] + 1e-3 };
}

describeAdapters('gate_up_active', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam(one.team, ctx, skip);
        checkWidth(one.width, ctx, skip);
        checkF16(one.compute, ctx, skip);
        const { K, weights, activation, threshold, ALL, ROWS, WORKGROUP } = one;
        const { slots, units } = unitsOf(weights, one.width, K, one.compute, one.storage);
        const random = source(seed + 100);
        const given = [randomValues(random, N * K), randomValues(random, N * K)];
        const [gate, up] = given.map((matrix) => stored(matrix, K, weights));
        const gateBias = one.bias !== 'none' ? randomValues(random, N) : undefined;
        const upBias = one.bias !== 'none' ? randomValues(random, N) : undefined;
        const every = Array.from({ length: N }, (_, i) => i);
        const xStride = activationStride(K);
        // What is normed: x times the norm's weight, over the root mean square of what x was.
        const residual = randomValues(random, K);
        const normWeight = randomValues(random, K);
        const eps = 1e-3;
        const x = one.norm === 'rms' ? normTwin(residual, normWeight, eps) : Float64Array.from(residual);
        const given32 = new Float32Array(xStride);
        given32.set(one.norm === 'rms' ? residual.map((v, k) => Math.fround(v * normWeight[k])) : residual);
        const residual32 = new Float32Array(xStride);
        residual32.set(residual);

        const segments = Math.ceil(N / ROWS);
        const input = { gate, up, x, K, activation, segment: ROWS, gateBias, upBias, all: ALL === 1 };
        const want = twin({ ...input, threshold });
        const { open, bound } = leeway(input, threshold, one);
        const list = lab.poisoned(segments + N + 3);
        const out = lab.poisoned(N + 3);
        const wide = (bias?: Float32Array) => {
          const four = new Float32Array(N * 4).fill(Number.NaN);
          for (let r = 0; r < N; r++) four[r * 4] = bias ? bias[r] : 0;
          return lab.rows(one.bias === 'row_texels' ? 'texture' : 'buffer', four);
        };
        lab.run({
          table: gateUpActive,
          variant: {
            slots: {
              ...slots,
              x: xSlot(slots.x, one.STAGED),
              team: one.team,
              tile: one.tile,
              bias: one.bias,
              activation,
              norm: one.norm,
            },
            constants: {
              ROWS,
              WORKGROUP,
              ALL,
              X_QUADS: xStride / 4,
              OCTETS: octets(ctx.device, seed),
            },
          },
          params: rowParams({
            rows: N,
            ...rowShape(K, weights),
            units,
            xStride: xStride / 4,
            threshold,
            norm: { columns: K, eps },
          }),
          buffers: {
            weights: lab.rows(one.storage, storeRows([given[0]], K, every, weights)),
            up_weights: lab.rows(one.storage, storeRows([given[1]], K, every, weights)),
            bias: wide(gateBias),
            up_bias: wide(upBias),
            x: lab.buffer(given32),
            residual: lab.buffer(residual32),
            out,
            list,
          },
          grid: [Math.ceil(segments / one.fold) + (one.fold - 1), one.fold, 1],
        });
        const gotList = await lab.read(list);
        const got = await lab.read(out);
        const values = new Float32Array(got.buffer);
        want.forEach(({ ids, values: wanted }, s) => {
          // With ALL the rows stand in their own order, and no list is made.
          const count = ALL === 1 ? ids.length : gotList[s];
          const found = ALL === 1 ? ids : [...gotList.subarray(segments + s * ROWS).subarray(0, count)];
          const sure = (id: number) => !open.has(id);
          expect(found.filter(sure), `segment ${s}`).toEqual(ids.filter(sure));
          expect(found, 'ascending, each once, of this segment').toEqual(
            every.filter((id) => Math.floor(id / ROWS) === s && found.includes(id)),
          );
          found.forEach((id, i) => {
            if (sure(id))
              expect(
                Math.abs(values[s * ROWS + i] - wanted[ids.indexOf(id)]),
                `row ${id}`,
              ).toBeLessThanOrEqual(bound(id));
          });
          // Nothing is written where no row is active.
          for (let i = count; i < Math.min(ROWS, N - s * ROWS); i++)
            expect(got[s * ROWS + i]).toBe(poisoned(1)[0]);
        });
        expect([...got.subarray(N)]).toEqual([...poisoned(3)]);
        const unwritten = ALL === 1 ? gotList : gotList.subarray(segments + N);
        expect([...unwritten]).toEqual([...poisoned(unwritten.length)]);
      }),
    );
  });

  it('keeps a NaN active, so that it shows', () =>
    useLab(ctx.device, async (lab) => {
      const K = 32;
      const gate = randomValues(source(5), N * K);
      gate[10 * K] = Number.NaN;
      const every = Array.from({ length: N }, (_, i) => i);
      const list = lab.poisoned(2 + N);
      lab.run({
        table: gateUpActive,
        variant: {
          slots: {
            ...unitsOf('f32', 'vector', K).slots,
            team: 'lane',
            tile: '4x1',
            bias: 'none',
            activation: 'identity',
            norm: 'none',
          },
          constants: { ROWS: 64, WORKGROUP: 8 },
        },
        params: rowParams({ rows: N, ...rowShape(K, 'f32'), xStride: K / 4, threshold: 1e9 }),
        buffers: {
          weights: lab.buffer(storeRows([gate], K, every, 'f32')),
          up_weights: lab.buffer(storeRows([gate], K, every, 'f32')),
          x: lab.buffer(new Float32Array(K).fill(1)),
          out: lab.poisoned(N),
          list,
        },
        grid: [2, 1, 1],
      });
      expect([...(await lab.read(list)).subarray(0, 3)]).toEqual([1, 0, 10]);
    }));
});

const segmented = pairwise(
  {
    weights: ['f32', 'f16', 'q8', 'q4'],
    sums: ['1x1', '1x2', 'row'],
    storage: ['buffer', 'texture'],
    splits: [1, 2, 5],
    H: [4, 77, 200],
    counts: ['some', 'none', 'all'],
    finish: ['partials', 'residual'],
  } as const,
  source(22),
  ({ splits, finish }) => finish === 'partials' || splits === 1,
);

describeAdapters('down over segments', (ctx) => {
  const SEGMENT = 16;
  segmented.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { weights, H, splits, sums, finish } = one;
        const random = source(seed + 300);
        const width = weights === 'q8' || weights === 'q4' ? 'word' : 'vector';
        const { slots, units } = unitsOf(weights, width, H, 'f32', one.storage);
        const given = randomValues(random, N * H);
        const D = stored(given, H, weights);
        const segments = Math.ceil(N / SEGMENT);
        const list = poisoned(segments + N);
        const a = new Float32Array(N).fill(Number.NaN);
        const spans: { row: number; column: number }[][] = [];
        for (let s = 0; s < segments; s++) {
          const rows = Math.min(SEGMENT, N - s * SEGMENT);
          const ids = Array.from({ length: rows }, (_, i) => s * SEGMENT + i).filter(
            () => one.counts === 'all' || (one.counts === 'some' && random() < 0.4),
          );
          list[s] = ids.length;
          ids.forEach((id, i) => {
            list[segments + s * SEGMENT + i] = id;
            a[s * SEGMENT + i] = 2 * random() - 1;
          });
          spans.push(ids.map((id, i) => ({ row: id, column: s * SEGMENT + i })));
        }
        const quads = Math.ceil(H / 4);
        const shape = rowShape(H, weights);
        const share = Math.ceil(segments / splits);
        const [bias, before, nextNorm] = [0, 1, 2].map(() => randomValues(random, quads * 4));
        const out = lab.buffer(before);
        const scaled = lab.poisoned(quads * 4);
        const partials = lab.poisoned(splits * quads * 4);
        // Three vectors of 8 lanes each do not come out even.
        const vectors = sums === 'row' ? 3 : Number(sums[2]);
        const perVector = Number(slots.quads);
        lab.run({
          table: down,
          variant: {
            slots: { dtype: slots.dtype, quads: slots.quads, sums, rows: 'segments', finish },
            constants: { WORKGROUP: 8, SEGMENT, ...(sums === 'row' ? { LANE_VECTORS: vectors } : {}) },
          },
          params: [N, 0, quads, N, 0, H, quads * 4, shape.stride, units, shape.dotVectors],
          step: [1],
          buffers: {
            weights: lab.rows(
              one.storage,
              storeRows(
                [given],
                H,
                Array.from({ length: N }, (_, i) => i),
                weights,
              ),
            ),
            a: lab.buffer(a),
            row_list: lab.buffer(list),
            partials,
            out,
            bias: lab.buffer(bias),
            scaled,
            next_norm: lab.buffer(nextNorm),
          },
          grid: [Math.ceil(units / (8 * vectors)), splits, 1],
        });
        expect(perVector).toBeGreaterThan(0);
        const twins = Array.from({ length: splits }, (_, split) => {
          const terms = spans.slice(split * share, (split + 1) * share).flat();
          return downTwin({ D, H, a, columns: N, terms, splits: 1 });
        });
        if (finish === 'partials') {
          const got = new Float32Array((await lab.read(partials)).buffer);
          twins.forEach((sum, split) => {
            for (let c = 0; c < H; c++)
              expect(Math.abs(got[split * quads * 4 + c] - sum[c])).toBeLessThan(2e-4);
          });
          return;
        }
        const got = new Float32Array((await lab.read(out)).buffer);
        const gotScaled = await lab.read(scaled);
        for (let c = 0; c < H; c++) {
          expect(Math.abs(got[c] - (before[c] + bias[c] + twins[0][c]))).toBeLessThan(2e-4);
        }
        const wantScaled = new Expected(quads * 4);
        for (let c = 0; c < H; c++) wantScaled.set(c, Math.fround(got[c] * nextNorm[c]));
        wantScaled.check(gotScaled);
      }),
    );
  });
});

describeAdapters('linear with its norm and the next one', (ctx) => {
  it.for(['lane', 'subgroup', 'workgroup'] as const)('%s', (team, { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkTeam(team, ctx, skip);
      const K = 300;
      const rows = 21;
      const random = source(31);
      const W = randomValues(random, rows * K);
      const [residual, weight] = [randomValues(random, K), randomValues(random, K)];
      const [before, nextNorm] = [randomValues(random, rows), randomValues(random, rows)];
      const eps = 1e-4;
      const xStride = activationStride(K);
      const padded = (values: Float32Array) => {
        const all = new Float32Array(xStride);
        all.set(values);
        return lab.buffer(all);
      };
      const out = lab.buffer(before);
      const scaled = lab.poisoned(rows);
      lab.run({
        table: linear,
        variant: {
          slots: {
            ...unitsOf('f32', 'vector', K).slots,
            team,
            tile: '4x1',
            rows: 'dense',
            bias: 'none',
            activation: 'identity',
            norm: 'rms',
            put: 'residual',
          },
          constants: { WORKGROUP: 16, ROWS: 8 },
        },
        params: rowParams({
          rows,
          ...rowShape(K, 'f32'),
          xStride: xStride / 4,
          outStride: rows,
          norm: { columns: K, eps },
        }),
        step: [1],
        buffers: {
          weights: lab.buffer(
            storeRows(
              [W],
              K,
              Array.from({ length: rows }, (_, i) => i),
              'f32',
            ),
          ),
          x: padded(residual.map((v, k) => Math.fround(v * weight[k]))),
          residual: padded(residual),
          out,
          scaled,
          next_norm: lab.buffer(nextNorm),
        },
        grid: [Math.ceil(rows / 8), 1, 1],
      });
      const x = normTwin(residual, weight, eps);
      const got = new Float32Array((await lab.read(out)).buffer);
      const gotScaled = new Float32Array((await lab.read(scaled)).buffer);
      for (let r = 0; r < rows; r++) {
        let sum = before[r];
        for (let k = 0; k < K; k++) sum += W[r * K + k] * x[k];
        expect(Math.abs(got[r] - sum)).toBeLessThan(2e-4);
        expect(gotScaled[r]).toBe(Math.fround(got[r] * nextNorm[r]));
      }
    }),
  );
});
