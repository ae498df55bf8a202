import { describe, expect, it } from 'vitest';
import { NonFiniteError, OptionError, ShapeError } from '../../src/errors.js';
import { Sampler, type SamplerOptions } from '../../src/llama/sample.js';
import { fallOf, partOf, weightOf } from '../../src/llama/token-weights.js';
import { randomSource } from '../support/make-model.js';

const logitsOf = (...values: number[]) => Float32Array.from(values);

function draws(options: SamplerOptions, logits: Float32Array, n: number): number[] {
  const sampler = new Sampler(options);
  return Array.from({ length: n }, () => sampler.pick(logits));
}

function shares(options: SamplerOptions, logits: Float32Array, n = 40_000): number[] {
  const counts = new Array<number>(logits.length).fill(0);
  for (const id of draws(options, logits, n)) counts[id]++;
  return counts.map((c) => c / n);
}

/** Whether each share is within five standard deviations of its probability; what must not occur must not occur. */
function expectShares(found: number[], want: number[], n = 40_000): void {
  const total = want.reduce((a, b) => a + b, 0);
  found.forEach((share, i) => {
    const p = want[i] / total;
    expect(Math.abs(share - p), `token ${i}`).toBeLessThanOrEqual(5 * Math.sqrt((p * (1 - p)) / n));
  });
}

const weights = [1, 8, 2, 4, 1];
const logits = Float32Array.from(weights, Math.log);

describe('greedy', () => {
  it('takes the largest, the lowest id among equals', () => {
    expect(new Sampler().pick(logitsOf(1, 3, 2, 3))).toBe(1);
    expect(new Sampler({ temperature: 0, topK: 1, topP: 0.1 }).pick(logitsOf(-5))).toBe(0);
    expect(new Sampler().pick(logitsOf(-Infinity, -3, -Infinity))).toBe(1);
    expect(new Sampler().pick(logitsOf(-0, 0))).toBe(0);
  });
});

describe('sampling', () => {
  it('is the same for the same seed and not for another', () => {
    const flat = new Float32Array(1000);
    const first = draws({ temperature: 1, seed: 7 }, flat, 64);
    expect(draws({ temperature: 1, seed: 7 }, flat, 64)).toEqual(first);
    const others = [0, 8, -7, 7 + 2 ** 32, 7 - 2 ** 32, Number.MAX_SAFE_INTEGER];
    const all = [first, ...others.map((seed) => draws({ temperature: 1, seed }, flat, 64))];
    expect(new Set(all.map(String)).size).toBe(all.length);
  });

  it('keeps its sequence from release to release', () => {
    expect(draws({ temperature: 1, seed: 1 }, new Float32Array(1000), 6)).toMatchInlineSnapshot(`
      [
        563,
        585,
        895,
        946,
        272,
        306,
      ]
    `);
  });

  it('follows softmax', () => {
    expectShares(shares({ temperature: 1 }, logits), weights);
  });

  it('divides by the temperature', () => {
    expectShares(
      shares({ temperature: 2, seed: 3 }, logits),
      weights.map((w) => w ** 0.5),
    );
    expectShares(
      shares({ temperature: 0.5, seed: 4 }, logits),
      weights.map((w) => w ** 2),
    );
  });

  it('keeps the top k, of equals the lowest ids', () => {
    expectShares(shares({ temperature: 1, topK: 2 }, logits), [0, 8, 0, 4, 0]);
    expectShares(shares({ temperature: 1, topK: 4 }, logits), [1, 8, 2, 4, 0]);
    expectShares(shares({ temperature: 1, topK: 99 }, logits), weights);
    expectShares(shares({ temperature: 1, topK: 1 }, logits), [0, 1, 0, 0, 0]);
  });

  it('keeps the fewest tokens that reach top p', () => {
    // Shares in order: 1: 0.5, 3: 0.25, 2: 0.125, 0 and 4: 0.0625.
    expectShares(shares({ temperature: 1, topP: 0.7 }, logits), [0, 8, 0, 4, 0]);
    expectShares(shares({ temperature: 1, topP: 0.8 }, logits), [0, 8, 2, 4, 0]);
    expectShares(shares({ temperature: 1, topP: 0.92 }, logits), [1, 8, 2, 4, 0]);
    expectShares(shares({ temperature: 1, topP: 1e-9 }, logits), [0, 1, 0, 0, 0]);
  });

  it('applies top p to what top k left', () => {
    // Of 1 and 3 alone, 1 has 2/3.
    expectShares(shares({ temperature: 1, topK: 2, topP: 0.66 }, logits), [0, 1, 0, 0, 0]);
    expectShares(shares({ temperature: 1, topK: 2, topP: 0.68 }, logits), [0, 8, 0, 4, 0]);
  });

  it('never picks a token that is ruled out', () => {
    const some = logitsOf(-Infinity, 0, -Infinity, 0, -Infinity);
    for (const options of [{}, { topK: 4 }, { topP: 0.99 }, { topK: 4, topP: 0.99 }]) {
      expectShares(shares({ temperature: 5, ...options }, some, 2000), [0, 1, 0, 1, 0], 2000);
    }
  });

  it('agrees with sorting everything, on random logits with ties', () => {
    const random = randomSource(11);
    for (let round = 0; round < 60; round++) {
      const n = 1 + Math.floor(random() * 300);
      const values = Float32Array.from({ length: n }, () => Math.floor(random() * 40) / 8);
      const k = 1 + Math.floor(random() * n);
      const topP = 0.05 + 0.9 * random();
      const order = [...values.keys()].sort((a, b) => values[b] - values[a] || a - b).slice(0, k);
      const total = order.reduce((sum, id) => sum + Math.exp(values[id]), 0);
      const allowed = new Set<number>();
      for (let sum = 0, i = 0; i < order.length && sum < topP * total * (1 + 1e-9); i++) {
        allowed.add(order[i]);
        sum += Math.exp(values[order[i]]);
      }
      const sampler = new Sampler({ temperature: 1, topK: k, topP, seed: round });
      const before = values.slice();
      for (let i = 0; i < 50; i++) expect(allowed.has(sampler.pick(values))).toBe(true);
      expect(values).toEqual(before);
    }
  });

  it('takes extreme temperatures and logits', () => {
    expect(new Sampler({ temperature: 5e-324 }).pick(logits)).toBe(1);
    expect(draws({ temperature: 1e300 }, logitsOf(3e38, -3e38), 64)).toContain(1);
    expect(new Sampler({ temperature: 1 }).pick(logitsOf(3e38, -3e38))).toBe(0);
  });

  it('is quick on 128k tokens', () => {
    const random = randomSource(5);
    const large = Float32Array.from({ length: 128_256 }, () => 20 * random());
    for (const options of [{ topK: 40 }, { topP: 0.95 }, { topK: 1000, topP: 0.9 }, {}]) {
      const sampler = new Sampler({ temperature: 0.8, ...options });
      const start = performance.now();
      for (let i = 0; i < 5; i++) sampler.pick(large);
      // Some milliseconds; the bound only catches a slip in complexity.
      expect((performance.now() - start) / 5).toBeLessThan(300);
    }
  });
});

describe('weights', () => {
  it('are those of softmax, whole, and none for what is one in 2^31', () => {
    const random = randomSource(2);
    for (const temperature of [1e-3, 0.7, 1, 40, 1e20]) {
      const fall = fallOf(temperature);
      for (let i = 0; i < 500; i++) {
        const logit = Math.fround(10 - 25 * temperature * random());
        const exact = 2 ** 31 * Math.exp((logit - 10) / temperature);
        const weight = weightOf(logit, 10, fall);
        expect(Number.isInteger(weight)).toBe(true);
        expect(Math.abs(weight - exact)).toBeLessThanOrEqual(1 + exact * 1e-5);
        expect(weightOf(Math.fround(logit - temperature), 10, fall)).toBeLessThanOrEqual(weight);
      }
      expect(weightOf(10, 10, fall)).toBe(2 ** 31);
      expect(weightOf(10 - 23 * temperature, 10, fall)).toBe(0);
    }
    expect(weightOf(-Infinity, 10, fallOf(1))).toBe(0);
  });

  it('are cut up exactly', () => {
    const random = randomSource(3);
    const word = () => Math.floor(random() * 2 ** 32);
    for (const part of [0, 1, 0xffff, 0x10000, 0xffffffff, ...Array.from({ length: 200 }, word)]) {
      const total = Math.floor(random() * 2 ** 21) * 2 ** 32 + word();
      expect(partOf(total, part)).toBe(Number((BigInt(total) * BigInt(part)) >> 32n));
    }
  });
});

describe('random words', () => {
  it('can be looked at, taken and given back', () => {
    const [sampler, other] = [0, 1].map(() => new Sampler({ temperature: 1, seed: 4 }));
    const all = [...other.ahead(10)];
    expect([...sampler.ahead(4)]).toEqual(all.slice(0, 4));
    sampler.take(4);
    sampler.giveBack(0);
    expect([...sampler.ahead(3)]).toEqual(all.slice(4, 7));
    sampler.giveBack(3);
    expect([...sampler.ahead(9)]).toEqual(all.slice(1, 10));
    const logits = new Float32Array(50);
    const token = sampler.pickBy(logits, all[1]);
    expect(sampler.pick(logits)).toBe(token);
    expect([...sampler.ahead(1)]).toEqual(all.slice(2, 3));
    expect(new Sampler().ahead(5)).toHaveLength(0);
  });
});

describe('errors', () => {
  it('refuses logits it cannot rank', () => {
    for (const temperature of [0, 1]) {
      const sampler = new Sampler({ temperature });
      expect(() => sampler.pick(logitsOf(0, NaN))).toThrow(NonFiniteError);
      expect(() => sampler.pick(logitsOf(0, NaN))).toThrow(/Logit 1 of 2 is NaN/);
      expect(() => sampler.pick(logitsOf(NaN, 0))).toThrow(/Logit 0/);
      expect(() => sampler.pick(logitsOf(0, Infinity))).toThrow(/is Infinity/);
      expect(() => sampler.pick(logitsOf(-Infinity, -Infinity))).toThrow(/All 2 logits are -Infinity/);
      expect(() => sampler.pick(logitsOf(-Infinity))).toThrow(NonFiniteError);
      expect(() => sampler.pick(logitsOf())).toThrow(ShapeError);
    }
  });

  it.each<SamplerOptions>([
    { temperature: -1 },
    { temperature: NaN },
    { temperature: Infinity },
    { topK: -1 },
    { topK: 1.5 },
    { topK: NaN },
    { topP: 0 },
    { topP: 1.1 },
    { topP: NaN },
    { seed: 0.5 },
    { seed: 2 ** 53 },
    { seed: NaN },
    { temperature: '1' as unknown as number },
  ])('refuses %o', (options) => {
    const [[option, value]] = Object.entries(options);
    expect(() => new Sampler(options)).toThrow(OptionError);
    expect(() => new Sampler(options)).toThrow(`${option} is ${value}`);
  });
});
