import type { Bitmask } from '../mask/index.js';

/**
 * Which rows give up their slots. It sees what is loaded and used, never the data. It must be deterministic, and
 * `victims` must not depend on how often it was asked: plans may be thrown away.
 */
export interface Policy {
  readonly name: string;
  /**
   * At least `count` rows of `resident` that are not in `wanted`, in any order; there are that many. More where the
   * policy holds no more rows than it has a reason to (exact, window): it is asked at every plan, also for 0.
   */
  victims(count: number, resident: Bitmask, wanted: Bitmask): readonly number[];
  /** These rows ([k], ascending ids) have come into the slab. */
  admit(rows: Uint32Array): void;
  /** The step that goes on uses these rows ([m], ascending ids); once for each piece of a step. */
  note(rows: Uint32Array): void;
  /** The step is over. */
  endStep(): void;
}

/** Makes a policy for a slab of `capacity` slots over a pool of `rows` rows. */
export type PolicyFactory = (rows: number, capacity: number) => Policy;
