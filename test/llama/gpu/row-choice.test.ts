/** Modes predict, sigma and topk: which rows a token's layers take, by every strategy that reaches them. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { OptionError, ShapeError } from '../../../src/errors.js';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import type { ModelPredictor } from '../../../src/llama/predictor.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { planeWords, type RowPredictor } from '../../../src/mlp/predictor.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { argmax } from '../../support/llama-twin.js';
import { type MakeModelOptions, makeModel, randomSource } from '../../support/make-model.js';

const N = 70;
const H = 20;
const SHAPE: MakeModelOptions = {
  hidden: H,
  intermediate: N,
  heads: 2,
  headDim: 10,
  layers: 2,
  maxPositions: 64,
};
const RELU = { ...SHAPE, act: 'relu', seed: 3 } as const;
const PROMPT = [3, 1, 4, 1, 5];
const ALLOWED = 5e-5;
const LEFT_OUT = [2, 3, 11, 40, 41, 42, 69];

/** Predicts all rows but some, whatever the input. */
function constant(kind: RowPredictor['kind'], except: readonly number[]): ModelPredictor {
  const limits = Float32Array.from({ length: N }, (_, r) => (except.includes(r) ? 6e4 : -6e4));
  const random = randomSource(9);
  const values = (n: number) => Float32Array.from({ length: n }, () => random() - 0.5);
  const one = (): RowPredictor =>
    kind === 'low_rank'
      ? { kind, rank: 5, project: values(5 * H), expand: values(N * 5), limits }
      : {
          kind,
          bits: 2,
          inputBits: 3,
          scale: 2,
          planes: new Uint32Array(N * 2 * planeWords(H)).map(() => random() * 2 ** H),
          limits,
        };
  return { layers: [one(), one()] };
}

/** RELU, with the rows of up that are left out zeroed: what missing them must come to. */
async function withoutRows(rows: readonly number[]): Promise<Checkpoint> {
  const folder = makeModel(RELU);
  const checkpoint = await openCheckpoint(folder);
  const bytes = folder.files.get('model.safetensors') as Uint8Array;
  for (let l = 0; l < 2; l++) {
    const { begin, end } = checkpoint.info(`model.layers.${l}.mlp.up_proj.weight`);
    const rowBytes = (end - begin) / N;
    for (const r of rows) bytes.fill(0, begin + r * rowBytes, begin + (r + 1) * rowBytes);
  }
  return openCheckpoint(folder);
}

describeAdapters('rows chosen in other ways', (ctx) => {
  const loaded: LlamaWeights[] = [];
  let relu: LlamaWeights;
  let silu: LlamaWeights;
  let less: LlamaWeights;
  beforeAll(async () => {
    const load = async (checkpoint: Checkpoint) => {
      loaded.push(await loadWeights(ctx.device, checkpoint));
      return loaded[loaded.length - 1];
    };
    relu = await load(await openCheckpoint(makeModel(RELU)));
    silu = await load(await openCheckpoint(makeModel({ ...SHAPE, act: 'silu', seed: 4 })));
    less = await load(await withoutRows(LEFT_OUT));
  });
  afterAll(() => {
    for (const weights of loaded) weights.destroy();
  });

  /** Logits and active rows of tokens that are fed one by one, none of which was prefilled. */
  async function feed(weights: LlamaWeights, options: SessionOptions) {
    const session = new LlamaSession(ctx.device, weights, options);
    try {
      const logits: Float32Array[] = [];
      const steps = [];
      for (const id of [...PROMPT, ...PROMPT]) {
        logits.push(await session.next(id));
        steps.push(session.lastStep);
      }
      return { logits, steps, strategy: session.strategy };
    } finally {
      session.destroy();
    }
  }

  function near(found: readonly Float32Array[], wanted: readonly Float32Array[]): void {
    for (const [i, logits] of found.entries())
      expect(largestDifference(logits, wanted[i]), `token ${i}`).toBeLessThan(ALLOWED);
  }

  it.each(['low_rank', 'signs'] as const)(
    '%s: what is not predicted is left out, and nothing else',
    async (kind) => {
      const all = await feed(relu, { mode: 'predict', predictor: constant(kind, []) });
      const exact = await feed(relu, { strategy: 'indexed' });
      near(all.logits, exact.logits);
      expect(all.strategy).toBe('indexed');
      // Active are those that turn out to be, of what was predicted.
      expect(all.steps.map(({ active }) => active)).toEqual(exact.steps.map(({ active }) => active));
      for (const { predicted } of all.steps) expect(predicted).toEqual([N, N]);
      for (const step of exact.steps) expect(step.predicted).toBeUndefined();
      const some = await feed(relu, { mode: 'predict', predictor: constant(kind, LEFT_OUT) });
      const wanted = await feed(less, { strategy: 'dense' });
      near(some.logits, wanted.logits);
      for (const { predicted } of some.steps)
        expect(predicted).toEqual([N - LEFT_OUT.length, N - LEFT_OUT.length]);
      expect(largestDifference(some.logits[9], exact.logits[9])).toBeGreaterThan(100 * ALLOWED);
    },
  );

  it('predicts whole runs of tokens in one submit, after an exact prompt', async () => {
    const predictor = constant('low_rank', []);
    const before = gpuBytes(ctx.device);
    const runs = [];
    for (const options of [{ mode: 'predict', predictor }, { strategy: 'dense' }] as SessionOptions[]) {
      const session = new LlamaSession(ctx.device, relu, options);
      const first = argmax(await session.prefill(PROMPT));
      const { tokens, steps } = await session.greedy(first, 16);
      runs.push(tokens);
      expect(16 * steps[0].submits).toBe(1);
      session.destroy();
    }
    expect(runs[0]).toEqual(runs[1]);
    expect(gpuBytes(ctx.device)).toBe(before);
  });

  it.each(['sigma', 'topk'] as const)('%s: the same rows on the device and on the host', async (mode) => {
    const rule = mode === 'sigma' ? { sigma: 0.7 } : { topRows: 13 };
    for (const weights of [relu, silu]) {
      const device = await feed(weights, { mode, ...rule });
      const repack = await feed(weights, { mode, ...rule, strategy: 'repack' });
      const paired = await feed(weights, { mode, ...rule, strategy: 'paired' });
      const all = await feed(weights, { strategy: 'dense' });
      near(repack.logits, device.logits);
      near(paired.logits, device.logits);
      expect(largestDifference(device.logits[5], all.logits[5])).toBeGreaterThan(100 * ALLOWED);
      const active = device.steps.map((step) => step.active);
      expect(repack.steps.map((step) => step.active)).toEqual(active);
      expect(paired.steps.map((step) => step.active)).toEqual(active);
      if (mode === 'topk') expect(active).toEqual(active.map(() => [13, 13]));
      expect(device.steps.map(({ readbacks }) => readbacks)).toEqual(active.map(() => 1));
    }
  });

  it.each([
    { mode: 'sigma', sigma: -100 },
    { mode: 'topk', topRows: N },
    { mode: 'topk', topRows: 0.999 },
  ] as const)('all rows are dense: %o', async (options) => {
    near((await feed(silu, options)).logits, (await feed(silu, { strategy: 'dense' })).logits);
  });

  it('sticks to rows, and smooths their scores', async () => {
    const topk = { mode: 'topk', topRows: 20 } as const;
    const plain = await feed(silu, { ...topk, strategy: 'paired' });
    const writes = (run: typeof plain) =>
      run.steps.slice(1).map(({ updates }) => updates.map((u) => u.writes));
    const free = await feed(silu, { ...topk, sticky: 0, smooth: 0 });
    near(free.logits, plain.logits);
    expect(writes(free)).toEqual(writes(plain));
    expect(
      writes(plain)
        .flat()
        .some((n) => n > 0),
    ).toBe(true);
    const fixed = await feed(silu, { ...topk, sticky: 1 });
    expect(fixed.strategy).toBe('paired');
    expect(
      writes(fixed)
        .flat()
        .every((n) => n === 0),
    ).toBe(true);
    const half = await feed(silu, { ...topk, sticky: 0.5 });
    expect(
      writes(half)
        .flat()
        .every((n) => n <= 10),
    ).toBe(true);
    const total = (run: typeof plain) =>
      writes(run)
        .flat()
        .reduce((a, b) => a + b);
    const smoothed = await feed(silu, { ...topk, smooth: 0.9 });
    expect(total(smoothed)).toBeLessThan(total(plain));
  });

  it('a new sequence knows nothing of the last', async () => {
    const session = new LlamaSession(ctx.device, silu, { mode: 'topk', topRows: 9, sticky: 1, smooth: 0.5 });
    try {
      const once = async () => {
        session.reset();
        const all = [];
        for (const id of PROMPT) all.push(await session.next(id));
        return all;
      };
      const first = await once();
      await session.next(30);
      near(await once(), first);
    } finally {
      session.destroy();
    }
  });

  it.each([
    ['no predictor', { mode: 'predict' }, /pairslab calibrate/],
    ['one of fewer layers', { mode: 'predict', predictor: { layers: [] } }, /0 layers, the model 2/],
    [
      'another strategy',
      { mode: 'predict', predictor: constant('signs', []), strategy: 'paired' },
      /indexed or auto/,
    ],
    ['a predictor for no mode', { predictor: constant('signs', []) }, /predictor is for mode predict/],
    ['sticky for sigma', { mode: 'sigma', sticky: 0.5 }, /sticky is for mode topk/],
    ['no rows', { mode: 'topk' }, /mode topk needs topRows/],
    ['too many rows', { mode: 'topk', topRows: 71 }, /from 1 to 70.*it is 71/],
    ['dense', { mode: 'sigma', strategy: 'dense' }, /dense computes all/],
    [
      'indexed that sticks',
      { mode: 'topk', topRows: 5, sticky: 0.5, strategy: 'indexed' },
      /paired or repack/,
    ],
    ['a share beyond one', { mode: 'topk', topRows: 5, sticky: 1.5 }, /sticky is 1.5/],
    ['smoothing of all', { mode: 'topk', topRows: 5, smooth: 1 }, /alpha is 1/],
    ['no number of sigmas', { mode: 'sigma', sigma: Number.NaN }, /k is NaN/],
  ] as [string, SessionOptions, RegExp][])('refuses %s', (_, options, message) => {
    const before = gpuBytes(ctx.device);
    expect(() => new LlamaSession(ctx.device, relu, options)).toThrow(message);
    expect(() => new LlamaSession(ctx.device, relu, options)).toThrow(OptionError);
    expect(gpuBytes(ctx.device)).toBe(before);
  });

  it('refuses a predictor of another model', () => {
    const [layer] = constant('low_rank', []).layers;
    const wrong = { ...layer, limits: new Float32Array(5) };
    expect(
      () => new LlamaSession(ctx.device, relu, { mode: 'predict', predictor: { layers: [wrong, wrong] } }),
    ).toThrow(ShapeError);
  });
});
