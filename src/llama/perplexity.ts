import { OptionError, ShapeError } from '../errors.js';
import type { LlamaSession } from './session.js';

export interface PerplexityOptions {
  /** Tokens per window; each starts from an empty cache. Default: the context. */
  window?: number;
  /** Tokens to score. Default: all that fill whole windows, at least one window. */
  tokens?: number;
  /** A session whose logits are compared with: dense, mode exact. */
  reference?: LlamaSession;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

export interface Perplexity {
  /** Mean negative log-likelihood, nats per token. */
  natsPerToken: number;
  perplexity: number;
  tokens: number;
  window: number;
  /** Mean and worst |difference| from the reference's logits; null without a reference. */
  meanDifference: number | null;
  worstDifference: number | null;
}

/**
 * Feeds windows of a text and scores the token that follows each. A dense session feeds a window at once; a sparse one
 * goes token by token through its own strategy, as it decodes.
 * @throws ShapeError when the text is shorter than one window and the token after it.
 */
export async function perplexity(
  session: LlamaSession,
  ids: ArrayLike<number>,
  options: PerplexityOptions = {},
): Promise<Perplexity> {
  const { vocabSize } = session.weights.config;
  const window = options.window ?? session.weights.context;
  if (!Number.isInteger(window) || window < 1 || window > session.weights.context) {
    throw new OptionError(
      `window must be from 1 to the context of ${session.weights.context}; it is ${window}.`,
    );
  }
  const available = Math.floor((ids.length - 1) / window);
  const windows = options.tokens === undefined ? available : Math.ceil(options.tokens / window);
  if (windows < 1 || windows > available) {
    const needed = Math.max(1, windows) * window + 1;
    throw new ShapeError(`scoring needs ${needed} tokens; the text has ${ids.length}.`, {
      needed,
      tokens: ids.length,
    });
  }
  let nats = 0;
  let difference = 0;
  let worst = 0;
  let scored = 0;
  for (let w = 0; w < windows && !options.signal?.aborted; w++) {
    const fed = Array.prototype.slice.call(ids, w * window, (w + 1) * window) as number[];
    options.reference?.reset();
    const expected = options.reference ? await options.reference.prefillAll(fed) : null;
    session.reset();
    const all = session.strategy === 'dense' ? await session.prefillAll(fed) : null;
    for (let i = 0; i < window; i++) {
      const logits = all ? all.subarray(i * vocabSize, (i + 1) * vocabSize) : await session.next(fed[i]);
      nats -= logProbability(logits, ids[w * window + i + 1]);
      if (expected) {
        for (let v = 0; v < vocabSize; v++) {
          const d = Math.abs(logits[v] - expected[i * vocabSize + v]);
          difference += d;
          if (d > worst) worst = d;
        }
      }
      scored++;
      if (!all || i === window - 1) options.onProgress?.(scored, windows * window);
    }
  }
  return {
    natsPerToken: nats / scored,
    perplexity: Math.exp(nats / scored),
    tokens: scored,
    window,
    meanDifference: options.reference ? difference / (scored * vocabSize) : null,
    worstDifference: options.reference ? worst : null,
  };
}

/** log softmax(logits)[id], in f64. */
export function logProbability(logits: Float32Array, id: number): number {
  let best = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > best) best = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - best);
  return logits[id] - best - Math.log(sum);
}
