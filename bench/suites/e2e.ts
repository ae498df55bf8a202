import { STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import { decodeBytes } from '../../src/llama/bytes.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { type StepAverages, summariseSteps } from '../../src/llama/generate.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession, type StepStats } from '../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { openTokenizer } from '../../src/node/text.js';
import { Ceilings, type Framed, framed } from '../../src/tune/ceilings.js';
import { PREFILL_TOKENS, type PrefillTimes, racePrefill } from '../lib/prefill-race.js';
import type { BenchContext, Result, Skipped, SuiteOutcome } from '../lib/report.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../../src/tune/stats.js';
import { deviceTimer } from '../../src/tune/timer.js';

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
  readonly times: number[] = [];
  readonly steps: StepStats[] = [];
  /** What the current block made. */
  made: number[] = [];
  private readonly session: LlamaSession;
  private next = 0;

  constructor(weights: LlamaWeights, strategy: Name, device: GPUDevice) {
    this.dtype = weights.dtype;
    this.strategy = strategy;
    this.session = new LlamaSession(device, weights, { strategy });
  }

  async start(promptIds: ArrayLike<number>): Promise<void> {
    this.session.reset();
    this.next = argmax(await this.session.prefill(promptIds));
  }

  async decode(tokens: number, timed: boolean): Promise<void> {
    const started = performance.now();
    const { tokens: made, steps } = await this.session.greedy(this.next, tokens);
    const ms = (performance.now() - started) / tokens;
    this.next = made[tokens - 1];
    this.made = made;
    if (!timed) return;
    this.times.push(ms);
    this.steps.push(...steps);
  }

  destroy(): void {
    this.session.destroy();
  }
}

/** What is kept of a lane, and of a run. */
interface KeptLane {
  strategy: Name;
  /** ms, token by token. */
  times: number[];
  averages: StepAverages;
}
interface Kept {
  lanes: Partial<Record<StoredDtype, KeptLane[]>>;
  /** Bytes of weights that a dense token reads. */
  denseBytes: Partial<Record<StoredDtype, number>>;
  /** dtypes whose strategies made different tokens: no speed-up of theirs is reported. */
  differs: { dtype: StoredDtype; reason: string }[];
  read: Framed;
  prefill: PrefillTimes;
}

/**
 * The shipped model: decode of 128 tokens in exact mode, each strategy against dense, equal tokens required. All
 * strategies and dtypes take turns, a block of tokens at a time and in shuffled order, so that what disturbs the
 * machine disturbs all of them; speed-ups are medians of the ratios block by block, tokens/s those of the median block.
 *
 * `decode_bound` is what the bytes of weights allow, and `decode_fraction_of_bound` how much of it the best sparse
 * strategy reaches. `dense_read_fraction` is by wall time, host included: weight bytes a second over the read ceiling
 * of the same run. The model is small (24 MB as f32), so part of it may come from a cache.
 *
 * Strategies without a mask on the CPU decode a block in one submit (`LlamaSession.greedy`): a time is a block's over its
 * tokens. `prefill`: a prompt by all rows, by the union of each chunk's masks, and by auto.
 */
export async function e2eSuite(context: BenchContext): Promise<SuiteOutcome> {
  // The first is the prompt's; a quick run makes one block more.
  const maxTokens = context.quick ? 1 + BLOCK : 128;
  const repeats = context.full ? 9 : context.quick ? 2 : 5;
  const kept = await context.measured('decode', () => measure(context, maxTokens, repeats));
  const results: Result[] = [];
  const skipped: Skipped[] = kept.differs.map(({ dtype, reason }) => ({ case: dtype, reason }));
  const summary: Record<string, number> = {};
  const fastest: Partial<Record<StoredDtype, number[]>> = {};
  for (const dtype of STORED_DTYPES) {
    const lanes = kept.lanes[dtype];
    if (!lanes) continue;
    const dense = lanes.find(({ strategy }) => strategy === 'dense') as KeptLane;
    const prefix = dtype === 'f32' ? 'e2e' : `e2e.${dtype}`;
    let best: { lane: KeptLane; speedup: number } | undefined;
    for (const lane of lanes) {
      const { strategy, times, averages } = lane;
      const speedup = ratioOf(dense.times, times);
      const msPerToken = statsOf(times);
      const perSecond = 1000 / msPerToken.median;
      const readGbps = (averages.weightBytesPerToken * perSecond) / 1e9;
      results.push({
        suite: 'e2e',
        case: `${dtype} ${strategy}`,
        dtype,
        strategy,
        mode: 'exact',
        tokens: maxTokens,
        repeats,
        tokensEqual: true,
        msPerToken,
        tokensPerSecond: perSecond,
        speedupOverDense: speedup,
        readGbps,
        readFraction: readGbps / kept.read.median,
        readCeilingBefore: kept.read.before,
        readCeilingAfter: kept.read.after,
        ...averages,
      });
      summary[`${prefix}.${strategy}.tokens_per_second`] = perSecond;
      summary[`${prefix}.${strategy}.speedup`] = speedup.median;
      if (strategy !== 'dense' && speedup.median > (best?.speedup ?? 0))
        best = { lane, speedup: speedup.median };
      context.log(
        `${dtype} ${strategy}: ${perSecond.toFixed(1)} tokens/s, ${speedup.median.toFixed(2)}× dense`,
      );
      if (strategy === 'dense') summary[`${prefix}.dense_read_fraction`] = readGbps / kept.read.median;
      if (strategy === 'indexed') {
        const denseBytes = kept.denseBytes[dtype] as number;
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
  const { dense } = kept.prefill;
  for (const [strategy, { times, unions }] of Object.entries(kept.prefill)) {
    const speedup = ratioOf(dense.times, times);
    const ms = statsOf(times);
    const perSecond = (1000 * PREFILL_TOKENS) / ms.median;
    results.push({
      suite: 'e2e',
      case: `f32 prefill ${strategy}`,
      dtype: 'f32',
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

async function measure(context: BenchContext, maxTokens: number, repeats: number): Promise<Kept> {
  const { device } = context.gpu;
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer);
  const models: LlamaWeights[] = [];
  const lanes: Lane[] = [];
  const folder = await DiskFolder.at(SHIPPED_MODEL);
  try {
    const checkpoint = await openCheckpoint(folder);
    const tokenizer = await openTokenizer(folder);
    const promptIds = tokenizer.encode(PROMPT);
    for (const dtype of context.quick ? QUICK_DTYPES : STORED_DTYPES) {
      const weights = await loadWeights(device, checkpoint, { dtype });
      models.push(weights);
      for (const strategy of strategiesOf(dtype, context.full))
        lanes.push(new Lane(weights, strategy, device));
    }
    const { value: differs, read } = await framed(ceilings, context.quick ? 3 : 7, () =>
      run(lanes, promptIds, maxTokens, repeats, context),
    );
    const prefill = await racePrefill(device, models[0], tokenizer, context.quick ? 1 : 9);
    const kept: Kept = { lanes: {}, denseBytes: {}, differs: [], read, prefill };
    for (const [dtype, reason] of differs) kept.differs.push({ dtype, reason });
    for (const weights of models) {
      const { dtype } = weights;
      if (differs.has(dtype)) continue;
      kept.denseBytes[dtype] = decodeBytes(weights, null);
      kept.lanes[dtype] = lanes
        .filter((lane) => lane.dtype === dtype)
        .map(({ strategy, times, steps }) => ({
          strategy,
          times,
          averages: summariseSteps(weights, strategy, steps),
        }));
    }
    return kept;
  } finally {
    for (const lane of lanes) lane.destroy();
    for (const weights of models) weights.destroy();
    ceilings.destroy();
    timer.destroy();
    await folder.close();
  }
}

/** @returns the dtypes whose strategies came apart, and where. They take no more turns. */
async function run(
  all: readonly Lane[],
  promptIds: ArrayLike<number>,
  maxTokens: number,
  repeats: number,
  context: BenchContext,
): Promise<Map<StoredDtype, string>> {
  const random = randomSource(3);
  const differs = new Map<StoredDtype, string>();
  // The first round compiles and warms.
  for (let r = -1; r < repeats; r++) {
    context.progress(r + 1, repeats + 1, r < 0 ? 'warming up' : `round ${r + 1}`);
    for (const lane of all) await lane.start(promptIds);
    for (let t = 1; t < (r < 0 ? 4 : maxTokens); t += BLOCK) {
      const lanes = all.filter(({ dtype }) => !differs.has(dtype));
      for (const lane of shuffle([...lanes], random)) {
        await lane.decode(Math.min(BLOCK, maxTokens - t), r >= 0);
      }
      for (const lane of lanes) {
        const dense = lanes.find(({ dtype, strategy }) => dtype === lane.dtype && strategy === 'dense');
        if (lane.made.join() === dense?.made.join()) continue;
        const reason = `${lane.strategy}: tokens from ${t} on differ from dense; no speed-up is reported`;
        // f32 is the headline: without it there is nothing to report.
        if (lane.dtype === 'f32') throw new Error(`f32 ${reason}`);
        differs.set(lane.dtype, reason);
      }
    }
  }
  return differs;
}

function argmax(logits: Float32Array): number {
  return new Sampler().pick(logits);
}
