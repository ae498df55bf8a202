import { describe, expect, it } from 'vitest';
import { decodeBf16, decodeF16, encodeBf16, encodeF16 } from '../../src/dtype.js';

const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);
const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
const fromBits = (...bits: number[]) => new Float32Array(Uint32Array.from(bits).buffer);

/** The definition, in plain arithmetic. */
function halfValue(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + mantissa / 1024) * 2 ** (exponent - 15) : (mantissa / 1024) * 2 ** -14);
}

describe('f16', () => {
  it('decodes all 65,536 halves to their values', () => {
    const decoded = decodeF16(all);
    for (let i = 0; i < 65_536; i++) {
      if (!Object.is(decoded[i], halfValue(i))) expect.fail(`${i}: ${decoded[i]}`);
    }
  });

  it('encodes all 65,536 decoded halves back to the same bits, NaN payloads included', () => {
    expect(encodeF16(decodeF16(all))).toEqual(all);
  });

  it('rounds to nearest even on and beside the midpoint of every two neighbouring halves', () => {
    for (const sign of [0, 0x8000]) {
      // 0x7bff is the largest half; its upper neighbour would be 65,536 = the value 0x7c00 would have.
      for (let half = 0; half <= 0x7bff; half++) {
        const upper = half === 0x7bff ? 65_536 : halfValue(half + 1);
        const middle = new Float32Array([((halfValue(half) + upper) / 2) * (sign ? -1 : 1)]);
        const bits = bitsOf(middle)[0];
        const encoded = encodeF16(fromBits(bits - 1, bits, bits + 1));
        const even = half & 1 ? half + 1 : half;
        const want = [half | sign, even | sign, (half + 1) | sign];
        if (want.some((w, i) => w !== encoded[i])) expect.fail(`${half}: ${[...encoded]} not ${want}`);
      }
    }
  });

  it('overflows to infinity, underflows to zero with its sign, keeps NaN', () => {
    const values = new Float32Array([65_519.99, 65_520, -1e38, 1e-30, -1e-45, Infinity, -0]);
    expect([...encodeF16(values)]).toEqual([0x7bff, 0x7c00, 0xfc00, 0, 0x8000, 0x7c00, 0x8000]);
    const nan = encodeF16(fromBits(0x7f800001, 0xffffffff, 0x7fc00000));
    expect([...nan]).toEqual([0x7e00, 0xffff, 0x7e00]);
  });

  it('honours offsets of views and takes empty arrays', () => {
    const backing = new Float32Array([9, 1, 2, 9]);
    expect([...encodeF16(backing.subarray(1, 3))]).toEqual([0x3c00, 0x4000]);
    expect([...decodeF16(Uint16Array.of(0, 0x3c00).subarray(1))]).toEqual([1]);
    expect(encodeF16(new Float32Array(0)).length).toBe(0);
    expect(decodeF16(new Uint16Array(0)).length).toBe(0);
  });
});

describe('bf16', () => {
  it('is the upper half of an f32, and back, for all 65,536 patterns', () => {
    const bits = bitsOf(decodeBf16(all));
    for (let i = 0; i < 65_536; i++) if (bits[i] !== i * 65_536) expect.fail(`${i}`);
    expect(encodeBf16(decodeBf16(all))).toEqual(all);
  });

  it('rounds to nearest even, overflows to infinity, keeps NaN', () => {
    const cases = [0x3f807fff, 0x3f808000, 0x3f808001, 0x3f818000, 0x7f7fffff, 0xff7fffff, 0x7f800001];
    const want = [0x3f80, 0x3f80, 0x3f81, 0x3f82, 0x7f80, 0xff80, 0x7fc0];
    expect([...encodeBf16(fromBits(...cases))]).toEqual(want);
  });
});
