import type { DevicePool } from '../pool/device-pool.js';
import type { LlamaWeights } from './weights.js';

/**
 * Bytes of weights that one decoded token reads: attention, gate and output head whole, up and down of the active
 * rows of each layer (all rows when `active` is null). With `predicted` rows of each layer, of the gate those alone; what
 * predicts them (`RowPredictor`) comes on top.
 */
export function decodeBytes(
  weights: LlamaWeights,
  active: readonly number[] | null,
  predicted: readonly number[] | null = null,
): number {
  const whole = (pool: DevicePool) => pool.rows * pool.rowBytes;
  let bytes = whole(weights.head);
  weights.layers.forEach(({ qkv, output, gate, mlp }, l) => {
    bytes += whole(qkv) + whole(output) + (predicted ? predicted[l] : gate.rows) * gate.rowBytes;
    bytes += (active ? active[l] : mlp.rows) * mlp.rowBytes;
  });
  return bytes;
}
