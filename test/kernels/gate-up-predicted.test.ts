/** The gated layer whose rows are predicted. */
import { expect, it } from 'vitest';
import { gateUpPredicted as twin, lowRankScores, signScores } from '../../shaders/gate_up_predicted.js';
import { rmsNorm as normTwin } from '../../shaders/rms_norm.js';
import { f32Bits } from '../../src/gpu/buffers.js';
import { activationStride } from '../../src/gpu/layout.js';
import { gateUpPredicted } from '../../src/mlp/threshold-kernels.js';
import {
  latentValues,
  packPlanes,
  planeWords,
  predictorCodes,
  type RowPredictor,
} from '../../src/mlp/predictor.js';
import { unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { poisoned, rowParams, rowShape, storeRows, useLab } from './lab.js';
import { octets, checkTeam, nears, randomValues, source, xSlot } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 150;

const cases = pairwise(
  {
    predictor: ['low_rank', 'signs'],
    weights: ['f32', 'q8'],
    storage: ['buffer', 'texture'],
    STAGED: [0, 1],
    team: ['lane', 'subgroup', 'workgroup'],
    tile: ['1x1', '4x1'],
    activation: ['relu', 'silu'],
    threshold: [0, 0.5],
    norm: ['none', 'rms'],
    ROWS: [32, 256],
    WORKGROUP: [8, 64],
    K: [20, 77],
    rank: [1, 20],
    bits: [1, 3],
    inputBits: [1, 4],
    fold: [1, 2],
  } as const,
  source(41),
  // Software adapters take seconds to compile a team of a workgroup with tiles.
  ({ STAGED, predictor, rank, bits, inputBits, team, tile, WORKGROUP }) =>
    nears({ STAGED, tile }) &&
    (predictor === 'low_rank' ? bits === 1 && inputBits === 1 : rank === 1) &&
    (team !== 'workgroup' || (tile === '1x1' && WORKGROUP === 8)),
);

/** A predictor of random values, the scores it gives x, and by how much the device's may differ. */
function make(
  { predictor: kind, K, rank, bits, inputBits }: (typeof cases)[number],
  random: () => number,
  x: ArrayLike<number>,
): { predictor: RowPredictor; scores: Float64Array; leeway: number } {
  if (kind === 'low_rank') {
    const limits = new Float32Array(N).map(() => 0.5 * (2 * random() - 1));
    // Halves, as they are stored.
    const expand = stored(randomValues(random, N * rank), rank, 'f16');
    const project = randomValues(random, rank * K);
    const predictor = { kind, rank, project, expand: Float32Array.from(expand), limits } as const;
    return { predictor, scores: lowRankScores(predictor, x), leeway: 1e-3 };
  }
  const q = Uint8Array.from({ length: N * K }, () => Math.floor(random() * 2 ** bits));
  const planes = new Uint32Array(N * bits * planeWords(K));
  for (let r = 0; r < N; r++)
    packPlanes(q.subarray(r * K, (r + 1) * K), bits, planes, r * bits * planeWords(K));
  // Between the integers that scores are: no row is at its limit.
  const limits = Float32Array.from({ length: N }, () => Math.round(K * (2 * random() - 1)) + 0.5);
  const scale = 0.3 + 3 * random();
  const levels = Float64Array.from(q, (v) => 2 * v + 1 - 2 ** bits);
  const predictor = { kind, bits, inputBits, scale, planes, limits } as const;
  return { predictor, scores: signScores({ levels, bits: inputBits, scale, limits }, x), leeway: 0 };
}

describeAdapters('gate_up_predicted', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        checkTeam(one.team, ctx, skip);
        const { K, weights, activation, threshold, ROWS, WORKGROUP } = one;
        const width = weights === 'q8' ? 'word' : 'vector';
        const { slots, units } = unitsOf(weights, width, K, 'f32', one.storage);
        const random = source(seed + 700);
        const given = [randomValues(random, N * K), randomValues(random, N * K)];
        const [gate, up] = given.map((matrix) => stored(matrix, K, weights));
        const every = Array.from({ length: N }, (_, i) => i);
        const xStride = activationStride(K);
        const residual = randomValues(random, K);
        const normWeight = randomValues(random, K);
        const eps = 1e-3;
        const x = one.norm === 'rms' ? normTwin(residual, normWeight, eps) : Float64Array.from(residual);
        // What is beyond the columns must not count: poison of the kind that any sum would show.
        const given32 = new Float32Array(xStride);
        given32.set(one.norm === 'rms' ? residual.map((v, k) => Math.fround(v * normWeight[k])) : residual);
        const residual32 = new Float32Array(xStride);
        residual32.set(residual);
        const { predictor, scores, leeway } = make(one, random, x);
        const { vectors, data } = predictorCodes(predictor, K);
        const latent = new Float32Array(latentValues(one.rank));
        if (predictor.kind === 'low_rank') {
          for (let k = 0; k < one.rank; k++)
            for (let c = 0; c < K; c++) latent[k] += predictor.project[k * K + c] * x[c];
          latent[one.rank] = 1;
        }
        const segments = Math.ceil(N / ROWS);
        const want = twin({ gate, up, x, K, activation, threshold, segment: ROWS, scores });
        // A row so near its limit that rounding decides: either will do. Few, or the test would say nothing.
        const open = new Set(every.filter((r) => Math.abs(scores[r]) <= leeway * one.rank));
        expect(open.size).toBeLessThan(N / 10);
        const list = lab.poisoned(2 * segments + N + 3);
        const out = lab.poisoned(N + 3);
        lab.run({
          table: gateUpPredicted,
          variant: {
            slots: {
              ...slots,
              x: xSlot(slots.x, one.STAGED),
              team: one.team,
              tile: one.tile,
              activation,
              norm: one.norm,
              predictor: one.predictor,
            },
            constants: {
              ROWS,
              WORKGROUP,
              VECTORS: vectors,
              BITS: one.bits,
              INPUT_BITS: one.inputBits,
              WORDS: planeWords(K),
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
            predict: lab.uniform([K, f32Bits(predictor.kind === 'signs' ? predictor.scale : 0)]),
            weights: lab.rows(one.storage, storeRows([given[0]], K, every, weights)),
            up_weights: lab.rows(one.storage, storeRows([given[1]], K, every, weights)),
            codes: lab.buffer(data),
            latent: lab.buffer(latent),
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
        const tolerance = (weights === 'f32' ? 4e-5 : 2e-4) * (1 + K);
        want.forEach(({ predicted, ids, values: wanted }, s) => {
          const sure = (id: number) => !open.has(id);
          const count = gotList[s];
          const found = [...gotList.subarray(segments + s * ROWS).subarray(0, count)];
          expect(found.filter(sure), `segment ${s}`).toEqual(ids.filter(sure));
          expect(found, 'ascending, each once, of this segment').toEqual(
            every.filter((id) => Math.floor(id / ROWS) === s && found.includes(id)),
          );
          const near = [...open].filter((id) => Math.floor(id / ROWS) === s).length;
          expect(Math.abs(gotList[segments + N + s] - predicted.length)).toBeLessThanOrEqual(near);
          found.forEach((id, i) => {
            if (sure(id))
              expect(Math.abs(values[s * ROWS + i] - wanted[ids.indexOf(id)])).toBeLessThan(tolerance);
          });
          for (let i = count; i < Math.min(ROWS, N - s * ROWS); i++) {
            expect(got[s * ROWS + i], 'nothing is written where no row is active').toBe(poisoned(1)[0]);
            expect(gotList[segments + s * ROWS + i]).toBe(poisoned(1)[0]);
          }
        });
        expect([...got.subarray(N)]).toEqual([...poisoned(3)]);
        expect([...gotList.subarray(2 * segments + N)]).toEqual([...poisoned(3)]);
      }),
    );
  });
});
