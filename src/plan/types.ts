import { PairslabError } from '../errors.js';

/** Bit 31 of a move's source: set, the other 31 bits are a slab slot; clear, they are a pool row. */
export const MOVE_FROM_SLAB = 0x80000000;

/** Rows that change, as ascending row ids. */
export interface Change {
  readonly added: Uint32Array;
  readonly removed: Uint32Array;
}

/** The row writes that turn one slab into the next. Making one changes nothing; `SlotMap.commit` does. */
export interface Plan extends Change {
  /**
   * 'tight' and 'repack': the moves may run in any order, all at once. 'published': a serial chain, to be run in the
   * order given, since a move may read what an earlier one wrote.
   */
  readonly kind: 'tight' | 'published' | 'repack';
  /** Rows that enter the slab, ascending. */
  readonly added: Uint32Array;
  /** Rows that leave it, ascending. */
  readonly removed: Uint32Array;
  /** m', the active rows once the plan is committed: they fill slots [0, m'). */
  readonly active: number;
  /** Two words a move: destination slot, then source (see MOVE_FROM_SLAB). */
  readonly moves: Uint32Array;
  /** Rows written: moves.length / 2. */
  readonly writes: number;
  /** The fewest rows that any plan with this outcome could write: m' less the survivors already below m'. */
  readonly minimum: number;
  /**
   * The change that was put off (see `hybridPlan`), null in all other plans. Such a plan moves nothing and the map
   * keeps its old mask, so the caller computes with that one or handles these rows itself.
   */
  readonly deferred: Change | null;
  /** `SlotMap.version` of the state that the plan was made from; commit refuses it in any other. */
  readonly version: number;
}

/** A plan was made from another state than the slot map is in. `details` holds both versions. Nothing changed. */
export class StalePlanError extends PairslabError {
  override name: string = 'StalePlanError';
}
