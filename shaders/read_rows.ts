import { readSum } from './read_sum.js';

/** The sum of all words of as many rows as make `every` lists, as u32: what the lanes' sums add up to. */
export function readRows(words: Uint32Array, rowWords: number, every: number): number {
  const lists = Math.floor(words.length / (rowWords * every));
  return readSum(words.subarray(0, lists * rowWords * every));
}
