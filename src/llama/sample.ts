/** Choosing the next token from logits: greedy, or temperature with top-k and nucleus, from a seed. */
import { NonFiniteError, OptionError, ShapeError } from '../errors.js';
import { type Fall, fallOf, partOf, weightOf } from './token-weights.js';

export interface SamplerOptions {
  /** Divides the logits. 0 (the default) is greedy: the largest logit, the lowest id among equals. */
  temperature?: number;
  /** Keep only the k largest logits (of equals the lowest ids); 0 (the default) keeps all. */
  topK?: number;
  /** Keep the fewest most likely tokens whose share reaches topP, of what topK left; in (0, 1], 1 keeps all. */
  topP?: number;
  /** Any safe integer. Equal seeds and equal logits give equal tokens. */
  seed?: number;
}

/**
 * sfc32, a small fast generator with 128 bits of state (Chris Doty-Humphrey, PractRand, public domain), seeded by
 * SplitMix32. The seed's low and high words enter one after the other: folded into one word, seeds would collide.
 * Returns u32 words.
 */
function generator(seed: number): () => number {
  let state = seed | 0;
  const mix = () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state ^ (state >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return z ^ (z >>> 15);
  };
  let a = mix();
  state ^= Math.floor(seed / 2 ** 32);
  let b = mix();
  let c = mix();
  let counter = 1;
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

/**
 * Picks tokens; holds the random state and scratch memory, so use one per sequence. A token takes one random word, and
 * `pick` finds the token that the device finds for the same logits and word (shaders/sample_token.wgsl).
 */
export class Sampler {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly #random: () => number;
  readonly #fall: Fall;
  /** Words that were looked at and not taken yet. */
  readonly #ahead: number[] = [];
  /** Those that were taken last. */
  #taken: number[] = [];
  #scratch = new Float32Array(0);
  #weights = new Uint32Array(0);

  /** @throws OptionError for a value outside its range. */
  constructor({ temperature = 0, topK = 0, topP = 1, seed = 0 }: SamplerOptions = {}) {
    const check = (ok: boolean, option: string, value: unknown, want: string) => {
      if (!ok) throw new OptionError(`${option} is ${String(value)}; it must be ${want}.`, { option, value });
    };
    check(
      Number.isFinite(temperature) && temperature >= 0,
      'temperature',
      temperature,
      'a number of 0 or more',
    );
    check(Number.isSafeInteger(topK) && topK >= 0, 'topK', topK, 'a whole number of 0 or more');
    check(Number.isFinite(topP) && topP > 0 && topP <= 1, 'topP', topP, 'above 0 and at most 1');
    check(Number.isSafeInteger(seed), 'seed', seed, 'a safe integer');
    this.temperature = temperature;
    this.topK = topK;
    this.topP = topP;
    this.#fall = fallOf(temperature);
    this.#random = generator(seed);
  }

  /** Always the likeliest token: no random number is drawn. */
  get greedy(): boolean {
    return this.temperature === 0;
  }

  /** The random words, u32, of the next `count` tokens; `take` says how many of them were made. None if greedy. */
  ahead(count: number): Uint32Array<ArrayBuffer> {
    if (this.greedy) return new Uint32Array(0);
    while (this.#ahead.length < count) this.#ahead.push(this.#random());
    return Uint32Array.from(this.#ahead.slice(0, count));
  }

  /** Passes over the random words of `count` tokens that were made from what `ahead` gave. */
  take(count: number): void {
    this.#taken = this.#ahead.splice(0, count);
  }

  /** Takes back the last `count` words of the last `take`: their tokens were not wanted after all. */
  giveBack(count: number): void {
    this.#ahead.unshift(...this.#taken.splice(this.#taken.length - count));
  }

  /**
   * A token id. `logits` is [vocabulary], f32, and is not changed; -Infinity rules a token out.
   * @throws ShapeError when it is empty.
   * @throws NonFiniteError for NaN, +Infinity, or when every logit is -Infinity. No random number is drawn then.
   */
  pick(logits: Float32Array): number {
    const token = this.pickBy(logits, this.ahead(1)[0]);
    this.take(1);
    return token;
  }

  /** As `pick`, by one of the words that `ahead` gave; takes none. */
  pickBy(logits: Float32Array, word: number): number {
    const best = argmax(logits);
    if (this.greedy) return best;
    const largest = logits[best];
    let ids = this.topK > 0 && this.topK < logits.length ? this.#largest(logits, this.topK) : null;
    if (this.#weights.length !== logits.length) this.#weights = new Uint32Array(logits.length);
    const weights = this.#weights;
    const n = ids?.length ?? logits.length;
    let total = 0;
    for (let i = 0; i < n; i++) {
      const id = ids ? ids[i] : i;
      weights[id] = weightOf(logits[id], largest, this.#fall);
      total += weights[id];
    }
    const part = shareWord(this.topP);
    if (part > 0) {
      ids = nucleus(logits, ids, weights, total, Math.max(1, partOf(total, part)));
      total = 0;
      for (const id of ids) total += weights[id];
    }
    const target = partOf(total, word);
    let id = 0;
    for (let i = 0, sum = 0; sum <= target; i++) {
      id = ids ? ids[i] : i;
      sum += weights[id];
    }
    return id;
  }

  /** Ids of the k largest logits, ascending; of those equal to the smallest kept one, the lowest ids. */
  #largest(logits: Float32Array, k: number): Uint32Array {
    if (this.#scratch.length !== logits.length) this.#scratch = new Float32Array(logits.length);
    this.#scratch.set(logits);
    const threshold = kthLargest(this.#scratch, k);
    let above = 0;
    for (let i = 0; i < logits.length; i++) if (logits[i] > threshold) above++;
    const out = new Uint32Array(k);
    let ties = k - above;
    for (let i = 0, at = 0; at < k; i++) {
      if (logits[i] > threshold || (logits[i] === threshold && ties-- > 0)) out[at++] = i;
    }
    return out;
  }
}

function argmax(logits: Float32Array): number {
  if (logits.length === 0) throw new ShapeError('There are no logits to pick from.', { length: 0 });
  let best = 0;
  for (let i = 0; i < logits.length; i++) {
    const value = logits[i];
    if (Number.isNaN(value) || value === Infinity) {
      throw new NonFiniteError(`Logit ${i} of ${logits.length} is ${value}.`, { index: i, value });
    }
    if (value > logits[best]) best = i;
  }
  if (logits[best] === -Infinity) {
    throw new NonFiniteError(`All ${logits.length} logits are -Infinity.`, { length: logits.length });
  }
  return best;
}

/** The k-th largest value. Reorders `values`. Quickselect (Hoare 1961), pivot in the middle; O(n) on average. */
function kthLargest(values: Float32Array, k: number): number {
  const target = k - 1;
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >>> 1];
    let i = low;
    let j = high;
    while (i <= j) {
      while (values[i] > pivot) i++;
      while (values[j] < pivot) j--;
      if (i > j) break;
      const held = values[i];
      values[i++] = values[j];
      values[j--] = held;
    }
    if (target <= j) high = j;
    else if (target >= i) low = i;
    else break;
  }
  return values[target];
}

/** topP in units of 2^-32, as the device has it; 0 where it keeps all. */
export function shareWord(topP: number): number {
  const word = Math.max(1, Math.round(topP * 2 ** 32));
  return word < 2 ** 32 ? word : 0;
}

/**
 * The nucleus (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"): the largest logits first, of equals
 * the lowest ids, until their weights reach `goal`. Tokens that weigh less than (total - goal) / n are together less than
 * what may be left out, so only the others, usually few, need sorting. @returns ids, ascending.
 */
function nucleus(
  logits: Float32Array,
  ids: Uint32Array | null,
  weights: Uint32Array,
  total: number,
  goal: number,
): Uint32Array {
  const n = ids?.length ?? logits.length;
  const cut = Math.floor((total - goal) / n);
  const candidates: number[] = [];
  for (let i = 0; i < n; i++) {
    const id = ids ? ids[i] : i;
    if (weights[id] >= cut) candidates.push(id);
  }
  candidates.sort((a, b) => logits[b] - logits[a] || a - b);
  let sum = 0;
  let kept = 0;
  while (sum < goal) sum += weights[candidates[kept++]];
  return Uint32Array.from(candidates.slice(0, kept)).sort();
}
