import { OptionError } from '../errors.js';
import type { SlabView } from './view.js';

/** Values in the 16 bytes that every part of a row is padded to. */
const WHOLE = { f32: 4, f16: 8, bf16: 8 } as const;

/**
 * The dtype of a view that another runtime can read as a matrix [m, columns], each row right after the last.
 * @param known What the runtime has a name for.
 * @throws OptionError for another dtype, rows with padding between their columns, or no rows; nothing else can stand in
 * for a copy without the caller's knowing.
 */
export function packedDtype<D extends SlabView['dtype']>(
  { dtype, shape, rowStride, parts }: SlabView,
  known: readonly D[],
  runtime: string,
): D {
  const found = known.find((name) => name === dtype);
  if (!found) {
    throw new OptionError(
      `the slab's rows are ${dtype}; ${runtime} takes ${known.join(' or ')}. Make the slab with dtype '${known[0]}'.`,
      { dtype, known },
    );
  }
  const [rows, columns] = shape;
  if (rowStride !== columns) {
    throw new OptionError(
      `rows of ${parts.map(({ cols }) => cols).join(' + ')} values are ${rowStride} values apart in the slab; ` +
        `${runtime} needs them next to each other: columns in multiples of ${WHOLE[dtype]} for ${dtype}.`,
      { rowStride, columns, multiple: WHOLE[dtype] },
    );
  }
  if (rows === 0) throw new OptionError(`the slab holds no rows; ${runtime} has no use for an empty matrix.`);
  return found;
}
