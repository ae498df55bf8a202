import { OptionError, ShapeError } from '../errors.js';
import {
  checkStoredDtype,
  isQuantized,
  type MatrixData,
  type Part,
  rowBytes,
  type StoredDtype,
  valueVectors,
} from '../gpu/layout.js';
import type { QuantizationError, QuantizationMeter } from '../quantize.js';

/** How one field of a pool is stored, wherever the pool is. */
export interface FieldLayout {
  readonly name: string;
  readonly dtype: StoredDtype;
  /** Columns of each part (one part unless given as `parts`). */
  readonly parts: readonly number[];
  /** Bytes of a stored row: all parts, each padded to 16. */
  readonly rowBytes: number;
}

/** A field given as values: [N, cols], or [cols, N] when `transposed`. */
export interface FieldData extends MatrixData {
  cols: number;
  transposed?: boolean;
  /** Stored as this instead of the pool's dtype. */
  storeAs?: StoredDtype;
}

/** A field whose rows are several matrices side by side, e.g. [gate | up]: each part padded to 16 bytes. */
export interface FieldParts {
  parts: readonly Part[];
  storeAs?: StoredDtype;
}

/**
 * A field that is on the device already: rows of `cols` values as gpu/layout.ts describes them, values then scales,
 * whole in one buffer that stays the caller's.
 */
export interface FieldBuffer {
  buffer: GPUBuffer;
  cols: number;
  storeAs: StoredDtype;
}

export type FieldSpec = FieldData | FieldParts | FieldBuffer;

/** The error of one matrix that was quantised on the way in. */
export interface MatrixQuantization extends QuantizationError {
  readonly name: string;
  readonly dtype: StoredDtype;
}

/** A field as it is given, checked. */
export interface FieldPlan extends FieldLayout {
  readonly source: readonly Part[];
  /** The buffer that is taken as it is. */
  readonly adopt?: GPUBuffer;
  /** Rows [begin, end) as they are stored, where they need no packing. */
  readonly packed?: (begin: number, end: number) => Uint8Array<ArrayBuffer>;
}

/** @throws OptionError for an unknown dtype or no parts; ShapeError for columns that cannot be. */
export function planField(label: string, name: string, spec: FieldSpec, poolDtype: StoredDtype): FieldPlan {
  const dtype = checkStoredDtype(spec.storeAs ?? poolDtype);
  const given: readonly Part[] = 'parts' in spec ? spec.parts : 'buffer' in spec ? [] : [spec];
  const source = given.map((part, p) => ({
    ...part,
    name: part.name ?? `${label} ${name}${given.length > 1 ? ` part ${p}` : ''}`,
  }));
  const parts = 'buffer' in spec ? [spec.cols] : source.map((part) => part.cols);
  if (parts.length === 0) throw new OptionError(`field ${name} has no parts.`, { name });
  for (const cols of parts) checkCount(`columns of field ${name}`, cols);
  for (const { data, dtype: given = 'f16' } of source) {
    if (data instanceof Uint16Array && given !== 'f16' && given !== 'bf16') {
      throw new OptionError(`field ${name}: a Uint16Array holds f16 or bf16, not "${given}".`, {
        dtype: given,
      });
    }
  }
  // Room for one value more in the last vector: it would have to hold zeros.
  if ('buffer' in spec && valueVectors(spec.cols + 1, dtype) === valueVectors(spec.cols, dtype)) {
    throw new ShapeError(
      `field ${name}: a buffer is taken as it is, so the values of a row must fill vectors of 16 bytes.`,
      {
        cols: spec.cols,
        dtype,
      },
    );
  }
  const bytes = parts.reduce((sum, cols) => sum + rowBytes(cols, dtype), 0);
  return { name, dtype, parts, rowBytes: bytes, source, adopt: 'buffer' in spec ? spec.buffer : undefined };
}

function checkCount(what: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new ShapeError(`${what} must be 1 or more; it is ${value}.`, { value });
}

/** N, which all fields must agree on. @throws ShapeError when they do not; OptionError when none says. */
export function countRows(label: string, specs: Readonly<Record<string, FieldSpec>>, given?: number): number {
  let rows = given;
  for (const [name, spec] of Object.entries(specs)) {
    if ('buffer' in spec) continue;
    for (const { data, cols } of 'parts' in spec ? spec.parts : [spec]) {
      checkCount(`columns of field ${name}`, cols);
      const count = data.length / cols;
      if (!Number.isInteger(count) || count === 0 || (rows !== undefined && rows !== count)) {
        const expected = rows === undefined ? 'a whole number of rows, at least one' : `${rows} rows`;
        throw new ShapeError(
          `${label} ${name}: ${data.length} values at ${cols} columns are ${count} rows; expected ${expected}.`,
          { name, length: data.length, cols, rows },
        );
      }
      rows = count;
    }
  }
  if (rows === undefined) throw new OptionError(`${label}: give \`rows\` when every field is a GPU buffer.`);
  checkCount(`rows of ${label}`, rows);
  return rows;
}

/** What the meters of a field's parts found; empty where nothing was quantised. */
export function quantizationOf(
  { dtype, source }: FieldPlan,
  meters: readonly QuantizationMeter[],
): MatrixQuantization[] {
  if (!isQuantized(dtype)) return [];
  return meters.map((meter, p) => ({ name: source[p].name as string, dtype, ...meter.result }));
}

/** @throws OptionError when `pool` has no such field. */
export function fieldOf<F>(pool: { label: string; fields: ReadonlyMap<string, F> }, name: string): F {
  const field = pool.fields.get(name);
  if (field) return field;
  throw new OptionError(
    `${pool.label} has no field "${name}"; it has ${[...pool.fields.keys()].join(', ')}.`,
    {
      name,
    },
  );
}
