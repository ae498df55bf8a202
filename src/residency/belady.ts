import { OptionError } from '../errors.js';
import type { Bitmask } from '../mask/index.js';

/**
 * The fewest rows that any policy can load over these steps, from an empty slab of `capacity` slots, knowing them all
 * beforehand: of the rows that need not stay, the one whose next use is farthest goes (L. A. Belady, IBM Systems
 * Journal 5(2), 1966; the rows of a step are wanted together, and those must stay). The bound that a policy is measured
 * by. A step with more rows than slots loads what is not resident and may keep any rows of it, which no order of pieces
 * can beat.
 *
 * @returns rows loaded, step by step. O(steps · N).
 * @throws OptionError when capacity is not an integer of at least 1.
 */
export function beladyLoads(masks: readonly Bitmask[], capacity: number): Uint32Array {
  if (!Number.isInteger(capacity) || capacity < 1) {
    throw new OptionError(`capacity is ${capacity}; it must be an integer of at least 1`, { capacity });
  }
  const loads = new Uint32Array(masks.length);
  if (masks.length === 0) return loads;
  const uses = usesOf(masks);
  /** By row: where in its list of uses the next one stands. */
  const next = new Uint32Array(uses.length);
  const resident = new Set<number>();
  masks.forEach((mask, step) => {
    let active = 0;
    for (const row of mask) {
      active++;
      next[row]++;
      if (resident.has(row)) continue;
      resident.add(row);
      loads[step]++;
    }
    const over = resident.size - capacity;
    if (over <= 0) return;
    const candidates = [...resident].filter((row) => active > capacity || !mask.has(row));
    const nextUse = (row: number): number => uses[row][next[row]] ?? masks.length;
    candidates.sort((a, b) => nextUse(b) - nextUse(a) || a - b);
    for (const row of candidates.slice(0, over)) resident.delete(row);
  });
  return loads;
}

/** By row, the steps that use it, ascending. */
function usesOf(masks: readonly Bitmask[]): number[][] {
  const uses = Array.from({ length: masks[0].size }, (): number[] => []);
  masks.forEach((mask, step) => {
    for (const row of mask) uses[row].push(step);
  });
  return uses;
}
