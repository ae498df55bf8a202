/**
 * The weights that tokens are drawn by, as whole numbers: the likeliest token has 2^31, one that is x less likely 2^31 / x
 * rounded down, less than one in 2^31 none. CPU (`Sampler`) and device (sample_token) find the same ones bit for bit, from
 * f32 operations that both round alike and a table; sums of them (of up to four
 * million tokens) are exact in any order. So both draw the same token.
 */

/** Steps of the exponent, in bits, between one power of two and the next: a weight is off by 5e-6 of itself at most. */
const STEP_BITS = 17;
/** Of these, the bits that are looked up; the rest is interpolated. */
const TABLE_BITS = 8;
const REST_BITS = STEP_BITS - TABLE_BITS;
/** The exponent where weights are below 1. */
const MOST_STEPS = 32 * 2 ** STEP_BITS;

/** [257] u32: 2^31 · 2^(-i / 256). */
export const POWERS: Uint32Array<ArrayBuffer> = Uint32Array.from({ length: 2 ** TABLE_BITS + 1 }, (_, i) =>
  Math.round(2 ** (31 - i / 2 ** TABLE_BITS)),
);

/** How far a logit may lie below the largest, and what that comes to; both f32. Distances are halved: none overflows. */
export interface Fall {
  /** Exponent steps to half a logit. */
  readonly scale: number;
  /** Half the distance beyond which a token has no weight. */
  readonly reach: number;
}

const MOST_F32 = 2 ** 128 - 2 ** 104;

/** For a temperature above 0. Below 1e-24 or above 1e41 it is as there: nothing between logits is left to tell. */
export function fallOf(temperature: number): Fall {
  const wanted = (2 * Math.LOG2E * 2 ** STEP_BITS) / temperature;
  const scale = Math.fround(Math.min(2 ** 100, Math.max(2 ** -120, wanted)));
  return { scale, reach: Math.fround(Math.min(MOST_F32, (MOST_STEPS - 2) / scale)) };
}

/** The weight of a token, its logit given, where `largest` is the largest one; both f32 values. */
export function weightOf(logit: number, largest: number, { scale, reach }: Fall): number {
  const below = Math.fround(0.5 * largest - 0.5 * logit);
  if (!(below <= reach)) return 0;
  const steps = Math.trunc(Math.fround(below * scale));
  const at = (steps >>> REST_BITS) & (2 ** TABLE_BITS - 1);
  const rest = steps & (2 ** REST_BITS - 1);
  const high = POWERS[at];
  return (high - (((high - POWERS[at + 1]) * rest) >>> REST_BITS)) >>> (steps >>> STEP_BITS);
}

/** floor(total · part / 2^32), exactly, of a whole `total` below 2^53 and a u32 `part`. */
export function partOf(total: number, part: number): number {
  const high = Math.floor(total / 2 ** 32);
  const low = total - high * 2 ** 32;
  const upper = (part >>> 16) * low;
  const lower = Math.floor(((part & 0xffff) * low) / 2 ** 16);
  return high * part + Math.floor((upper + lower) / 2 ** 16);
}
