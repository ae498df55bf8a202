import { NO_TOKEN } from '../src/llama/kernels.js';
import { fallOf, weightOf } from '../src/llama/token-weights.js';

/** How a token is drawn: see `SamplerOptions`. */
export interface Draw {
  temperature: number;
  /** 0: all. */
  topK: number;
  /** In units of 2^-32; 0: all. */
  topP: number;
  /** u32: where in the sum of what is left the token lies, in units of 2^-32. */
  word: number;
}

/**
 * A token of logits [vocab]: of the topK likeliest (of equals the lowest ids), of these the fewest likeliest whose weights
 * reach topP of their sum, the one in which the drawn share of the sum of weights lies, by id. NO_TOKEN for a NaN or
 * +Infinity anywhere, or nothing but -Infinity.
 */
export function sampleToken(logits: ArrayLike<number>, { temperature, topK, topP, word }: Draw): number {
  const values = Array.from(logits);
  const largest = values.reduce((most, v) => Math.max(most, v), -Infinity);
  if (!Number.isFinite(largest) || values.some(Number.isNaN)) return NO_TOKEN;
  const fall = fallOf(temperature);
  const weights = values.map((v) => BigInt(weightOf(v, largest, fall)));
  const sum = (ids: readonly number[]) => ids.reduce((total, id) => total + weights[id], 0n);
  const share = (total: bigint, part: number) => (total * BigInt(part)) >> 32n;
  let ids = [...values.keys()].sort((a, b) => values[b] - values[a] || a - b);
  if (topK > 0) ids = ids.slice(0, topK);
  if (topP > 0) {
    const goal = share(sum(ids), topP);
    let [kept, reached] = [0, 0n];
    while (kept === 0 || reached < goal) reached += weights[ids[kept++]];
    ids = ids.slice(0, kept);
  }
  ids.sort((a, b) => a - b);
  const target = share(sum(ids), word);
  let passed = 0n;
  return ids.find((id) => {
    passed += weights[id];
    return passed > target;
  }) as number;
}
