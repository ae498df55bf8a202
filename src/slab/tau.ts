import type { StoredDtype } from '../gpu/layout.js';
import { type Costs, measuredCosts } from '../gpu/tuning.js';
import { rateAt } from '../gpu/rates.js';

/** Copies of about so large a share of the rows are where gathering and moving compete. */
const SHARE = 0.25;

/**
 * τ of the hybrid plan: moving rows is dearer than gathering all of them once writes / m' exceeds what a gathered row
 * costs over what a moved one does. 1 (never repack) where a move costs no more.
 */
export function tauOf({ move, select }: Pick<Costs, 'move' | 'select'>): number {
  const moved = rateAt(move.rates, SHARE);
  return moved > 0 ? Math.min(1, rateAt(select.rates, SHARE) / moved) : 1;
}

/** τ as measured on `device` for rows like these; 1 until it was. */
export function measuredTau(
  device: GPUDevice,
  dtype: StoredDtype,
  like: Pick<Costs, 'rowBytes' | 'rows' | 'storage'>,
): number {
  const costs = measuredCosts(device, dtype, like);
  return costs ? tauOf(costs) : 1;
}
