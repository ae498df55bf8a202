import { decodeBytes } from '../../src/llama/bytes.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { generate, type GenerateStats } from '../../src/llama/generate.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession } from '../../src/llama/session.js';
import { loadWeights } from '../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { openTokenizer } from '../../src/node/text.js';
import type { BenchContext, Result, SuiteOutcome } from '../lib/report.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../lib/stats.js';

const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
type Name = (typeof STRATEGIES)[number];
const PROMPT = 'The state of the Union is';

/** The shipped model: decode of 128 tokens in exact mode, each strategy against dense, equal tokens required. */
export async function e2eSuite(context: BenchContext): Promise<SuiteOutcome> {
  const { device } = context.gpu;
  const maxTokens = context.quick ? 32 : 128;
  const repeats = context.quick ? 3 : 5;
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
    const rates: Record<Name, number[]> = { dense: [], indexed: [], repack: [], paired: [] };
    const last = {} as Record<Name, GenerateStats>;
    const random = randomSource(3);
    let expected = '';
    let equal = true;
    for (let r = -1; r < repeats; r++) {
      for (const strategy of shuffle([...STRATEGIES], random)) {
        const session = sessions[strategy];
        session.reset();
        const { tokens, stats } = await generate(session, {
          promptIds,
          maxTokens: r < 0 ? 4 : maxTokens,
          sampler: new Sampler(),
          stopIds: [],
        });
        // The first round compiles and warms.
        if (r < 0) continue;
        expected ||= tokens.join();
        equal &&= tokens.join() === expected;
        rates[strategy].push(stats.decodeTokensPerSecond);
        last[strategy] = stats;
      }
    }
    if (!equal) throw new Error(`the strategies' tokens differ (${dtype}): no speed-up is reported`);
    const prefix = dtype === 'f32' ? 'e2e' : `e2e.${dtype}`;
    let best: Name = 'indexed';
    for (const strategy of STRATEGIES) {
      const speedup = ratioOf(rates[strategy], rates.dense);
      results.push({
        suite: 'e2e',
        case: `${dtype} ${strategy}`,
        dtype,
        strategy,
        mode: 'exact',
        tokens: maxTokens,
        tokensEqual: equal,
        tokensPerSecond: statsOf(rates[strategy]),
        speedupOverDense: speedup,
        stats: last[strategy],
      });
      summary[`${prefix}.${strategy}.tokens_per_second`] = statsOf(rates[strategy]).median;
      summary[`${prefix}.${strategy}.speedup`] = speedup.median;
      if (strategy !== 'dense' && speedup.median > summary[`${prefix}.${best}.speedup`]) best = strategy;
      const perSecond = statsOf(rates[strategy]).median.toFixed(1);
      context.log(`${dtype} ${strategy}: ${perSecond} tokens/s, ${speedup.median.toFixed(2)}× dense`);
    }
    summary[`${prefix}.decode_speedup`] = summary[`${prefix}.${best}.speedup`];
    summary[`${prefix}.decode_bound`] =
      decodeBytes(weights, null) / decodeBytes(weights, last.indexed.activeRows);
    summary[`${prefix}.readbacks_per_token`] = last[best].readbacksPerToken;
    for (const session of Object.values(sessions)) session.destroy();
    weights.destroy();
  }
  await folder.close();
  return { results, summary };
}
