/** Whether two stretches of bytes are equal; where there are too many of them for `toEqual`. */
export function sameBytes(a: ArrayBufferLike, b: ArrayBufferLike): boolean {
  const [left, right] = [new Uint8Array(a), new Uint8Array(b)];
  return left.length === right.length && left.every((byte, i) => byte === right[i]);
}
