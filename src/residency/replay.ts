import type { Bitmask } from '../mask/index.js';
import { SlotMap } from '../plan/slot-map.js';
import { planUpdate } from '../plan/plan.js';
import { Residency, type ResidencyOptions } from './residency.js';

/** What one step did to one layer's slab under a budget. */
export interface ReplayStep {
  /** m, the rows it used. */
  readonly active: number;
  /** Of them, resident already. */
  readonly hits: number;
  /** Rows that came from the pool. */
  readonly loads: number;
  /** Rows written: loads, and copies within the slab (packed). */
  readonly writes: number;
  /** 1 where all rows fitted. */
  readonly pieces: number;
}

/** Runs one layer's masks through a residency of its own, from an empty slab. */
export function replay(masks: readonly Bitmask[], options: Omit<ResidencyOptions, 'rows'>): ReplayStep[] {
  if (masks.length === 0) return [];
  const residency = new Residency({ ...options, rows: masks[0].size });
  return masks.map((mask) => {
    const pieces = residency.pieces(mask);
    const step = { active: 0, hits: 0, loads: 0, writes: 0, pieces: pieces.length };
    for (const piece of pieces) {
      const plan = residency.plan(piece.mask, piece);
      residency.commit(plan);
      step.active += plan.active;
      step.hits += plan.hits;
      step.loads += plan.loaded.length;
      step.writes += plan.writes;
    }
    return step;
  });
}

/** How one step's rows differ from the last one's, and what that costs where active rows are the resident ones. */
export interface ChurnStep {
  /** m */
  readonly active: number;
  /** A, R */
  readonly added: number;
  readonly removed: number;
  /** Rows that the tight plan writes: h, the fewest there can be. */
  readonly writes: number;
  /** Rows of this step that the last one used too, over m; 0 where m is 0. */
  readonly persistence: number;
}

/** One layer's churn, step by step; the first step comes after one without rows. */
export function churn(masks: readonly Bitmask[]): ChurnStep[] {
  if (masks.length === 0) return [];
  const map = new SlotMap(masks[0].size, masks[0].size);
  return masks.map((mask) => {
    const { active, added, removed, writes, ...plan } = planUpdate(map, mask);
    map.commit({ active, added, removed, writes, ...plan });
    return {
      active,
      added: added.length,
      removed: removed.length,
      writes,
      persistence: active > 0 ? (active - added.length) / active : 0,
    };
  });
}

/** `[N]`: how many of the steps use each row. What `pinned` is measured by. */
export function useCounts(masks: readonly Bitmask[]): Float64Array {
  const counts = new Float64Array(masks[0]?.size ?? 0);
  for (const mask of masks) for (const row of mask) counts[row]++;
  return counts;
}
