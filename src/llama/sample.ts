/** Choosing the next token from logits: greedy, or temperature with top-k and nucleus, from a seed. */
import { NonFiniteError, OptionError, ShapeError } from '../errors.js';

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
 * Returns uniform doubles in [0, 1) with 32 random bits.
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
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

/** Picks tokens; holds the random state and scratch memory, so use one per sequence. */
export class Sampler {
  readonly #temperature: number;
  readonly #topK: number;
  readonly #topP: number;
  readonly #random: () => number;
  #scratch = new Float32Array(0);

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
    this.#temperature = temperature;
    this.#topK = topK;
    this.#topP = topP;
    this.#random = generator(seed);
  }

  /** Always the likeliest token: what `LlamaSession.greedy` picks as well. */
  get greedy(): boolean {
    return this.#temperature === 0;
  }

  /**
   * A token id. `logits` is [vocabulary], f32, and is not changed; -Infinity rules a token out.
   * @throws ShapeError when it is empty.
   * @throws NonFiniteError for NaN, +Infinity, or when every logit is -Infinity. No random number is drawn then.
   */
  pick(logits: Float32Array): number {
    const best = argmax(logits);
    if (this.#temperature === 0) return best;
    const max = logits[best];
    let ids = this.#topK > 0 && this.#topK < logits.length ? this.#largest(logits, this.#topK) : null;
    const n = ids?.length ?? logits.length;
    const weight = (id: number) => Math.exp((logits[id] - max) / this.#temperature);
    let total = 0;
    for (let i = 0; i < n; i++) total += weight(ids ? ids[i] : i);
    if (this.#topP < 1) {
      ids = nucleus(ids, n, weight, total, this.#topP);
      total = 0;
      for (const id of ids) total += weight(id);
    }
    const target = this.#random() * total;
    const count = ids?.length ?? n;
    let sum = 0;
    let last = best;
    for (let i = 0; i < count; i++) {
      const id = ids ? ids[i] : i;
      const w = weight(id);
      if (w === 0) continue;
      sum += w;
      last = id;
      if (sum > target) break;
    }
    return last;
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

/**
 * The nucleus (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"): most likely tokens first, until
 * their share of `total` reaches topP. All tokens below (1 - topP) · total / n together weigh less than what may be
 * left out, so only the others, usually few, need sorting.
 */
function nucleus(
  ids: Uint32Array | null,
  n: number,
  weight: (id: number) => number,
  total: number,
  topP: number,
): Uint32Array {
  const cut = ((1 - topP) * total) / n;
  const candidates: { id: number; w: number }[] = [];
  for (let i = 0; i < n; i++) {
    const id = ids ? ids[i] : i;
    const w = weight(id);
    if (w >= cut) candidates.push({ id, w });
  }
  candidates.sort((a, b) => b.w - a.w || a.id - b.id);
  let sum = 0;
  let kept = 0;
  while (kept < candidates.length && sum < topP * total) sum += candidates[kept++].w;
  return Uint32Array.from(candidates.slice(0, kept), (candidate) => candidate.id);
}
