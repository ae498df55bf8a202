import type { StoredDtype } from '../gpu/layout.js';
import { type Costs, measuredCosts } from '../gpu/tuning.js';

/**
 * τ of the hybrid plan: moving rows is dearer than gathering all of them once writes / m' exceeds what a gathered row
 * costs over what a moved one does. 1 (never repack) where a move costs no more.
 */
export function tauOf({ move, select }: Costs, rowBytes: number): number {
  const gigabytes = rowBytes / 1e9;
  const moved = move.each + gigabytes * move.gigabyte;
  return moved > 0 ? Math.min(1, (select.each + gigabytes * select.gigabyte) / moved) : 1;
}

/** τ as measured on `device` for rows of `rowBytes`; 1 until it was. */
export function measuredTau(device: GPUDevice, dtype: StoredDtype, rowBytes: number): number {
  const costs = measuredCosts(device, dtype);
  return costs ? tauOf(costs, rowBytes) : 1;
}
