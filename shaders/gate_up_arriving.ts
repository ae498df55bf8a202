import { copyRows } from './copy_rows.js';
import { type GateUpInput, gateUp } from './gate_up.js';

/** A slab's field while the slab is brought to its next rows. */
export interface Arrivals {
  /** [C, rowWords] and [N, rowWords]: the field as it is stored; the slab is changed. */
  slab: Uint32Array;
  pool: Uint32Array;
  rowWords: number;
  /** [moves, 2] as (to, from). */
  moves: Uint32Array;
  /** [C]: slot -> row id; changed. */
  rowIds: Uint32Array;
  /** m': active rows afterwards. */
  active: number;
}

/** The moves of copy_rows, then [m']: gate_up of what the slots hold. */
export function gateUpArriving(arrivals: Arrivals, input: Omit<GateUpInput, 'rows'>): Float64Array {
  return gateUp({ ...input, rows: arrive(arrivals) });
}

/** The moves of copy_rows. @returns row ids by slot, [m']. */
export function arrive({ slab, pool, rowWords, moves, rowIds, active }: Arrivals): number[] {
  copyRows(slab, pool, rowWords, moves);
  const ids = Uint32Array.from({ length: pool.length / rowWords }, (_, id) => id);
  copyRows(rowIds, ids, 1, moves);
  return [...rowIds.subarray(0, active)];
}
