/**
 * Mask words, [ceil(N / 32)]: bit i of word w is set where values[b, 32 w + i] is not zero for any b. values [batch, N].
 */
export function maskValues(values: ArrayLike<number>, batch = 1): Uint32Array {
  const rows = values.length / batch;
  const words = new Uint32Array(Math.ceil(rows / 32));
  for (let at = 0; at < values.length; at++) {
    const i = at % rows;
    if (values[at] !== 0) words[Math.floor(i / 32)] |= 1 << (i % 32);
  }
  return words;
}
