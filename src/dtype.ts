/**
 * The float types weights are stored in, and conversions to and from f32. All of it works on bit patterns through
 * integer views: a signalling NaN that passes through a JavaScript number may come back changed.
 */

/** How a number is stored: 4, 2 and 2 bytes. f16 is IEEE 754 binary16, bf16 the upper half of an f32. */
export type Dtype = 'f32' | 'f16' | 'bf16';

/** f32 bit patterns of all 65,536 halves; built at the first use, so that importing this file costs nothing. */
let halfTable: Uint32Array | undefined;

function halfBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // Subnormal, mantissa · 2^-24: normal in f32 once the leading one is shifted to bit 10.
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

function tableOfHalves(): Uint32Array {
  if (!halfTable) {
    halfTable = new Uint32Array(65_536);
    for (let i = 0; i < 65_536; i++) halfTable[i] = halfBits(i);
  }
  return halfTable;
}

/** Widens IEEE halves to f32, exactly; NaN payloads are kept. Returns a new array of the same length. */
export function decodeF16(src: Uint16Array): Float32Array<ArrayBuffer> {
  const table = tableOfHalves();
  const out = new Uint32Array(src.length);
  for (let i = 0; i < src.length; i++) out[i] = table[src[i]];
  return new Float32Array(out.buffer);
}

/** Widens bf16 to f32, exactly; NaN payloads are kept. Returns a new array of the same length. */
export function decodeBf16(src: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Uint32Array(src.length);
  for (let i = 0; i < src.length; i++) out[i] = src[i] << 16;
  return new Float32Array(out.buffer);
}

/**
 * Narrows f32 to IEEE halves: round to nearest, ties to even (IEEE 754-2019, 4.3.1). Magnitudes of 65,520 and more
 * become infinity, below 2^-14 subnormal halves; NaN stays NaN. Returns a new array of the same length.
 */
export function encodeF16(src: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(src.buffer, src.byteOffset, src.length);
  const out = new Uint16Array(src.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i];
    const magnitude = b & 0x7fffffff;
    let half: number;
    if (magnitude >= 0x47800000) {
      // 65,536 and more, infinity, NaN. A NaN whose upper payload bits are all zero would turn into infinity.
      half = magnitude > 0x7f800000 ? 0x7c00 | ((magnitude >>> 13) & 0x3ff || 0x200) : 0x7c00;
    } else if (magnitude >= 0x38800000) {
      // Normal: move the exponent's bias from 127 to 15. A carry out of the mantissa raises the exponent, as it should.
      const rebiased = magnitude - 0x38000000;
      half = (rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13;
    } else {
      // Subnormal: count units of 2^-24. Shifts beyond 24 mean less than half a unit, and JavaScript's wrap at 32.
      const shift = 126 - (magnitude >>> 23);
      const mantissa = (magnitude & 0x7fffff) | 0x800000;
      half = shift > 24 ? 0 : (mantissa + ((1 << (shift - 1)) - 1) + ((mantissa >>> shift) & 1)) >>> shift;
    }
    out[i] = ((b >>> 16) & 0x8000) | half;
  }
  return out;
}

/**
 * Narrows f32 to bf16: round to nearest, ties to even; overflow becomes infinity, NaN stays NaN. Returns a new array
 * of the same length.
 */
export function encodeBf16(src: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(src.buffer, src.byteOffset, src.length);
  const out = new Uint16Array(src.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i];
    const upper = b >>> 16;
    if ((b & 0x7fffffff) > 0x7f800000) out[i] = upper & 0x7f ? upper : upper | 0x40;
    else out[i] = (b + 0x7fff + (upper & 1)) >>> 16;
  }
  return out;
}
