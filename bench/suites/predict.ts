import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  judgePredictor,
  type LayerSample,
  limitFor,
  type PredictorFit,
  type PredictorQuality,
  rankActive,
  sampleGates,
  withLimit,
} from '../../src/llama/calibrate-predictor.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { fitLowRank, fitSigns, type SymmetricEigen } from '../../src/llama/fit-predictor.js';
import { gatePool } from '../../src/llama/layer-fields.js';
import { perplexity } from '../../src/llama/perplexity.js';
import type { ModelPredictor } from '../../src/llama/predictor.js';
import { LlamaSession } from '../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../src/llama/weights.js';
import { predictorBytes, type RowPredictor } from '../../src/mlp/predictor.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { loadEigen } from '../../src/node/eigen.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { openTokenizer } from '../../src/node/text.js';
import { ratioOf, statsOf } from '../../src/tune/stats.js';
import { DecodeLane, raceLanes } from '../lib/predict-lanes.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';

const PROMPT = 'The state of the Union is';
/** The predictors are fitted to and judged on text that perplexity is not measured on, which is the first of the file. */
const TEXT = { perplexity: 2048, fitFrom: 8192, fit: 4096, judge: 1024 } as const;
/** A rise that counts as none worth speaking of. */
const MOST_RISE = 0.01;

type Spec =
  | { kind: 'low_rank'; rank: number; weighted: boolean; recall: number }
  | { kind: 'signs'; bits: number; inputBits: number; recall: number };

const SPECS: readonly Spec[] = [
  { kind: 'low_rank', rank: 32, weighted: true, recall: 0.99 },
  { kind: 'low_rank', rank: 64, weighted: false, recall: 0.99 },
  { kind: 'low_rank', rank: 64, weighted: true, recall: 0.99 },
  { kind: 'low_rank', rank: 128, weighted: true, recall: 0.985 },
  { kind: 'signs', bits: 1, inputBits: 1, recall: 0.98 },
  { kind: 'signs', bits: 1, inputBits: 3, recall: 0.965 },
  { kind: 'signs', bits: 2, inputBits: 4, recall: 0.95 },
  { kind: 'signs', bits: 3, inputBits: 4, recall: 0.94 },
];
const QUICK: readonly Spec[] = [SPECS[2], SPECS[6]];

function nameOf(spec: Spec): string {
  if (spec.kind === 'low_rank') return `rank ${spec.rank}${spec.weighted ? '' : ' unweighted'}`;
  return `signs ${spec.bits}x${spec.inputBits}`;
}

interface Judged {
  spec: Spec;
  name: string;
  /** GPU bytes of the predictor, all layers. */
  bytes: number;
  quality: PredictorQuality;
  perplexity: number;
}

/**
 * The shipped model in f32 with its active rows predicted: of each predictor, what it finds (on text that it was not
 * fitted to), what its misses cost, and how fast the model decodes, beside dense and beside exact.
 */
export async function predictSuite(context: BenchContext): Promise<SuiteOutcome> {
  const specs = context.quick ? QUICK : SPECS;
  let bed: Bed | undefined;
  const open = async () => {
    bed ??= await openBed(context, specs);
    return bed;
  };
  try {
    // Each by itself, so that an interrupted run loses no more than one.
    const dense = await context.measured('perplexity of dense', async () => (await open()).perplexity());
    const predictors: Judged[] = [];
    for (const [i, spec] of specs.entries()) {
      context.progress(i, specs.length, nameOf(spec));
      const judge = async () => (await open()).judge(i);
      predictors.push(await context.measured(`predictor ${nameOf(spec)}`, judge));
    }
    const times = await context.measured('predicted decode', async () => (await open()).race(context));
    return outcomeOf({ dense, predictors }, times, context);
  } finally {
    await bed?.close();
  }
}

function outcomeOf(
  { dense: perplexityOfDense, predictors }: { dense: number; predictors: Judged[] },
  lanes: Record<string, number[]>,
  context: BenchContext,
): SuiteOutcome {
  const { dense, exact } = lanes;
  const perSecond = (times: readonly number[]) => 1000 / statsOf(times).median;
  const exactOverDense = ratioOf(dense, exact);
  const results: Result[] = [
    { suite: 'predict', case: 'dense', perplexity: perplexityOfDense, tokensPerSecond: perSecond(dense) },
    { suite: 'predict', case: 'exact', overDense: exactOverDense, tokensPerSecond: perSecond(exact) },
  ];
  context.log(`exact: ${perSecond(exact).toFixed(1)} tokens/s, ${exactOverDense.median.toFixed(2)}× dense`);
  let best: { name: string; overDense: number; overExact: number } | undefined;
  for (const { spec, name, bytes, quality, perplexity: found } of predictors) {
    const times = lanes[name];
    const rise = found / perplexityOfDense - 1;
    const overDense = ratioOf(dense, times);
    const overExact = ratioOf(exact, times);
    results.push({
      suite: 'predict',
      case: name,
      ...spec,
      bytes,
      ...quality,
      // What was asked for, and what was found of the active rows.
      recall: spec.recall,
      foundShare: quality.recall,
      perplexity: found,
      perplexityRise: rise,
      msPerToken: statsOf(times),
      tokensPerSecond: perSecond(times),
      overDense,
      overExact,
    });
    if (rise <= MOST_RISE && overDense.median > (best?.overDense ?? 0))
      best = { name, overDense: overDense.median, overExact: overExact.median };
    context.log(
      `${name} (${spec.recall}): ${perSecond(times).toFixed(1)} tokens/s, ${overDense.median.toFixed(2)}× dense, ` +
        `${overExact.median.toFixed(2)}× exact; recall ${quality.recall.toFixed(3)}, precision ${quality.precision.toFixed(2)}, ` +
        `density ${(100 * quality.density).toFixed(1)} %, perplexity ${found.toFixed(3)} (${(100 * rise).toFixed(2)} %)`,
    );
  }
  const summary: Record<string, number> = { 'predict.exact_speedup': exactOverDense.median };
  if (best) {
    summary['predict.decode_speedup_at_1pct'] = best.overDense;
    summary['predict.speedup_over_exact_at_1pct'] = best.overExact;
    context.log(`fastest at no more than 1 % of perplexity: ${best.name}`);
  }
  return { results, summary };
}

/** The model with its predictors, and the text that they are judged by. */
interface Bed {
  /** Of dense. */
  perplexity(): Promise<number>;
  /** Of the i-th, which is fitted first. */
  judge(i: number): Promise<Judged>;
  /** ms a token of each lane, a block at a time. */
  race(context: BenchContext): Promise<Record<string, number[]>>;
  close(): Promise<void>;
}

async function openBed(context: BenchContext, specs: readonly Spec[]): Promise<Bed> {
  const { device } = context.gpu;
  const folder = await DiskFolder.at(SHIPPED_MODEL);
  const checkpoint = await openCheckpoint(folder);
  const weights: LlamaWeights = await loadWeights(device, checkpoint, { storage: context.storage });
  const { layers, intermediateSize, hiddenSize } = weights.config;
  const codec = await openTokenizer(folder);
  const ids = codec.encode(await readFile(join(SHIPPED_MODEL, 'heldout.txt'), 'utf8'));
  const reference = new LlamaSession(device, weights, { strategy: 'dense' });
  const sample = (first: number, tokens: number) =>
    sampleGates(reference, ids.slice(first, first + tokens), { tokens });
  const found = async () => ({
    fitted: await sample(TEXT.fitFrom, TEXT.fit),
    judged: await sample(TEXT.fitFrom + TEXT.fit, TEXT.judge),
    eigen: await loadEigen(),
  });
  // Only what is fitted needs it.
  let sampled: ReturnType<typeof found> | undefined;
  const samples = () => {
    sampled ??= found();
    return sampled;
  };
  const predictors: ModelPredictor[] = [];
  const predictorOf = async (i: number): Promise<ModelPredictor> => {
    if (predictors[i]) return predictors[i];
    const { fitted, eigen } = await samples();
    const layered: RowPredictor[] = [];
    for (let l = 0; l < layers; l++) {
      context.progress(i, specs.length, `fitting ${nameOf(specs[i])}, layer ${l}`);
      const gate = await checkpoint.readF32(`${gatePool(l)}.weight`, [intermediateSize, hiddenSize]);
      layered.push(layerPredictor(specs[i], gate, fitted[l], eigen));
    }
    predictors[i] = { layers: layered };
    return predictors[i];
  };
  const tokens = context.quick ? 512 : context.full ? 4096 : TEXT.perplexity;
  const nats = async (session: LlamaSession) => (await perplexity(session, ids, { tokens })).perplexity;
  const judge = async (i: number): Promise<Judged> => {
    const predictor = await predictorOf(i);
    context.progress(i, specs.length, `perplexity by ${nameOf(specs[i])}`);
    const { judged } = await samples();
    const session = new LlamaSession(device, weights, { mode: 'predict', predictor });
    try {
      const quality = mean(predictor.layers.map((layer, l) => judgePredictor(layer, judged[l])));
      const bytes = predictor.layers.reduce((sum, layer) => sum + predictorBytes(layer, hiddenSize), 0);
      return { spec: specs[i], name: nameOf(specs[i]), bytes, quality, perplexity: await nats(session) };
    } finally {
      session.destroy();
    }
  };
  return {
    perplexity: () => nats(reference),
    judge,
    async race({ progress, quick, full }) {
      for (const i of specs.keys()) await predictorOf(i);
      const lanes = [
        new DecodeLane('dense', device, weights, { strategy: 'dense' }),
        new DecodeLane('exact', device, weights, { strategy: 'indexed' }),
        ...predictors.map(
          (predictor, i) => new DecodeLane(nameOf(specs[i]), device, weights, { mode: 'predict', predictor }),
        ),
      ];
      try {
        await raceLanes(lanes, codec.encode(PROMPT), {
          tokens: quick ? 32 : 128,
          repeats: full ? 9 : quick ? 2 : 4,
          progress: (done, total) => progress(done, total, 'decoding'),
        });
        return Object.fromEntries(lanes.map(({ name, times }) => [name, times]));
      } finally {
        for (const { session } of lanes) session.destroy();
      }
    },
    async close() {
      reference.destroy();
      weights.destroy();
      await folder.close();
    },
  };
}

function layerPredictor(spec: Spec, gate: Float32Array, sample: LayerSample, eigen: SymmetricEigen) {
  const fitted: PredictorFit =
    spec.kind === 'signs' ? fitSigns(gate, sample, spec) : fitLowRank(gate, sample, { ...spec, eigen });
  return withLimit(fitted, limitFor(rankActive(fitted, sample), spec.recall));
}

/** Over the layers. */
function mean(layers: readonly PredictorQuality[]): PredictorQuality {
  const names = ['recall', 'massRecall', 'precision', 'density', 'active'] as const;
  const of = (name: (typeof names)[number]) =>
    layers.reduce((sum, layer) => sum + layer[name], 0) / layers.length;
  return Object.fromEntries(names.map((name) => [name, of(name)])) as Record<(typeof names)[number], number>;
}
