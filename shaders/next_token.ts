import { NO_TOKEN } from '../src/llama/kernels.js';

/** The first of the largest logits [vocab]; NO_TOKEN for a NaN or +Infinity anywhere, or nothing but -Infinity. */
export function nextToken(logits: ArrayLike<number>): number {
  let best = NO_TOKEN;
  for (let i = 0; i < logits.length; i++) {
    if (Number.isNaN(logits[i]) || logits[i] === Infinity) return NO_TOKEN;
    if (logits[i] === -Infinity) continue;
    if (best === NO_TOKEN || logits[i] > logits[best]) best = i;
  }
  return best;
}
