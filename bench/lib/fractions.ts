import type { Framed, ReadCeilings } from '../../src/tune/ceilings.js';

/** A result's columns: a rate beside both read ceilings of the same minutes. */
export interface Fractions {
  /** Of the ceiling of storage buffers: over 1 where rows lie in textures that are read faster. */
  readFraction: number;
  /** Of the faster of the two. */
  readFractionOfBest: number;
  readCeilingBefore: Framed['before'];
  readCeilingAfter: Framed['after'];
  textureCeilingBefore: Framed['before'];
  textureCeilingAfter: Framed['after'];
}

export function fractionsOf(gbps: number, { buffer, texture }: ReadCeilings<Framed>): Fractions {
  return {
    readFraction: gbps / buffer.median,
    readFractionOfBest: gbps / Math.max(buffer.median, texture.median),
    readCeilingBefore: buffer.before,
    readCeilingAfter: buffer.after,
    textureCeilingBefore: texture.before,
    textureCeilingAfter: texture.after,
  };
}
