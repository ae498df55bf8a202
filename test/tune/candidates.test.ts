import { describe, expect, it } from 'vitest';
import type { StoredDtype } from '../../src/gpu/layout.js';
import type { Traits } from '../../src/gpu/traits.js';
import { downVariants, rowVariants } from '../../src/mlp/variants.js';
import { copyVariants } from '../../src/slab/variants.js';
import { Candidates } from '../../src/tune/candidates.js';

const made = ['a', 'b', 'c'].flatMap((tile) => [1, 2, 3, 4].map((cut) => ({ tile, cut })));

describe('candidates of a table', () => {
  it('are every cut of the first group and the first cut of the others', () => {
    const { first } = new Candidates(made, 'tile');
    expect(first.map(({ tile, cut }) => `${tile}${cut}`)).toEqual(['a1', 'a2', 'a3', 'a4', 'b1', 'c1']);
  });

  it('end with the best cut of the best group', () => {
    const candidates = new Candidates(made, 'tile');
    const times = (best: string) => (one: { tile: string; cut: number }) =>
      best.includes(`${one.tile}${one.cut}`) ? 1 : 2;
    expect(candidates.last(times('a3 c1'))).toEqual({ tile: 'c', cut: 3 });
    expect(candidates.last(times('a3'))).toBeUndefined();
    expect(candidates.last(times('b1'))).toBeUndefined();
    expect(candidates.last(() => Number.POSITIVE_INFINITY)).toBeUndefined();
  });

  it('do without a combination that the table lacks', () => {
    const ragged = [...made.slice(0, 6), { tile: 'd', cut: 1 }];
    const time = (one: { tile: string; cut: number }) => (one.tile === 'd' || one.cut === 4 ? 1 : 2);
    expect(new Candidates(ragged, 'tile').last(time)).toBeUndefined();
  });

  it('begin with the default, whatever the adapter', () => {
    for (const subgroup of [0, 4, 8, 32, 64]) {
      for (const software of [true, false]) {
        const traits: Traits = {
          software,
          subgroup,
          f16: false,
          subnormals: false,
          softwareKit: true,
          octets: false,
          fastTexels: false,
          timestamps: false,
        };
        const tables: [axis: string, variants: readonly object[]][] = [['WORKGROUP', copyVariants(traits)]];
        for (const dtype of ['f32', 'q4'] as StoredDtype[]) {
          for (const batched of [true, false]) {
            tables.push(['sums', downVariants(traits, dtype, batched, 256)]);
            tables.push(['tile', rowVariants(traits, 'linear', dtype, batched, 256)]);
          }
        }
        for (const [axis, variants] of tables) {
          const { first } = new Candidates(variants, axis);
          expect(first[0]).toBe(variants[0]);
          expect(new Set(first.map((one) => JSON.stringify(one))).size).toBe(first.length);
        }
      }
    }
  });
});
