import { readFile } from 'node:fs/promises';
import { LlamaSession } from '../../src/llama/session.js';
import type { LlamaWeights } from '../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import type { TextCodec } from '../../src/node/text.js';
import { randomSource, shuffle } from '../../src/tune/stats.js';

/** Tokens of the held-out text that are fed: three chunks of a session's default size. */
export const PREFILL_TOKENS = 192;
const STRATEGIES = ['dense', 'indexed', 'auto'] as const;

/** ms of each prefill, turn by turn; `unions`: rows a layer that the last chunk computed. */
export type PrefillTimes = Record<(typeof STRATEGIES)[number], { times: number[]; unions: number[] }>;

/**
 * Prefill of the same text by all rows, by the union of each chunk's masks, and by whichever the cost model takes, in
 * turns and shuffled order. @throws Error when the likeliest token after it differs.
 */
export async function racePrefill(
  device: GPUDevice,
  weights: LlamaWeights,
  tokenizer: TextCodec,
  rounds: number,
): Promise<PrefillTimes> {
  const text = await readFile(`${SHIPPED_MODEL}/heldout.txt`, 'utf8');
  const ids = tokenizer.encode(text.slice(0, 8 * PREFILL_TOKENS)).slice(0, PREFILL_TOKENS);
  const sessions = STRATEGIES.map((strategy) => new LlamaSession(device, weights, { strategy }));
  const found = { dense: made(), indexed: made(), auto: made() };
  const random = randomSource(5);
  const tokens = new Set<number>();
  try {
    for (let r = -1; r < rounds; r++) {
      for (const session of shuffle([...sessions], random)) {
        session.reset();
        const started = performance.now();
        const logits = await session.prefill(ids);
        const ms = performance.now() - started;
        tokens.add(logits.indexOf(Math.max(...logits)));
        const mine = found[session.strategy as keyof PrefillTimes];
        if (r >= 0) mine.times.push(ms);
        mine.unions = session.lastUnions ?? [];
      }
    }
  } finally {
    for (const session of sessions) session.destroy();
  }
  if (tokens.size > 1) throw new Error(`prefill: the strategies differ in the next token: ${[...tokens]}`);
  return found;
}

function made(): { times: number[]; unions: number[] } {
  return { times: [], unions: [] };
}
