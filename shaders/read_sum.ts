/** The sum of all words, as u32: what the lanes' sums add up to, whoever read what. */
export function readSum(words: Uint32Array): number {
  let sum = 0;
  for (const word of words) sum = (sum + word) >>> 0;
  return sum;
}
