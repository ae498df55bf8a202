import type { Rates } from './tuning.js';

/** The rate at `share`, in ms per gigabyte: on a straight line between two points, beyond the ends as at the end. */
export function rateAt(rates: Rates, share: number): number {
  const after = rates.findIndex(([at]) => at >= share);
  if (after < 0) return rates[rates.length - 1][1];
  if (after === 0) return rates[0][1];
  const [x0, y0] = rates[after - 1];
  const [x1, y1] = rates[after];
  return y0 + ((share - x0) / (x1 - x0)) * (y1 - y0);
}
