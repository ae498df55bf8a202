/** Teams at their edges: workgroups smaller than a subgroup, or with a team that does not fill it. */
import { expect, it } from 'vitest';
import { gateUp as gateUpTwin } from '../../shaders/gate_up.js';
import { linear as twin } from '../../shaders/linear.js';
import { gateUp } from '../../src/mlp/kernels.js';
import { modelLinear as linear } from '../../src/mlp/model-kernels.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { residentUnits, unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes } from './compare.js';
import { rowParams, rowShape, storeRows, useLab } from './lab.js';
import { checkTeam, randomValues, source } from './make.js';

const N = 21;
const K = 300;

describeAdapters('teams', (ctx) => {
  // Subgroups have 4 lanes on SwiftShader, 8 on lavapipe, 32 or 64 on most GPUs.
  // Of eight lanes exactly they add by shuffles, in workgroups of whole subgroups.
  it.for([
    [1, 0],
    [2, 0],
    [4, 0],
    [8, 0],
    [32, 0],
    [4, 1],
    [8, 1],
    [32, 1],
  ])('subgroups in workgroups of %d, octets %d', ([WORKGROUP, OCTETS], { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkTeam('subgroup', ctx, skip);
      const { subgroupMinSize: least, subgroupMaxSize: most } = ctx.device.adapterInfo;
      if (OCTETS === 1 && !(least === 8 && most === 8))
        skip(`${ctx.adapter.name} has subgroups of ${least} to ${most} lanes, not of 8`);
      const random = source(WORKGROUP);
      const W = randomValues(random, N * K);
      const x = randomValues(random, K);
      const out = lab.poisoned(N + 3);
      lab.run({
        table: linear,
        variant: {
          slots: {
            dtype: 'f32',
            quads: '1',
            x: '1',
            tile: '1x1',
            norm: 'none',
            team: 'subgroup',
            rows: 'dense',
            bias: 'none',
            activation: 'identity',
            put: 'store',
          },
          constants: { WORKGROUP, ROWS: 3, OCTETS },
        },
        params: rowParams({ rows: N, stride: K / 4, dotVectors: K / 4, xStride: K / 4, outStride: N }),
        step: [1],
        buffers: {
          weights: lab.buffer(
            storeRows(
              [W],
              K,
              Array.from({ length: N }, (_, i) => i),
              'f32',
            ),
          ),
          x: lab.buffer(x),
          out,
        },
        grid: [N / 3, 1, 1],
      });
      new Expected(N + 3)
        .setRows(twin({ W, x, K }), twin({ W: sizes(W), x: sizes(x), K }), N, N)
        .check(await lab.read(out));
    }),
  );
});

describeAdapters('x in registers', (ctx) => {
  // Units a lane: one, some, as many as there are registers.
  it.for([1, 2, 3, 5, 8])('%d units a lane', (each, { skip }) =>
    useLab(ctx.device, async (lab) => {
      checkTeam('subgroup', ctx, skip);
      const lanes = traitsOf(ctx.device).subgroup;
      for (const dtype of ['f32', 'f16', 'q8', 'q4'] as const) {
        const width = dtype === 'q8' || dtype === 'q4' ? 'word' : 'vector';
        const quads = Number(unitsOf(dtype, width, 1).slots.quads);
        const cols = each * lanes * quads * 4;
        const random = source(each);
        const given = randomValues(random, N * cols);
        const W = stored(given, cols, dtype);
        const x = randomValues(random, cols);
        const every = Array.from({ length: N }, (_, i) => i);
        const out = lab.poisoned(N + 3);
        expect(residentUnits(dtype, width, cols, lanes)).toBe(each);
        lab.run({
          table: linear,
          variant: {
            slots: {
              ...unitsOf(dtype, width, cols).slots,
              tile: 'resident',
              norm: 'none',
              team: 'subgroup',
              rows: 'dense',
              bias: 'none',
              activation: 'identity',
              put: 'store',
            },
            constants: { WORKGROUP: 2 * lanes, ROWS: 4, RESIDENT: each },
          },
          params: rowParams({
            rows: N,
            ...rowShape(cols, dtype),
            units: unitsOf(dtype, width, cols).units,
            xStride: cols / 4,
            outStride: N,
          }),
          step: [1],
          buffers: { weights: lab.buffer(storeRows([given], cols, every, dtype)), x: lab.buffer(x), out },
          grid: [Math.ceil(N / 4), 1, 1],
        });
        new Expected(N + 3, dtype)
          .setRows(twin({ W, x, K: cols }), twin({ W: sizes(W), x: sizes(x), K: cols }), N, N)
          .check(await lab.read(out));
      }
    }),
  );

  it('is for rows that come out even', () => {
    expect(residentUnits('f32', 'vector', 8 * 4 * 8, 8)).toBe(8);
    expect(residentUnits('f32', 'vector', 9 * 4 * 8, 8)).toBe(0);
    expect(residentUnits('f32', 'vector', 36, 8)).toBe(0);
  });
});

describeAdapters('a part of x in registers, eight rows at a time', (ctx) => {
  // Units of x a lane keeps, dtype, and how often they are brought anew.
  it.for([
    [1, 'f32', 2],
    [2, 'f16', 3],
    [3, 'bf16', 1],
    [4, 'f16', 2],
    [4, 'q8', 1],
    [2, 'q4', 2],
  ] as const)('%d units of %s a lane', ([UNROLL, dtype, times], { skip }) =>
    useLab(ctx.device, async (lab) => {
      const traits = traitsOf(ctx.device);
      if (traits.subgroup !== 8) skip(`${ctx.adapter.name} has no subgroups of eight lanes`);
      const width =
        dtype === 'q8' || dtype === 'q4'
          ? 'word'
          : dtype === 'f16' && traits.subnormals
            ? 'shifted'
            : 'vector';
      const quads = Number(unitsOf(dtype, 'vector', 1).slots.quads) / (width === 'word' ? 4 : 1);
      const cols = UNROLL * 8 * quads * 4 * times;
      const { slots, units } = unitsOf(dtype, width, cols);
      const random = source(UNROLL + times);
      const given = [randomValues(random, N * cols), randomValues(random, N * cols)];
      const [gate, up] = given.map((values) => stored(values, cols, dtype));
      const x = randomValues(random, cols);
      const every = Array.from({ length: N }, (_, i) => i);
      // Two tiles and a part of one.
      const ids = every.filter((i) => i % 7 !== 3);
      const held = storeRows(given, cols, every, dtype);
      const run = (table: typeof linear, parts: number, out: GPUBuffer, more: Record<string, string>) => ({
        table,
        variant: {
          slots: {
            ...slots,
            tile: '8x1',
            team: 'subgroup',
            rows: 'indexed',
            bias: 'none',
            activation: 'silu',
            ...more,
          },
          constants: { WORKGROUP: 16, ROWS: 16, UNROLL, SUBGROUP: 8 },
        },
        params: rowParams({
          rows: N,
          ...rowShape(cols, dtype, parts),
          units,
          xStride: cols / 4,
          outStride: N,
        }),
        step: [1],
        buffers: {
          weights: lab.buffer(parts === 2 ? held : storeRows([given[0]], cols, every, dtype)),
          x: lab.buffer(x),
          out,
          row_list: lab.buffer(Uint32Array.of(ids.length, 0, 0, 0, ...ids)),
        },
        grid: [Math.ceil(N / 16), 1, 1] as const,
      });
      const [one, two] = [lab.poisoned(N + 3), lab.poisoned(N + 3)];
      lab.run(run(linear, 1, one, { norm: 'none', put: 'store', activation: 'identity' }));
      lab.run(run(gateUp, 2, two, {}));
      const only = <M extends Float32Array | Float64Array>(matrix: M) =>
        matrix.filter((_, i) => ids.includes(Math.floor(i / cols))) as M;
      new Expected(N + 3, dtype)
        .setRows(
          twin({ W: only(gate), x, K: cols }),
          twin({ W: only(sizes(gate)), x: sizes(x), K: cols }),
          ids.length,
          N,
        )
        .check(await lab.read(one));
      new Expected(N + 3, dtype)
        .setRows(
          gateUpTwin({ gate, up, x, K: cols, activation: 'silu', rows: ids }),
          gateUpTwin({
            gate: sizes(gate),
            up: sizes(up),
            x: sizes(x),
            K: cols,
            activation: 'identity',
            rows: ids,
          }),
          ids.length,
          N,
        )
        .check(await lab.read(two));
    }),
  );
});
