/** Mask words, [ceil(N / 32)]: bit i of word w is set where values[32 w + i] is not zero. values [N]. */
export function maskValues(values: ArrayLike<number>): Uint32Array {
  const words = new Uint32Array(Math.ceil(values.length / 32));
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) words[Math.floor(i / 32)] |= 1 << (i % 32);
  return words;
}
