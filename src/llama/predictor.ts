/**
 * Predictors of a model's active rows, as a safetensors file. Layer l's tensors begin with
 * `model.layers.{l}.mlp.predictor.`:
 *
 * - low rank, found or learned: `fc1.weight` [rank, hidden] and `fc2.weight` [rows, rank], F32, F16 or BF16, and where
 *   there is one `fc2.bias` [rows]. Row r is predicted where fc2[r] · (fc1 · x) + bias[r] > 0, which is where a sigmoid of
 *   it exceeds one half. x is the MLP's normed input. Nothing stands between the two matrices.
 * - signs: `planes` [rows, bits, words], U32, and `fc2.bias` [rows], with `bits`, `input_bits` and `scale` (of each layer,
 *   separated by commas) in the file's metadata: `SignPredictor`, limits being the bias's negative.
 */
import { ModelFormatError } from '../errors.js';
import type { RowPredictor } from '../mlp/predictor.js';
import { planeWords } from '../mlp/predictor.js';
import type { LlamaConfig } from './config.js';
import { mlpPool } from './layer-fields.js';
import { type Safetensors, safetensorsHeader, type TensorEntry } from './safetensors.js';

/** The file that `calibrate --predictor` writes beside a model. */
export const PREDICTOR_FILE = 'pairslab-predictor.safetensors';

/** A predictor for each layer of a model. */
export interface ModelPredictor {
  readonly layers: readonly RowPredictor[];
}

const tensorName = (l: number, name: string): string => `${mlpPool(l)}.predictor.${name}`;

/**
 * Reads a model's predictors.
 * @throws ModelFormatError, naming the tensor, for a file that is none, or one of another model.
 */
export async function readPredictor(file: Safetensors, config: LlamaConfig): Promise<ModelPredictor> {
  const layers: RowPredictor[] = [];
  for (let l = 0; l < config.layers; l++) {
    layers.push(
      file.tensors.has(tensorName(l, 'planes'))
        ? await readSigns(file, l, config)
        : await readLowRank(file, l, config),
    );
  }
  return { layers };
}

async function readLowRank(file: Safetensors, l: number, config: LlamaConfig): Promise<RowPredictor> {
  const { hiddenSize, intermediateSize: rows } = config;
  const rank = shapeOf(file, tensorName(l, 'fc1.weight'))[0];
  const project = await read(file, tensorName(l, 'fc1.weight'), [rank, hiddenSize]);
  const expand = await read(file, tensorName(l, 'fc2.weight'), [rows, rank]);
  const bias = tensorName(l, 'fc2.bias');
  const limits = file.tensors.has(bias)
    ? (await read(file, bias, [rows])).map((b) => -b)
    : new Float32Array(rows);
  return { kind: 'low_rank', rank, project, expand, limits };
}

async function readSigns(file: Safetensors, l: number, config: LlamaConfig): Promise<RowPredictor> {
  const { hiddenSize, intermediateSize: rows } = config;
  const bits = number(file, 'bits');
  const inputBits = number(file, 'input_bits');
  const scale = number(file, 'scale', l);
  const name = tensorName(l, 'planes');
  checkShape(file, name, [rows, bits, planeWords(hiddenSize)]);
  const planes = await file.readWords(name);
  const limits = (await read(file, tensorName(l, 'fc2.bias'), [rows])).map((b) => -b);
  return { kind: 'signs', bits, inputBits, scale, planes, limits };
}

function number(file: Safetensors, key: string, at = 0): number {
  const value = Number(file.metadata.get(key)?.split(',')[at] ?? Number.NaN);
  if (Number.isFinite(value)) return value;
  throw new ModelFormatError(
    `${file.source.name}: metadata has no number "${key}"; calibrate the model again.`,
    {
      key,
    },
  );
}

function shapeOf(file: Safetensors, name: string): readonly number[] {
  const info = file.tensors.get(name);
  if (info) return info.shape;
  throw new ModelFormatError(
    `${file.source.name} has no tensor "${name}": it is no predictor, or of a model of fewer layers.`,
    { tensor: name },
  );
}

function checkShape(file: Safetensors, name: string, shape: readonly number[]): void {
  const found = shapeOf(file, name);
  if (found.length === shape.length && found.every((n, i) => n === shape[i])) return;
  throw new ModelFormatError(
    `${file.source.name}: tensor "${name}" is [${found}], not [${shape}]: it is of another model.`,
    { tensor: name, found, expected: shape },
  );
}

async function read(
  file: Safetensors,
  name: string,
  shape: readonly number[],
): Promise<Float32Array<ArrayBuffer>> {
  checkShape(file, name, shape);
  return file.readF32(name);
}

/** The whole file of a model's predictors. `metadata`: what is to be known of how they were found. */
export function encodePredictor(
  { layers }: ModelPredictor,
  hidden: number,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const tensors: { entry: TensorEntry; data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> }[] = [];
  const add = (
    l: number,
    name: string,
    data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>,
    shape: number[],
  ) => {
    const dtype = data instanceof Uint32Array ? 'U32' : 'F32';
    tensors.push({ entry: { name: tensorName(l, name), dtype, shape, bytes: data.byteLength }, data });
  };
  const facts: Record<string, string> = { ...metadata };
  for (const [l, layer] of layers.entries()) {
    const rows = layer.limits.length;
    if (layer.kind === 'low_rank') {
      add(l, 'fc1.weight', layer.project, [layer.rank, hidden]);
      add(l, 'fc2.weight', layer.expand, [rows, layer.rank]);
    } else {
      add(l, 'planes', layer.planes, [rows, layer.bits, planeWords(hidden)]);
      facts.bits = String(layer.bits);
      facts.input_bits = String(layer.inputBits);
      facts.scale = [...(facts.scale?.split(',') ?? []), String(layer.scale)].join(',');
    }
    add(
      l,
      'fc2.bias',
      layer.limits.map((limit) => -limit),
      [rows],
    );
  }
  const header = safetensorsHeader(
    tensors.map(({ entry }) => entry),
    facts,
  );
  const out = new Uint8Array(header.length + tensors.reduce((sum, { data }) => sum + data.byteLength, 0));
  out.set(header);
  let at = header.length;
  for (const { data } of tensors) {
    out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return out;
}
