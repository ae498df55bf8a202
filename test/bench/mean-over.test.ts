import { expect, it } from 'vitest';
import { meanOver } from '../../bench/lib/mean-over.js';

it('is the mean of numbers, and of lists and objects of them; null where one has none', () => {
  const all = [
    { a: 1, list: [1, 5], in: { b: 2 }, gone: null, some: 3, name: 'x' },
    { a: 3, list: [3, 7], in: { b: 4 }, gone: null, some: null, name: 'x' },
  ];
  expect(meanOver(all)).toEqual({ a: 2, list: [2, 6], in: { b: 3 }, gone: null, some: null, name: 'x' });
  expect(meanOver([4])).toBe(4);
});
