import { OptionError } from '../errors.js';
import { isQuantized, type StoredDtype, valueBytes, valueVectors } from '../gpu/layout.js';
import type { SlabField } from './copier.js';

/** A zero-copy look at one field of a slab: rows [0, m), each `rowStride` values after the last. */
export interface SlabView {
  readonly buffer: GPUBuffer;
  readonly offset: 0;
  readonly dtype: Exclude<StoredDtype, 'q8' | 'q4'>;
  /** [m, columns]; for several parts the sum of their columns. */
  readonly shape: readonly [number, number];
  /** Values from one row to the next; equal to the columns when nothing is padded. */
  readonly rowStride: number;
  /** First value and columns of each part within a row. */
  readonly parts: readonly { readonly start: number; readonly cols: number }[];
  /** Slot → row id of the rows in view, on the device: [m, 0, 0, 0, ids …] as u32. */
  readonly rowList: GPUBuffer;
}

/** `[m, hidden]`: row s is column `row(s)` of the model's [hidden, N] down matrix, so this is its active part transposed. */
export interface ActiveDownView extends SlabView {
  readonly transposeOf: readonly [number, number];
}

/** @throws OptionError when the rows are q8 or q4 in the slab: values with scales between. */
export function viewOf(
  label: string,
  field: SlabField,
  buffer: GPUBuffer,
  active: number,
  rowList: GPUBuffer,
): SlabView {
  const { name, dtype } = field;
  if (isQuantized(dtype)) {
    throw new OptionError(
      `${name} is ${dtype} in ${label}: its rows have scales among them and no stride in values. ` +
        "Make the slab with dtype 'f16' or 'f32' for a view, or read `buffers` as gpu/layout.ts describes them.",
      { name, dtype },
    );
  }
  const size = valueBytes(dtype);
  let start = 0;
  const parts = field.parts.map((cols) => {
    const part = { start, cols };
    start += (valueVectors(cols, dtype) * 16) / size;
    return part;
  });
  return {
    buffer,
    offset: 0,
    dtype,
    shape: [active, field.parts.reduce((a, b) => a + b, 0)],
    rowStride: field.rowBytes / size,
    parts,
    rowList,
  };
}
