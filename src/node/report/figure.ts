import { isRecord } from './read.js';

/** A value and how far repeats spread around it. */
export interface Figure {
  value: number;
  low: number;
  high: number;
}

/**
 * A figure out of a result: statistics (the median with its confidence interval, or p10 to p90 in files from before
 * there was one) or a plain number. null for anything else.
 */
export function figureOf(field: unknown): Figure | null {
  if (isNumber(field)) return { value: field, low: field, high: field };
  if (!isRecord(field) || !isNumber(field.median)) return null;
  const { median, ci, p10, p90 } = field;
  const [low, high] = isRecord(ci) ? [ci.low, ci.high] : [p10, p90];
  return { value: median, low: isNumber(low) ? low : median, high: isNumber(high) ? high : median };
}

/** Of a figure in milliseconds, how many a second. */
export function perSecond({ value, low, high }: Figure): Figure {
  return { value: 1000 / value, low: 1000 / high, high: 1000 / low };
}

/** Three digits that mean something. */
export function short(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2);
  return size >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function isNumber(value: unknown): value is number {
  return Number.isFinite(value);
}
