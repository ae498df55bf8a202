import { expect, it } from 'vitest';
import { source } from './make.js';
import { pairsOf, pairwise } from './pairwise.js';

const factors = { a: [1, 2, 3], b: ['x', 'y'], c: [0, 1], d: [4, 5, 6] } as const;

it('has every pair that is allowed, in few cases, none that is not', () => {
  const allowed = (one: { a: number; b: string }) => one.a !== 3 || one.b === 'x';
  const cases = pairwise(factors, source(1), allowed);
  const pairs = new Set(cases.flatMap((one) => pairsOf<typeof factors>(one)));
  for (const a of factors.a)
    for (const b of factors.b) expect(pairs.has(`a=${a} b=${b}`)).toBe(allowed({ a, b }));
  for (const a of factors.a) for (const d of factors.d) expect(pairs).toContain(`a=${a} d=${d}`);
  for (const c of factors.c) for (const d of factors.d) expect(pairs).toContain(`c=${c} d=${d}`);
  expect(cases.length).toBeLessThanOrEqual(12);
});
