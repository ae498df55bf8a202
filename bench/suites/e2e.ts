import { decodeBytes } from '../../src/llama/bytes.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { summariseSteps } from '../../src/llama/generate.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession, type StepStats } from '../../src/llama/session.js';
import { loadWeights } from '../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { openTokenizer } from '../../src/node/text.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../lib/stats.js';

const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
type Name = (typeof STRATEGIES)[number];
/** Tokens a strategy makes before the next has its turn: long enough that its weights are in the caches as they are in use. */
const BLOCK = 16;
const PROMPT = 'The state of the Union is';

/**
 * The shipped model: decode of 128 tokens in exact mode, each strategy against dense, equal tokens required. The
 * strategies take turns, a block of tokens at a time and in shuffled order, so that what disturbs the machine disturbs
 * all of them; speed-ups are medians of the ratios token by token, tokens/s those of the median token.
 */
export async function e2eSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const maxTokens = context.quick ? 32 : 128;
  const repeats = context.quick ? 2 : 5;
  const results: Result[] = [];
  const summary: Record<string, number> = {};
  const folder = await DiskFolder.at(SHIPPED_MODEL);
  const checkpoint = await openCheckpoint(folder);
  const promptIds = (await openTokenizer(folder)).encode(PROMPT);
  for (const dtype of ['f32', 'f16'] as const) {
    const weights = await loadWeights(device, checkpoint, { dtype });
    const sessions = Object.fromEntries(
      STRATEGIES.map((strategy) => [strategy, new LlamaSession(device, weights, { strategy })]),
    ) as Record<Name, LlamaSession>;
    const times: Record<Name, number[]> = { dense: [], indexed: [], repack: [], paired: [] };
    const steps: Record<Name, StepStats[]> = { dense: [], indexed: [], repack: [], paired: [] };
    const random = randomSource(3);
    // The first round compiles and warms.
    for (let r = -1; r < repeats; r++) {
      const next = {} as Record<Name, number>;
      for (const strategy of STRATEGIES) {
        sessions[strategy].reset();
        next[strategy] = argmax(await sessions[strategy].prefill(promptIds));
      }
      for (let t = 1; t < (r < 0 ? 4 : maxTokens); t += BLOCK) {
        const tokens = {} as Record<Name, number[]>;
        for (const strategy of shuffle([...STRATEGIES], random)) {
          const session = sessions[strategy];
          tokens[strategy] = [];
          for (let i = 0; i < BLOCK && t + i < maxTokens; i++) {
            const started = performance.now();
            const logits = await session.next(next[strategy]);
            const ms = performance.now() - started;
            next[strategy] = argmax(logits);
            tokens[strategy].push(next[strategy]);
            if (r < 0) continue;
            times[strategy].push(ms);
            steps[strategy].push(session.lastStep);
          }
        }
        const differs = STRATEGIES.find((strategy) => tokens[strategy].join() !== tokens.dense.join());
        if (differs)
          throw new Error(`${differs}: tokens from ${t} on differ (${dtype}); no speed-up is reported`);
      }
    }
    const prefix = dtype === 'f32' ? 'e2e' : `e2e.${dtype}`;
    let best: Name = 'indexed';
    for (const strategy of STRATEGIES) {
      const speedup = ratioOf(times.dense, times[strategy]);
      const perSecond = 1000 / statsOf(times[strategy]).median;
      results.push({
        suite: 'e2e',
        case: `${dtype} ${strategy}`,
        dtype,
        strategy,
        mode: 'exact',
        tokens: maxTokens,
        repeats,
        tokensEqual: true,
        msPerToken: statsOf(times[strategy]),
        tokensPerSecond: perSecond,
        speedupOverDense: speedup,
        ...summariseSteps(weights, strategy, steps[strategy]),
      });
      summary[`${prefix}.${strategy}.tokens_per_second`] = perSecond;
      summary[`${prefix}.${strategy}.speedup`] = speedup.median;
      if (strategy !== 'dense' && speedup.median > summary[`${prefix}.${best}.speedup`]) best = strategy;
      context.log(
        `${dtype} ${strategy}: ${perSecond.toFixed(1)} tokens/s, ${speedup.median.toFixed(2)}× dense`,
      );
    }
    const sparse = summariseSteps(weights, 'indexed', steps.indexed).weightBytesPerToken;
    summary[`${prefix}.decode_speedup`] = summary[`${prefix}.${best}.speedup`];
    summary[`${prefix}.decode_bound`] = decodeBytes(weights, null) / sparse;
    summary[`${prefix}.readbacks_per_token`] = summariseSteps(weights, best, steps[best]).readbacksPerToken;
    for (const session of Object.values(sessions)) session.destroy();
    weights.destroy();
  }
  await folder.close();
  return { results, summary };
}

function argmax(logits: Float32Array): number {
  return new Sampler().pick(logits);
}
