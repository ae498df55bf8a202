/** The matrices of a layer's MLP as fields of pools, whether they are uploaded or converted. */
import type { MatrixData, StoredDtype } from '../gpu/layout.js';
import { type FieldLayout, type FieldSpec, planField } from '../pool/fields.js';
import type { Checkpoint } from './checkpoint.js';
import type { LlamaConfig } from './config.js';

/** Reads matrix `name`.weight, [rows, cols]. */
export type ReadMatrix = (name: string, rows: number, cols: number) => Promise<MatrixData>;

export const layerName = (l: number): string => `model.layers.${l}`;
/** What the pools of a layer's MLP are called in a bundle. */
export const mlpPool = (l: number): string => `${layerName(l)}.mlp`;
export const gatePool = (l: number): string => `${layerName(l)}.mlp.gate_proj`;

/** Row biases as a pool stores them, four values a row. */
export function biasField(bias: Float32Array | null): Record<string, FieldSpec> {
  if (!bias) return {};
  const wide = new Float32Array(bias.length * 4);
  for (let r = 0; r < bias.length; r++) wide[r * 4] = bias[r];
  return { bias: { data: wide, cols: 4, storeAs: 'f32' } };
}

/** `weight`, and `bias` where the model has one. */
export async function gateFields(checkpoint: Checkpoint, l: number, read: ReadMatrix) {
  const { hiddenSize: h, intermediateSize: n, mlpBias } = checkpoint.config;
  const weight = await read(gatePool(l), n, h);
  const bias = mlpBias ? await checkpoint.readF32(`${gatePool(l)}.bias`, [n]) : null;
  return { weight: { ...weight, cols: h }, ...biasField(bias) };
}

/** `up`, `down` by its columns, and the `bias` of up where the model has one. */
export async function mlpFields(checkpoint: Checkpoint, l: number, read: ReadMatrix) {
  const { hiddenSize: h, intermediateSize: n, mlpBias } = checkpoint.config;
  const up = await read(`${mlpPool(l)}.up_proj`, n, h);
  const down = await read(`${mlpPool(l)}.down_proj`, h, n);
  const bias = mlpBias ? await checkpoint.readF32(`${mlpPool(l)}.up_proj.bias`, [n]) : null;
  return { up: { ...up, cols: h }, down: { ...down, cols: h, transposed: true }, ...biasField(bias) };
}

/** The tensors whose values are in those pools. */
export function pooledTensors(config: LlamaConfig): Set<string> {
  const names: string[] = [];
  for (let l = 0; l < config.layers; l++) {
    for (const part of ['gate_proj', 'up_proj']) {
      names.push(`${mlpPool(l)}.${part}.weight`);
      if (config.mlpBias) names.push(`${mlpPool(l)}.${part}.bias`);
    }
    names.push(`${mlpPool(l)}.down_proj.weight`);
  }
  return new Set(names);
}

/** The fields that a bundle of this model has, by the pool's name. */
export function pooledFields(config: LlamaConfig, dtype: StoredDtype): Map<string, FieldLayout[]> {
  const empty = new Float32Array(0);
  const layout = (name: string, cols: number, as: StoredDtype): FieldLayout => {
    const { parts, rowBytes } = planField('', name, { data: empty, cols }, as);
    return { name, dtype: as, parts, rowBytes };
  };
  const bias = config.mlpBias ? [layout('bias', 4, 'f32')] : [];
  const matrix = (name: string) => layout(name, config.hiddenSize, dtype);
  const out = new Map<string, FieldLayout[]>();
  for (let l = 0; l < config.layers; l++) {
    out.set(gatePool(l), [matrix('weight'), ...bias]);
    out.set(mlpPool(l), [matrix('up'), matrix('down'), ...bias]);
  }
  return out;
}
