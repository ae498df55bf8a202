/**
 * Weights as small integers times a scale: q8 has one f32 scale a row, q4 one f16 scale for every 32 values. Both are
 * symmetric, so that zero stays zero. How a row of them lies in memory: gpu/layout.ts.
 */
import { decodeF16, encodeF16 } from './dtype.js';

/** Values that share a scale in q4. */
export const Q4_GROUP = 32;

/** The error that quantising a matrix caused. */
export interface QuantizationError {
  /** sqrt(Σ (w − ŵ)² / Σ w²), ŵ being what the stored weight widens to; 0 for a matrix of zeros. */
  rmsRelative: number;
  /** max |w − ŵ|, in units of the weights. */
  maxAbsolute: number;
}

/** Adds up the error of a matrix, row by row. */
export class QuantizationMeter {
  private squares = 0;
  private errors = 0;
  private most = 0;

  /** `given` [cols] became `stored`. */
  add(given: Float32Array, stored: Float32Array): void {
    for (let i = 0; i < given.length; i++) {
      const error = given[i] - stored[i];
      this.squares += given[i] * given[i];
      this.errors += error * error;
      const size = Math.abs(error);
      if (size > this.most) this.most = size;
    }
  }

  get result(): QuantizationError {
    const rmsRelative = this.squares === 0 ? 0 : Math.sqrt(this.errors / this.squares);
    return { rmsRelative, maxAbsolute: this.most };
  }
}

/** The smallest normal f32: shaders may take a smaller scale for zero. */
const LEAST_SCALE = 2 ** -126;

/**
 * Writes a row of finite values as int8 in [-127, 127] and returns their scale, max|w| / 127 as f32: each is off by at
 * most half a scale. A row whose scale would be subnormal becomes zero.
 */
export function quantizeQ8(row: Float32Array, values: Int8Array): number {
  let most = 0;
  for (let i = 0; i < row.length; i++) most = Math.max(most, Math.abs(row[i]));
  const scale = Math.fround(most / 127);
  if (scale < LEAST_SCALE) {
    values.fill(0);
    return 0;
  }
  // A scale that was rounded down may ask for 127 and a bit.
  const inverse = 1 / scale;
  for (let i = 0; i < row.length; i++) values[i] = clamp(nearest(row[i] * inverse), -127, 127);
  return scale;
}

/** f32 values of a q8 row, one for each of `out`. */
export function dequantizeQ8<T extends Float32Array>(values: Int8Array, scale: number, out: T): T {
  for (let i = 0; i < out.length; i++) out[i] = values[i] * scale;
  return out;
}

/**
 * Writes a row of finite values as int4 in [-8, 7], two a byte (the earlier one in the low half), and a scale (f16
 * bits) for each group of 32. What is not cut off at -8 or 7 is off by at most half a scale.
 * @returns false when a scale is too large for f16; what was written is then of no use.
 */
export function quantizeQ4(row: Float32Array, nibbles: Uint8Array, scales: Uint16Array): boolean {
  const wanted = new Float32Array(Math.ceil(row.length / Q4_GROUP));
  for (let g = 0; g < wanted.length; g++) {
    wanted[g] = chooseScale(row, g * Q4_GROUP, Math.min(row.length, (g + 1) * Q4_GROUP));
  }
  const halves = encodeF16(wanted);
  const kept = decodeF16(halves);
  scales.set(halves);
  nibbles.fill(0);
  for (let g = 0; g < wanted.length; g++) {
    // By the scale as it is stored, so that its rounding costs as little as it can.
    const inverse = kept[g] === 0 ? 0 : 1 / kept[g];
    const end = Math.min(row.length, (g + 1) * Q4_GROUP);
    for (let i = g * Q4_GROUP; i < end; i++) {
      const n = clamp(nearest(row[i] * inverse), -8, 7);
      nibbles[i >> 1] |= (n & 15) << (4 * (i & 1));
    }
  }
  return kept.every(Number.isFinite);
}

/** f32 values of a q4 row, one for each of `out`. */
export function dequantizeQ4<T extends Float32Array>(nibbles: Uint8Array, scales: Uint16Array, out: T): T {
  const kept = decodeF16(scales);
  for (let i = 0; i < out.length; i++) {
    const n = ((nibbles[i >> 1] >> (4 * (i & 1))) << 28) >> 28;
    out[i] = n * kept[Math.floor(i / Q4_GROUP)];
  }
  return out;
}

/**
 * Into how many steps the largest weight of a group is tried to be cut. Fewer than 8 make all steps coarser, but put the
 * largest on the range's inside; more make them finer and cut the largest off. On the shipped model's matrices one
 * candidate leaves 8.41 % rms, these five 8.08 %, forty 8.05 %.
 */
const TRIED = [8, 7.2, 7.6, 8.4, 8.8];

/**
 * The scale of row[begin, end) with the smallest squared error among those tried: each candidate fixes the integers,
 * and those have one best scale, Σ w·n / Σ n². The first candidate puts the largest weight on -8, the range's longer
 * side. Method: make_qx_quants and quantize_row_q4_0_ref in ggml-quants.c of llama.cpp, all weights counting alike.
 */
function chooseScale(row: Float32Array, begin: number, end: number): number {
  let largest = 0;
  for (let i = begin; i < end; i++) if (Math.abs(row[i]) > Math.abs(largest)) largest = row[i];
  if (Math.abs(largest) < LEAST_SCALE) return 0;
  let best = 0;
  let scale = 0;
  for (let t = 0; t < TRIED.length; t++) {
    const inverse = -TRIED[t] / largest;
    let cross = 0;
    let squares = 0;
    for (let i = begin; i < end; i++) {
      const n = clamp(nearest(inverse * row[i]), -8, 7);
      cross += row[i] * n;
      squares += n * n;
    }
    // Σ (w − s·n)² is least, Σ w² − cross² / squares, at s = cross / squares.
    const gain = (cross * cross) / squares;
    if (gain > best) {
      best = gain;
      scale = cross / squares;
    }
  }
  return scale;
}

/** Numbers this large have no digits behind the point: what is added to one is rounded to the nearest integer. */
const WHOLE = 1.5 * 2 ** 52;

/** The nearest integer, ties to even, for sizes below 2^51. Several times as fast as Math.round. */
const nearest = (value: number): number => value + WHOLE - WHOLE;

// By comparisons: Math.min and Math.max mind -0 and NaN, and take twice as long.
function clamp(value: number, least: number, most: number): number {
  if (value < least) return least;
  if (value > most) return most;
  return value;
}
