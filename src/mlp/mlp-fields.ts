import { OptionError, ShapeError } from '../errors.js';
import type { MatrixData } from '../gpu/layout.js';
import type { FieldSpec } from '../pool/fields.js';

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

/** A layer's weights as the fields of its pool. @throws ShapeError, OptionError for what does not fit. */
export function mlpFields(weights: SparseMLPWeights, label: string): Record<string, FieldSpec> {
  const { hidden, gate } = weights;
  const up = matrix(weights.up, `${label} up`);
  const fields: Record<string, FieldSpec> = {
    [gate ? 'gateUp' : 'up']: gate
      ? {
          parts: [
            { ...matrix(gate, `${label} gate`), cols: hidden },
            { ...up, cols: hidden },
          ],
        }
      : { ...up, cols: hidden },
    down: { ...matrix(weights.down, `${label} down`), cols: hidden, transposed: !weights.downRows },
  };
  const bias = rowBiases(up.data.length / hidden, weights);
  if (bias) fields.bias = { data: bias, cols: 4, storeAs: 'f32' };
  return fields;
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
