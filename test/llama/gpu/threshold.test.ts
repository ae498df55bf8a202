/** Mode threshold: every strategy leaves out the same rows, those that the float64 twin leaves out. */
import { describe, expect, it } from 'vitest';
import { OptionError } from '../../../src/errors.js';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { activeRows, chooseThresholds, gateTwin } from '../../support/gate-twin.js';
import { LlamaTwin } from '../../support/llama-twin.js';
import { type MakeModelOptions, makeModel, randomSource } from '../../support/make-model.js';

const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
const ALLOWED = 5e-5;
const IDS = [3, 14, 15, 9, 26, 5, 31, 8, 9, 7, 23, 2];
const PREFILLED = 5;

const MODELS: MakeModelOptions[] = [
  { act: 'silu', hidden: 20, intermediate: 70, heads: 2, headDim: 10, layers: 3, seed: 4 },
  { act: 'gelu', hidden: 20, intermediate: 37, heads: 2, headDim: 10, mlpBias: true, seed: 5 },
  { act: 'gelu_new', hidden: 20, intermediate: 37, heads: 2, headDim: 10, seed: 6 },
  { act: 'relu', hidden: 20, intermediate: 65, heads: 4, kvHeads: 2, headDim: 10, seed: 7 },
];

describeAdapters('mode threshold', (ctx) => {
  async function withWeights(
    checkpoint: Checkpoint,
    use: (weights: LlamaWeights) => Promise<void>,
  ): Promise<void> {
    const weights = await loadWeights(ctx.device, checkpoint);
    try {
      await use(weights);
    } finally {
      weights.destroy();
    }
  }

  /** Logits from the prompt's last token on, and the active rows of each decoded token. */
  async function decode(weights: LlamaWeights, options: SessionOptions) {
    const session = new LlamaSession(ctx.device, weights, { prefillChunk: 4, ...options });
    try {
      const logits = [await session.prefill(IDS.slice(0, PREFILLED))];
      const active: (number[] | null)[] = [];
      for (const id of IDS.slice(PREFILLED)) {
        logits.push(await session.next(id));
        active.push(session.lastStep.active);
      }
      return { logits, active };
    } finally {
      session.destroy();
    }
  }

  it.each(MODELS)('leaves out the rows that the twin does: $act', async (options) => {
    const checkpoint = await openCheckpoint(makeModel(options));
    const { layers, intermediateSize } = checkpoint.config;
    const thresholds = await chooseThresholds(checkpoint, IDS, randomSource(11));
    const expected = (await LlamaTwin.load(checkpoint, { threshold: thresholds })).forward(IDS);
    const whole = (await LlamaTwin.load(checkpoint)).forward(IDS);
    // Otherwise a session that ignores its thresholds would pass.
    expect(largestDifference(expected[IDS.length - 1], whole[IDS.length - 1])).toBeGreaterThan(100 * ALLOWED);
    const counts = IDS.slice(PREFILLED).map(() => [] as number[]);
    for (let layer = 0; layer < layers; layer++) {
      const gates = await gateTwin(checkpoint, layer, IDS, thresholds);
      for (const [step, row] of counts.entries())
        row.push(activeRows(gates[PREFILLED + step], thresholds[layer]).length);
    }
    expect(counts.flat().every((count) => count > 0 && count < intermediateSize)).toBe(true);
    await withWeights(checkpoint, async (weights) => {
      for (const strategy of STRATEGIES) {
        const { logits, active } = await decode(weights, { strategy, mode: 'threshold', thresholds });
        for (const [i, found] of logits.entries())
          expect(
            largestDifference(found, expected[PREFILLED - 1 + i]),
            `${strategy}, step ${i}`,
          ).toBeLessThan(ALLOWED);
        expect(active, strategy).toEqual(strategy === 'dense' ? counts.map(() => null) : counts);
      }
    });
  });

  it('goes on when a threshold leaves out every row, and when rows come back', async () => {
    const checkpoint = await openCheckpoint(makeModel(MODELS[3]));
    const gates = await gateTwin(checkpoint, 1, IDS, [1e6]);
    const largest = gates.map((values) => Math.max(...values.map(Math.abs)));
    // Some tokens have rows above it and some have none.
    const sorted = largest.slice(PREFILLED).sort((a, b) => a - b);
    const middle = (sorted[3] + sorted[4]) / 2;
    expect(sorted[4] - sorted[3]).toBeGreaterThan(1e-4);
    const thresholds = [1e6, middle];
    const expected = (await LlamaTwin.load(checkpoint, { threshold: thresholds })).forward(IDS);
    const counts = gates.slice(PREFILLED).map((values) => [0, activeRows(values, middle).length]);
    expect(counts.some(([, count]) => count === 0)).toBe(true);
    expect(counts.some(([, count]) => count > 0)).toBe(true);
    await withWeights(checkpoint, async (weights) => {
      for (const strategy of STRATEGIES) {
        const { logits, active } = await decode(weights, { strategy, mode: 'threshold', thresholds });
        for (const [i, found] of logits.entries())
          expect(
            largestDifference(found, expected[PREFILLED - 1 + i]),
            `${strategy}, step ${i}`,
          ).toBeLessThan(ALLOWED);
        if (strategy !== 'dense') expect(active, strategy).toEqual(counts);
      }
    });
  });

  it('is mode exact when every threshold is 0', async () => {
    for (const options of [MODELS[0], MODELS[3]]) {
      const checkpoint = await openCheckpoint(makeModel(options));
      const thresholds = new Array<number>(checkpoint.config.layers).fill(0);
      await withWeights(checkpoint, async (weights) => {
        for (const strategy of STRATEGIES) {
          const exact = await decode(weights, { strategy });
          expect(await decode(weights, { strategy, mode: 'threshold', thresholds })).toEqual(exact);
        }
      });
    }
  });

  it('shows act(gate) of a prompt to the calibration', async () => {
    const checkpoint = await openCheckpoint(makeModel(MODELS[1]));
    const { layers, intermediateSize: n } = checkpoint.config;
    const expected = await Promise.all(
      Array.from({ length: layers }, (_, layer) => gateTwin(checkpoint, layer, IDS)),
    );
    await withWeights(checkpoint, async (weights) => {
      const session = new LlamaSession(ctx.device, weights, { strategy: 'dense' });
      const seen: number[] = [];
      await session.visitGates(IDS, (layer, { gates: values, gateStride: stride }) => {
        seen.push(layer);
        for (const [i, gates] of expected[layer].entries())
          expect(largestDifference(values.subarray(i * stride, i * stride + n), gates)).toBeLessThan(ALLOWED);
      });
      session.destroy();
      expect(seen).toEqual(Array.from({ length: layers }, (_, layer) => layer));
    });
  });

  describe('thresholds that do not fit', () => {
    it.each<[string, SessionOptions, RegExp]>([
      ['none', {}, /needs a threshold per layer/],
      ['too few', { thresholds: [0.1] }, /needs 2 finite thresholds/],
      ['too many', { thresholds: [0.1, 0.1, 0.1] }, /needs 2 finite thresholds/],
      ['negative', { thresholds: [0.1, -0.1] }, /0\.1,-0\.1/],
      ['NaN', { thresholds: [Number.NaN, 0.1] }, /NaN/],
      ['infinite', { thresholds: [0.1, Number.POSITIVE_INFINITY] }, /Infinity/],
    ])('%s: OptionError, nothing allocated', async (_name, options, message) => {
      await withWeights(await openCheckpoint(makeModel()), async (weights) => {
        const before = gpuBytes(ctx.device);
        const make = () => new LlamaSession(ctx.device, weights, { mode: 'threshold', ...options });
        expect(make).toThrow(OptionError);
        expect(make).toThrow(message);
        expect(gpuBytes(ctx.device)).toBe(before);
      });
    });
  });
});
