import { STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { decodeBytes } from '../../src/llama/bytes.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { type StepAverages, summariseSteps } from '../../src/llama/generate.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession, type StepStats } from '../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { openTokenizer, type TextCodec } from '../../src/node/text.js';
import { Ceilings, type Framed, framedReads, type ReadCeilings } from '../../src/tune/ceilings.js';
import { fractionsOf } from '../lib/fractions.js';
import { Lazy } from '../lib/lazy.js';
import { meanOver } from '../lib/mean-over.js';
import { PREFILL_TOKENS, type PrefillTimes, racePrefill } from '../lib/prefill-race.js';
import type { BenchContext, Result, Skipped, SuiteOutcome } from '../lib/report.js';
import { storageOf } from '../lib/storage.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../../src/tune/stats.js';
import { type DeviceTimer, deviceTimer } from '../../src/tune/timer.js';

const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
type Name = (typeof STRATEGIES)[number];
/** Tokens a lane makes before the next has its turn: long enough that its weights are in the caches as they are in use. */
const BLOCK = 16;
/** Each dtype has kernels to compile, which on a software adapter takes seconds. */
const QUICK_DTYPES: readonly StoredDtype[] = ['f32'];
const PROMPT = 'The state of the Union is';

/** One strategy on one dtype, with its sequence. */
class Lane {
  readonly dtype: StoredDtype;
  readonly strategy: Name;
  /** What the current block made. */
  made: number[] = [];
  private readonly times: number[] = [];
  private readonly steps: StepStats[] = [];
  private readonly weights: LlamaWeights;
  private readonly session: LlamaSession;
  private next = 0;

  constructor(weights: LlamaWeights, strategy: Name, device: GPUDevice) {
    this.weights = weights;
    this.dtype = weights.dtype;
    this.strategy = strategy;
    this.session = new LlamaSession(device, weights, { strategy });
  }

  async start(promptIds: ArrayLike<number>): Promise<void> {
    this.session.reset();
    this.next = argmax(await this.session.prefill(promptIds));
  }

  async decode(tokens: number): Promise<void> {
    const started = performance.now();
    const { tokens: made, steps } = await this.session.greedy(this.next, tokens);
    const ms = (performance.now() - started) / tokens;
    this.next = made[tokens - 1];
    this.made = made;
    this.times.push(ms);
    this.steps.push(...steps);
  }

  /** What it did since it was made, or since `forget`. */
  kept(): KeptLane {
    const { dtype, strategy, times, steps, weights } = this;
    return { dtype, strategy, times: [...times], averages: summariseSteps(weights, strategy, steps) };
  }

  forget(): void {
    this.times.length = 0;
    this.steps.length = 0;
  }

  destroy(): void {
    this.session.destroy();
  }
}

/** What is kept of a lane, and of a round. */
interface KeptLane {
  dtype: StoredDtype;
  strategy: Name;
  /** ms, token by token. */
  times: number[];
  averages: StepAverages;
}
interface Round {
  /** Of dtypes whose strategies made equal tokens. */
  lanes: KeptLane[];
  /** Bytes of weights that a dense token reads. */
  denseBytes: Partial<Record<StoredDtype, number>>;
  /** dtypes whose strategies made different tokens: no speed-up of theirs is reported. */
  differs: { dtype: StoredDtype; reason: string }[];
  reads: ReadCeilings<Framed>;
}

/**
 * The shipped model: decode of 128 tokens in exact mode, each strategy against dense, equal tokens required. All
 * strategies and dtypes take turns, a block of tokens at a time and in shuffled order, so that what disturbs the
 * machine disturbs all of them; speed-ups are medians of the ratios block by block, tokens/s those of the median block.
 *
 * `decode_bound` is what the bytes of weights allow, and `decode_fraction_of_bound` how much of it the best sparse
 * strategy reaches. `dense_read_fraction` is by wall time, host included: weight bytes a second over the read ceiling
 * of the same run; `dense_read_fraction_of_best` over the faster of buffers' and textures'. The model is small (24 MB as f32), so part of it may come from a cache.
 *
 * Strategies without a mask on the CPU decode a block in one submit (`LlamaSession.greedy`): a time is a block's over its
 * tokens. `prefill`: a prompt by all rows, by the union of each chunk's masks, and by auto.
 */
export async function e2eSuite(context: BenchContext): Promise<SuiteOutcome> {
  // The first is the prompt's; a quick run makes one block more.
  const maxTokens = context.quick ? 1 + BLOCK : 128;
  const repeats = context.full ? 9 : context.quick ? 2 : 5;
  const { rounds, prefill } = await measure(context, maxTokens, repeats);
  const over = (storage: RowStorage): Framed => ({
    before: rounds[0].reads[storage].before,
    after: rounds[repeats - 1].reads[storage].after,
    median: statsOf(rounds.map(({ reads }) => reads[storage].median)).median,
  });
  const reads = { buffer: over('buffer'), texture: over('texture') };
  const storage = storageOf(context);
  const results: Result[] = [];
  // The first reason of each dtype is enough.
  const differs = new Map(
    rounds.flatMap((round) => round.differs.map(({ dtype, reason }) => [dtype, reason] as const)).reverse(),
  );
  const skipped: Skipped[] = [...differs].map(([dtype, reason]) => ({ case: dtype, reason }));
  const summary: Record<string, number> = {};
  const fastest: Partial<Record<StoredDtype, number[]>> = {};
  for (const dtype of STORED_DTYPES) {
    if (differs.has(dtype)) continue;
    const lanes = lanesOver(rounds, dtype);
    if (lanes.length === 0) continue;
    const dense = lanes.find(({ strategy }) => strategy === 'dense') as KeptLane;
    const prefix = dtype === 'f32' ? 'e2e' : `e2e.${dtype}`;
    let best: { lane: KeptLane; speedup: number } | undefined;
    for (const lane of lanes) {
      const { strategy, times, averages } = lane;
      const speedup = ratioOf(dense.times, times);
      const msPerToken = statsOf(times);
      const perSecond = 1000 / msPerToken.median;
      const readGbps = (averages.weightBytesPerToken * perSecond) / 1e9;
      const fractions = fractionsOf(readGbps, reads);
      results.push({
        suite: 'e2e',
        case: `${dtype} ${strategy}`,
        dtype,
        storage,
        strategy,
        mode: 'exact',
        tokens: maxTokens,
        repeats,
        tokensEqual: true,
        msPerToken,
        tokensPerSecond: perSecond,
        speedupOverDense: speedup,
        readGbps,
        ...fractions,
        ...averages,
      });
      summary[`${prefix}.${strategy}.tokens_per_second`] = perSecond;
      summary[`${prefix}.${strategy}.speedup`] = speedup.median;
      if (strategy !== 'dense' && speedup.median > (best?.speedup ?? 0))
        best = { lane, speedup: speedup.median };
      context.log(
        `${dtype} ${strategy}: ${perSecond.toFixed(1)} tokens/s, ${speedup.median.toFixed(2)}× dense`,
      );
      if (strategy === 'dense') {
        summary[`${prefix}.dense_read_fraction`] = fractions.readFraction;
        summary[`${prefix}.dense_read_fraction_of_best`] = fractions.readFractionOfBest;
      }
      if (strategy === 'indexed') {
        const denseBytes = rounds[0].denseBytes[dtype] as number;
        summary[`${prefix}.decode_bound`] = denseBytes / averages.weightBytesPerToken;
      }
    }
    if (!best) continue;
    fastest[dtype] = best.lane.times;
    summary[`${prefix}.decode_speedup`] = best.speedup;
    summary[`${prefix}.decode_fraction_of_bound`] = best.speedup / summary[`${prefix}.decode_bound`];
    summary[`${prefix}.readbacks_per_token`] = best.lane.averages.readbacksPerToken;
  }
  for (const dtype of STORED_DTYPES) {
    const [f32, other] = [fastest.f32, fastest[dtype]];
    if (dtype !== 'f32' && f32 && other) summary[`e2e.${dtype}_over_f32`] = ratioOf(f32, other).median;
  }
  const { dense } = prefill;
  for (const [strategy, { times, unions }] of Object.entries(prefill)) {
    const speedup = ratioOf(dense.times, times);
    const ms = statsOf(times);
    const perSecond = (1000 * PREFILL_TOKENS) / ms.median;
    results.push({
      suite: 'e2e',
      case: `f32 prefill ${strategy}`,
      dtype: 'f32',
      storage,
      strategy,
      mode: 'exact',
      tokens: PREFILL_TOKENS,
      ms,
      tokensPerSecond: perSecond,
      speedupOverDense: speedup,
      unions,
    });
    summary[`e2e.prefill.${strategy}.tokens_per_second`] = perSecond;
    summary[`e2e.prefill.${strategy}.speedup`] = speedup.median;
  }
  return { results, summary, skipped };
}

/** Every dtype by dense and indexed; all four strategies where the summary has them, or with --full. */
function strategiesOf(dtype: StoredDtype, full: boolean): readonly Name[] {
  return full || dtype === 'f32' || dtype === 'f16' ? STRATEGIES : ['dense', 'indexed'];
}

/** A dtype's lanes, with all that they did in the rounds. */
function lanesOver(rounds: readonly Round[], dtype: StoredDtype): KeptLane[] {
  const mine = rounds.map(({ lanes }) => lanes.filter((lane) => lane.dtype === dtype));
  return mine[0].map((lane, i) => ({
    ...lane,
    times: mine.flatMap((lanes) => lanes[i].times),
    averages: meanOver(mine.map((lanes) => lanes[i].averages)),
  }));
}

/** Round by round, so that an interrupted run loses no more than one. */
async function measure(
  context: BenchContext,
  maxTokens: number,
  repeats: number,
): Promise<{ rounds: Round[]; prefill: PrefillTimes }> {
  const bed = new Lazy(() => Bed.open(context));
  const rounds: Round[] = [];
  try {
    for (let r = 0; r < repeats; r++) {
      context.progress(r, repeats + 1, `round ${r + 1}`);
      const round = async () => (await bed.get()).round(maxTokens, context.quick ? 3 : 7);
      rounds.push(await context.measured(`decode, round ${r + 1}`, round));
    }
    context.progress(repeats, repeats + 1, 'prefill');
    const prefill = await context.measured('prefill', async () => (await bed.get()).prefill(context.quick));
    return { rounds, prefill };
  } finally {
    await bed.destroy();
  }
}

/** The model in every dtype, with its lanes, warm. */
class Bed {
  private readonly device: GPUDevice;
  private readonly timer: DeviceTimer;
  private readonly ceilings: Ceilings;
  private readonly tokenizer: TextCodec;
  private readonly promptIds: ArrayLike<number>;
  private readonly random = randomSource(3);
  private readonly models: LlamaWeights[] = [];
  private readonly lanes: Lane[] = [];

  static async open({ gpu, quick, full, storage }: BenchContext): Promise<Bed> {
    const folder = await DiskFolder.at(SHIPPED_MODEL);
    let bed: Bed | undefined;
    try {
      const checkpoint = await openCheckpoint(folder);
      bed = new Bed(gpu.device, await openTokenizer(folder));
      for (const dtype of quick ? QUICK_DTYPES : STORED_DTYPES) {
        const weights = await loadWeights(gpu.device, checkpoint, { dtype, storage });
        bed.models.push(weights);
        for (const strategy of strategiesOf(dtype, full))
          bed.lanes.push(new Lane(weights, strategy, gpu.device));
      }
      // Compiles and warms.
      await run(bed.lanes, bed.promptIds, 4, bed.random);
      for (const lane of bed.lanes) lane.forget();
      return bed;
    } catch (error) {
      bed?.destroy();
      throw error;
    } finally {
      await folder.close();
    }
  }

  private constructor(device: GPUDevice, tokenizer: TextCodec) {
    this.device = device;
    this.timer = deviceTimer(device);
    this.ceilings = new Ceilings(device, this.timer);
    this.tokenizer = tokenizer;
    this.promptIds = tokenizer.encode(PROMPT);
  }

  async round(maxTokens: number, ceilingRepeats: number): Promise<Round> {
    const { lanes, models, promptIds, random } = this;
    const { value: differs, reads } = await framedReads(this.ceilings, ceilingRepeats, () =>
      run(lanes, promptIds, maxTokens, random),
    );
    const kept: Round = { lanes: [], denseBytes: {}, differs: [], reads };
    for (const [dtype, reason] of differs) kept.differs.push({ dtype, reason });
    for (const weights of models) kept.denseBytes[weights.dtype] = decodeBytes(weights, null);
    for (const lane of lanes) if (!differs.has(lane.dtype)) kept.lanes.push(lane.kept());
    for (const lane of lanes) lane.forget();
    return kept;
  }

  prefill(quick: boolean): Promise<PrefillTimes> {
    return racePrefill(this.device, this.models[0], this.tokenizer, quick ? 1 : 9);
  }

  destroy(): void {
    for (const lane of this.lanes) lane.destroy();
    for (const weights of this.models) weights.destroy();
    this.ceilings.destroy();
    this.timer.destroy();
  }
}

/** One round. @returns the dtypes whose strategies came apart, and where. They take no more turns in it. */
async function run(
  all: readonly Lane[],
  promptIds: ArrayLike<number>,
  maxTokens: number,
  random: () => number,
): Promise<Map<StoredDtype, string>> {
  const differs = new Map<StoredDtype, string>();
  for (const lane of all) await lane.start(promptIds);
  for (let t = 1; t < maxTokens; t += BLOCK) {
    const lanes = all.filter(({ dtype }) => !differs.has(dtype));
    for (const lane of shuffle([...lanes], random)) await lane.decode(Math.min(BLOCK, maxTokens - t));
    for (const lane of lanes) {
      const dense = lanes.find(({ dtype, strategy }) => dtype === lane.dtype && strategy === 'dense');
      if (lane.made.join() === dense?.made.join()) continue;
      const reason = `${lane.strategy}: tokens from ${t} on differ from dense; no speed-up is reported`;
      // f32 is the headline: without it there is nothing to report.
      if (lane.dtype === 'f32') throw new Error(`f32 ${reason}`);
      differs.set(lane.dtype, reason);
    }
  }
  return differs;
}

function argmax(logits: Float32Array): number {
  return new Sampler().pick(logits);
}
