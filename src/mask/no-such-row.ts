import { RowError } from '../errors.js';

/** The error for an id that is none of `size` rows. */
export const noSuchRow = (id: number, size: number): RowError =>
  new RowError(`row ${id} is not an integer in [0, N) with N = ${size}`, { id, size });
