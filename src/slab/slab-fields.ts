import { OptionError } from '../errors.js';
import { rowBytes, type StoredDtype } from '../gpu/layout.js';
import type { FieldLayout } from '../pool/fields.js';
import type { Pool } from '../pool/pool.js';
import type { SlabField } from './copier.js';

/** What a slab can convert its rows to on the way in. */
export type SlabDtype = 'f32' | 'f16';
export const SLAB_DTYPES: readonly SlabDtype[] = ['f32', 'f16'];

/** The pool's fields as a slab of these dtypes keeps them. @throws OptionError for a dtype that rows cannot be converted to. */
export function slabFields(
  pool: Pool,
  wanted?: SlabDtype | Readonly<Record<string, SlabDtype>>,
): Map<string, SlabField> {
  for (const name of typeof wanted === 'object' ? Object.keys(wanted) : []) pool.field(name);
  const of = ({ name, dtype, parts, rowBytes: poolBytes }: FieldLayout): SlabField => {
    const chosen =
      typeof wanted === 'object' ? (Object.hasOwn(wanted, name) ? wanted[name] : undefined) : wanted;
    if (chosen === undefined || (chosen as StoredDtype) === dtype)
      return { name, dtype, parts, rowBytes: poolBytes };
    if (chosen !== 'f32' && chosen !== 'f16') {
      throw new OptionError(
        `a slab cannot convert ${name} to "${String(chosen)}"; use f32 or f16, or leave it as the pool has it (${dtype}).`,
        { name, dtype: chosen },
      );
    }
    const bytes = parts.reduce((sum, cols) => sum + rowBytes(cols, chosen), 0);
    return { name, dtype: chosen, parts, rowBytes: bytes };
  };
  return new Map([...pool.fields.values()].map((field) => [field.name, of(field)]));
}

/** @throws OptionError for a slab that converts rows as they are copied, which a buffer copy cannot. */
export function checkPlainCopy(label: string, pool: Pool, fields: ReadonlyMap<string, SlabField>): void {
  for (const { name, dtype } of fields.values()) {
    const stored = pool.field(name).dtype;
    if (dtype === stored) continue;
    throw new OptionError(
      `${label} keeps ${name} as ${dtype}, its pool as ${stored}: a buffer copy cannot convert; use encodeUpdate.`,
      { name, dtype, stored },
    );
  }
}
