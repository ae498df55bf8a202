import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession, type SessionOptions } from '../../src/llama/session.js';
import type { LlamaWeights } from '../../src/llama/weights.js';
import { randomSource, shuffle } from '../../src/tune/stats.js';

/** Tokens a lane makes before the next has its turn. */
const BLOCK = 16;

/** One way to decode, with its sequence. */
export class DecodeLane {
  readonly name: string;
  readonly session: LlamaSession;
  /** ms a token, a block at a time. */
  readonly times: number[] = [];
  private next = 0;

  constructor(name: string, device: GPUDevice, weights: LlamaWeights, options: SessionOptions) {
    this.name = name;
    this.session = new LlamaSession(device, weights, options);
  }

  async start(promptIds: ArrayLike<number>): Promise<void> {
    this.session.reset();
    this.next = new Sampler().pick(await this.session.prefill(promptIds));
  }

  async decode(tokens: number, timed: boolean): Promise<void> {
    const started = performance.now();
    const { tokens: made } = await this.session.greedy(this.next, tokens);
    const ms = (performance.now() - started) / tokens;
    this.next = made[tokens - 1];
    if (timed) this.times.push(ms);
  }
}

/**
 * Lanes take turns, a block of tokens at a time and in shuffled order, so that what disturbs the machine disturbs all of
 * them. What they write may differ: a predictor misses rows.
 */
export async function raceLanes(
  lanes: readonly DecodeLane[],
  prompt: ArrayLike<number>,
  {
    tokens,
    repeats,
    progress,
  }: { tokens: number; repeats: number; progress: (done: number, total: number) => void },
): Promise<void> {
  const random = randomSource(7);
  // The first round compiles and warms.
  for (let r = -1; r < repeats; r++) {
    progress(r + 1, repeats + 1);
    for (const lane of lanes) await lane.start(prompt);
    for (let t = 0; t < (r < 0 ? BLOCK : tokens); t += BLOCK)
      for (const lane of shuffle([...lanes], random)) await lane.decode(BLOCK, r >= 0);
  }
}
