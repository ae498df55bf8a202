import { OptionError, ShapeError } from '../errors.js';
import { type MatrixData, partVectors } from '../gpu/layout.js';
import type { FieldSpec } from '../pool/fields.js';
import type { StoredRows } from './row-op.js';

type Values = Float32Array | MatrixData;

/** A layer's weights. `gate` makes it gated: act(gate · x) · (up · x); without it, plain: act(up · x). */
export interface SparseMLPWeights {
  /** Columns of x and y. */
  hidden: number;
  /** [N, hidden]. */
  gate?: Values;
  /** [N, hidden]. */
  up: Values;
  /** [hidden, N] as models store it, or [N, hidden] with `downRows`. */
  down: Values;
  /** `down` is given as [N, hidden]. */
  downRows?: boolean;
  /** [N] each. */
  gateBias?: Float32Array;
  upBias?: Float32Array;
  /** [hidden]. */
  downBias?: Float32Array;
}

/** Of the rows of all matrices in one piece: [gate | up | down], or [up | down]. */
const WHOLE = 'row';

/** A layer's weights as the fields of its pool. @throws ShapeError, OptionError for what does not fit. */
export function mlpFields(
  weights: SparseMLPWeights,
  label: string,
  whole: boolean,
): Record<string, FieldSpec> {
  const { hidden: cols, gate, downRows } = weights;
  const up = matrix(weights.up, `${label} up`);
  const first = [...(gate ? [matrix(gate, `${label} gate`)] : []), up].map((one) => ({ ...one, cols }));
  const down = { ...matrix(weights.down, `${label} down`), cols, transposed: !downRows };
  const fields: Record<string, FieldSpec> = whole
    ? { [WHOLE]: { parts: [...first, down] } }
    : { [gate ? 'gateUp' : 'up']: { parts: first }, down };
  const bias = rowBiases(up.data.length / cols, weights);
  if (bias) fields.bias = { data: bias, cols: 4, storeAs: 'f32' };
  return fields;
}

/** What a layer's ops read, by the names of its pool's fields. */
export function mlpRows(
  field: (name: string) => StoredRows | undefined,
  gated: boolean,
): { first: StoredRows; down: StoredRows; bias?: StoredRows } {
  const row = field(WHOLE);
  const bias = field('bias');
  if (!row) {
    return { first: field(gated ? 'gateUp' : 'up') as StoredRows, down: field('down') as StoredRows, bias };
  }
  // Both read the whole rows, each its own of their parts, which are of one width.
  const [cols, ...others] = row.parts;
  return { first: row, down: { ...row, start: others.length * partVectors(cols, row.dtype) }, bias };
}

function matrix(values: Values, name: string): MatrixData {
  return values instanceof Float32Array ? { data: values, name } : { name, ...values };
}

/** `[N, 4]`: the biases of each row, (gate, up, 0, 0) or (up, 0, 0, 0). */
function rowBiases(rows: number, { gate, gateBias, upBias }: SparseMLPWeights): Float32Array | null {
  if (gateBias && !gate) throw new OptionError('gateBias is given, but the layer has no gate.');
  const columns = gate ? [gateBias, upBias] : [upBias];
  if (!columns.some(Boolean)) return null;
  const packed = new Float32Array(rows * 4);
  columns.forEach((bias, k) => {
    if (!bias) return;
    if (bias.length !== rows) {
      throw new ShapeError(`a row bias has ${bias.length} values; there are ${rows} rows.`, {
        length: bias.length,
        rows,
      });
    }
    for (let r = 0; r < rows; r++) packed[r * 4 + k] = bias[r];
  });
  return packed;
}
