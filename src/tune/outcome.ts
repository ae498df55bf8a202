/** What a variant leaves, held against what the default leaves: the fastest kernel may be one that is wrong. */
import { readBuffer } from '../gpu/readback.js';

/** Where a task's result is. */
export interface Outcome {
  readonly buffer: GPUBuffer;
  /**
   * `values`: f32 that may be off by the order of sums; `sums`: the same, at places that differ from variant to variant;
   * `bits`: as they are.
   */
  readonly compare: 'values' | 'sums' | 'bits';
  /** Puts back what runs change of their input, where they do: the next variant is to find what the first one found. */
  restore?(encoder: GPUCommandEncoder): void;
}

/** Enough to see that a kernel is wrong, and quick to read. */
const MOST_BYTES = 1 << 20;
/** Over the root mean square of the default's: sums of thousands of f32 differ by 1e-6 of it. */
const TOLERANCE = 1e-3;

/** The result as it is now, as `differs` takes it. */
export async function resultOf(device: GPUDevice, { buffer, compare }: Outcome): Promise<Float32Array> {
  const values = new Float32Array(await readBuffer(device, buffer, 0, Math.min(buffer.size, MOST_BYTES)));
  if (compare !== 'sums') return values;
  let sum = 0;
  let size = 0;
  for (const value of values) {
    sum += value;
    size += Math.abs(value);
  }
  return Float32Array.of(sum, size);
}

/** How a result differs from the default's, in words; undefined where it does not. */
export function differs(
  { compare }: Pick<Outcome, 'compare'>,
  values: Float32Array,
  expected: Float32Array,
): string | undefined {
  const bits = (of: Float32Array) => new Uint32Array(of.buffer, of.byteOffset, of.length);
  const [mine, others] = [bits(values), bits(expected)];
  const square = expected.reduce((sum, value) => sum + value * value, 0) / expected.length;
  const most = compare === 'bits' ? 0 : TOLERANCE * Math.sqrt(square);
  for (let i = 0; i < mine.length; i++) {
    // A NaN is off unless the default has the very same.
    if (mine[i] === others[i] || (compare !== 'bits' && Math.abs(values[i] - expected[i]) <= most)) continue;
    return `value ${i} of its result is ${values[i]}, the default's ${expected[i]}`;
  }
  return undefined;
}
