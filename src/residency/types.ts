import type { Bitmask } from '../mask/index.js';

/**
 * `indexed`: active rows are used where they lie, in any slot. `packed`: active rows are brought to slots [0, m').
 * `prefetch`: rows that may be wanted soon are loaded; nothing is used.
 */
export type ResidencyKind = 'indexed' | 'packed' | 'prefetch';

/** The row writes that make a step's rows resident. Making one changes nothing; `Residency.commit` does. */
export interface ResidencyPlan {
  readonly kind: ResidencyKind;
  /** m', rows that the step uses; 0 for a prefetch. */
  readonly active: number;
  /**
   * Two words a move, as in `Plan`: destination slot, then source, a pool row or (packed only) MOVE_FROM_SLAB plus a
   * slot. No destination comes twice and none is a source, so the moves run in any order, all at once.
   */
  readonly moves: Uint32Array;
  /** Rows written, moves.length / 2: `loaded.length` from the pool, the rest copied within the slab. */
  readonly writes: number;
  /** Rows that were not resident and come from the pool, ascending. */
  readonly loaded: Uint32Array;
  /** Rows that are no longer resident, ascending. */
  readonly evicted: Uint32Array;
  /** Wanted rows that were resident already. */
  readonly hits: number;
  /**
   * [m'], indexed only: the slot of each active row, rows by id. In that order sums come out bit for bit as where the
   * pool itself is indexed, whatever the slots' history. Null for packed (slots [0, m')) and prefetch.
   */
  readonly slots: Uint32Array | null;
  /** Rows that are active now and were not, and the reverse, ascending; empty for a prefetch. */
  readonly added: Uint32Array;
  readonly removed: Uint32Array;
  /** The rows that the step uses, or that a prefetch wants. */
  readonly wanted: Bitmask;
  /** Further pieces of the same step follow. */
  readonly more: boolean;
  /** The state that it was made from; commit refuses it in any other. */
  readonly version: number;
}
