/** Predictors of active rows: fitted, limited, judged, stored and read. No GPU. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ModelFormatError, OptionError } from '../../src/errors.js';
import { encodeF16 } from '../../src/dtype.js';
import { MemorySource } from '../../src/io/byte-source.js';
import {
  judgePredictor,
  type LayerSample,
  limitFor,
  type PredictorFit,
  rankActive,
  withLimit,
} from '../../src/llama/calibrate-predictor.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { fitLowRank, fitSigns } from '../../src/llama/fit-predictor.js';
import { encodePredictor, readPredictor } from '../../src/llama/predictor.js';
import { openSafetensors } from '../../src/llama/safetensors.js';
import { packPlanes, predictorScores, type RowPredictor } from '../../src/mlp/predictor.js';
import { loadEigen } from '../../src/node/eigen.js';
import { makeModel, randomSource, writeSafetensors } from '../support/make-model.js';

const ROWS = 48;
const COLUMNS = 24;
const eigen = await loadEigen();

/** A gate, and inputs whose columns are of very different sizes, as a model's are, about a mean that is not 0. */
function makeLayer(seed: number, tokens = 200): { gate: Float32Array; sample: LayerSample } {
  const random = randomSource(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const gate = Float32Array.from({ length: ROWS * COLUMNS }, normal);
  const inputs = Float32Array.from(
    { length: tokens * COLUMNS },
    (_, i) => 0.7 ** (i % COLUMNS) * 3 * normal() + 0.2,
  );
  const starts = new Uint32Array(tokens + 1);
  const rows: number[] = [];
  const sizes: number[] = [];
  for (let t = 0; t < tokens; t++) {
    for (let r = 0; r < ROWS; r++) {
      const g = gateOf(gate, inputs, r, t);
      if (g > 1) rows.push(r);
      if (g > 1) sizes.push(g);
    }
    starts[t + 1] = rows.length;
  }
  const found = { rows: Uint32Array.from(rows), sizes: Float32Array.from(sizes) };
  return { gate, sample: { tokens, columns: COLUMNS, inputs, starts, ...found } };
}

function gateOf(gate: Float32Array, inputs: Float32Array, row: number, token: number): number {
  let sum = 0;
  for (let c = 0; c < COLUMNS; c++) sum += gate[row * COLUMNS + c] * inputs[token * COLUMNS + c];
  return sum;
}

/** Mean square of what a fit makes of the gates less what they are, over the mean square of those. */
function errorOf(
  { predictor, gain, offset }: PredictorFit,
  gate: Float32Array,
  { inputs, tokens }: LayerSample,
): number {
  const scores = new Float64Array(ROWS);
  let error = 0;
  let all = 0;
  for (let t = 0; t < tokens; t++) {
    predictorScores(predictor, inputs.subarray(t * COLUMNS, (t + 1) * COLUMNS), scores);
    for (let r = 0; r < ROWS; r++) {
      const g = gateOf(gate, inputs, r, t);
      error += (gain[r] * scores[r] + offset[r] - g) ** 2;
      all += g ** 2;
    }
  }
  return error / all;
}

describe('low rank', () => {
  const { gate, sample } = makeLayer(1);

  it('of full rank is the gate', () => {
    for (const weighted of [true, false])
      expect(
        errorOf(fitLowRank(gate, sample, { rank: COLUMNS, weighted, eigen }), gate, sample),
      ).toBeLessThan(1e-9);
  });

  it('is nearer the higher its rank, and nearest where it is weighted by the inputs', () => {
    let last = 1;
    for (const rank of [1, 3, 8]) {
      const of = (weighted: boolean) =>
        errorOf(fitLowRank(gate, sample, { rank, weighted, eigen }), gate, sample);
      expect(of(true)).toBeLessThan(last);
      last = of(true);
      expect(last).toBeLessThan(0.5 * of(false));
    }
  });

  it('refuses a rank that there is none of', () => {
    for (const rank of [0, 1.5, COLUMNS + 1])
      expect(() => fitLowRank(gate, sample, { rank, eigen })).toThrow(OptionError);
  });
});

describe('signs', () => {
  const { gate, sample } = makeLayer(2);
  const error = (bits: number, inputBits: number) =>
    errorOf(fitSigns(gate, sample, { bits, inputBits }), gate, sample);

  it('are nearer the more bits they have', () => {
    const one = error(1, 1);
    const [both, all] = [error(2, 3), error(4, 4)];
    expect(one).toBeLessThan(0.9);
    expect(both).toBeLessThan(0.6 * one);
    expect(all).toBeLessThan(0.5 * both);
  });

  it('refuses bits that there are none of', () => {
    expect(() => error(0, 1)).toThrow(OptionError);
    expect(() => error(1, 5)).toThrow(/input bits must be.*it is 5/);
  });

  it('score by planes what their levels come to', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 70 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer(),
        (columns, bits, inputBits, seed) => {
          const random = randomSource(seed);
          const q = Array.from({ length: columns }, () => Math.floor(random() * 2 ** bits));
          const x = Array.from({ length: columns }, () => 4 * random() - 2);
          const planes = Uint32Array.from(packPlanes(q, bits));
          const limits = new Float32Array(1);
          const predictor = { kind: 'signs', bits, inputBits, scale: 1.3, planes, limits } as const;
          const most = 2 ** inputBits - 1;
          const dot = x.reduce((sum, value, c) => {
            const p = Math.max(0, Math.min(most, Math.floor(value * 1.3 + 2 ** inputBits / 2)));
            return sum + (2 * p - most) * (2 * q[c] + 1 - 2 ** bits);
          }, 0);
          expect(predictorScores(predictor, x, new Float64Array(1))[0]).toBe(dot);
        },
      ),
    );
  });
});

describe('limits', () => {
  it('find the share of sizes that was asked for, and hardly more', () => {
    fc.assert(
      fc.property(fc.integer(), fc.double({ min: 0.3, max: 1, noNaN: true }), (seed, recall) => {
        const { gate, sample } = makeLayer(seed, 40);
        const fit = fitSigns(gate, sample, { bits: 1, inputBits: 3 });
        const ranked = rankActive(fit, sample);
        const t = limitFor(ranked, recall);
        const { massRecall, recall: found, precision } = judgePredictor(withLimit(fit, t), sample);
        // Limits are f32: what is at one may go either way.
        expect(massRecall).toBeGreaterThan(recall - 0.02);
        if (recall === 1) expect(found).toBe(1);
        else expect(massRecall).toBeLessThan(recall + 0.1);
        expect(precision).toBeGreaterThan(sample.rows.length / (ROWS * sample.tokens) - 0.05);
      }),
      { numRuns: 20 },
    );
  });

  it('refuse a share that is none', () => {
    const ranked = { seeming: Float64Array.of(1), mass: Float64Array.of(1) };
    for (const recall of [0, 1.1, Number.NaN]) expect(() => limitFor(ranked, recall)).toThrow(OptionError);
  });
});

describe('the file', async () => {
  const { config } = await openCheckpoint(
    makeModel({ hidden: COLUMNS, intermediate: ROWS, layers: 2, heads: 2 }),
  );
  const { gate, sample } = makeLayer(3);
  const open = (bytes: Uint8Array) => openSafetensors(new MemorySource(bytes, 'p.safetensors'));
  const read = async (bytes: Uint8Array) => readPredictor(await open(bytes), config);
  const at = (name: string, l = 0) => `model.layers.${l}.mlp.predictor.${name}`;
  const tensor = (name: string, shape: number[], values: Float32Array, dtype = 'F32') => {
    const data = dtype === 'F16' ? encodeF16(values) : values;
    return { name, dtype, shape, data };
  };

  it('is read as it was written', async () => {
    const signs = [1, 3].map((bits) => withLimit(fitSigns(gate, sample, { bits: 2, inputBits: 3 }), bits));
    const low = [1, 2].map((rank) => withLimit(fitLowRank(gate, sample, { rank, eigen }), 0.5));
    for (const layers of [signs, low] as RowPredictor[][]) {
      const bytes = encodePredictor({ layers }, COLUMNS, { recall: '0.9' });
      expect(await readPredictor(await open(bytes), config)).toEqual({ layers });
      expect((await open(bytes)).metadata.get('recall')).toBe('0.9');
    }
  });

  it('may be of a learned predictor, without a bias and in f16', async () => {
    const fc1 = Float32Array.from({ length: 3 * COLUMNS }, (_, i) => i / 8);
    const fc2 = Float32Array.from({ length: ROWS * 3 }, (_, i) => -i / 4);
    const tensors = [0, 1].flatMap((l) => [
      tensor(at('fc1.weight', l), [3, COLUMNS], fc1, 'F16'),
      tensor(at('fc2.weight', l), [ROWS, 3], fc2, 'F16'),
    ]);
    const layer = { kind: 'low_rank', rank: 3, project: fc1, expand: fc2, limits: new Float32Array(ROWS) };
    expect(await read(writeSafetensors(tensors))).toEqual({ layers: [layer, layer] });
  });

  it('is refused where it does not fit the model', async () => {
    const fc1 = tensor(at('fc1.weight'), [3, COLUMNS], new Float32Array(3 * COLUMNS));
    const fc2 = tensor(at('fc2.weight'), [ROWS, 4], new Float32Array(ROWS * 4));
    const planes = { name: at('planes'), dtype: 'U32', shape: [ROWS, 1, 1], data: new Uint32Array(ROWS) };
    for (const [tensors, metadata, message] of [
      [[], {}, /has no tensor "model.layers.0.mlp.predictor.fc1.weight"/],
      [[fc1, fc2], {}, /fc2.weight" is \[48,4\], not \[48,3\]/],
      [[planes], {}, /metadata has no number "bits"/],
      [[planes], { bits: '2', input_bits: '1', scale: '1' }, /planes" is \[48,1,1\], not \[48,2,1\]/],
    ] as const) {
      const error = await read(writeSafetensors(tensors, metadata)).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(ModelFormatError);
      expect((error as Error).message).toMatch(message);
    }
  });
});
