import type { Dtype } from '../dtype.js';
import { DeviceLimitError, OptionError } from '../errors.js';
import { BufferGroup, roundUp, upload } from '../gpu/buffers.js';
import { waitFor } from '../gpu/wait.js';
import { checkStoredDtype, isQuantized, type MatrixData, rowBytes, type StoredDtype } from '../gpu/layout.js';
import { type Activation, type ActivationChoice, chooseActivation } from '../mlp/activation.js';
import { loadTuningOnce } from '../gpu/tuning-store.js';
import type { RowBundle } from '../pool/bundle.js';
import { DevicePool } from '../pool/device-pool.js';
import type { FieldSpec, MatrixQuantization } from '../pool/fields.js';
import { HostPool } from '../pool/host-pool.js';
import type { OffDevicePool } from '../pool/pool.js';
import { type Budget, budgetRows, type RowSet, splitEvenly } from '../residency/budget.js';
import { type Checkpoint, requireTensors } from './checkpoint.js';
import { type LlamaConfig, ropeInverseFrequencies } from './config.js';
import { headQuads } from './kernels.js';
import {
  biasField,
  gateFields,
  gatePool,
  layerName,
  mlpFields,
  mlpPool,
  type ReadMatrix,
} from './layer-fields.js';
import type { QuantizationError } from '../quantize.js';
import { type TensorData, toF32 } from './safetensors.js';

/** One decoder layer's weights on the device. Pools have a field `weight`, and `bias` where the model has one. */
export interface LayerWeights {
  inputNorm: GPUBuffer;
  /** [q | k | v] rows. */
  qkv: DevicePool;
  output: DevicePool;
  mlpNorm: GPUBuffer;
  gate: DevicePool;
  /** The sparse part: fields `up`, `down` and, with biases, `bias`. Not on the device where weights have `slots`. */
  mlp: DevicePool | OffDevicePool;
  downBias: GPUBuffer;
}

/** A model's weights on the device. */
export interface LlamaWeights {
  config: LlamaConfig;
  /** Of gate, up and down; the other matrices are stored as `otherDtype` of it. */
  dtype: StoredDtype;
  /** What storing matrices as q8 or q4 cost, by the tensor's name; empty for the other dtypes. */
  quantization: Readonly<Record<string, QuantizationError>>;
  activation: ActivationChoice;
  embedding: DevicePool;
  layers: LayerWeights[];
  finalNorm: GPUBuffer;
  /** The embedding itself when tied. */
  head: DevicePool;
  /** [context, headDim / 2] of (cos, sin). */
  turns: GPUBuffer;
  context: number;
  /**
   * Under a budget: C, how many rows of each layer's `mlp` a session may have on the device. Besides them it has 20 bytes
   * a slot for lists and moves, and the ring through which rows come: as large as the slots of a layer, at most 4 MiB.
   * Null: all rows are there, in `mlp` itself.
   */
  slots: readonly number[] | null;
  /** GPU bytes; a session's are counted by themselves. */
  bytes: number;
  destroy(): void;
}

export interface LoadOptions {
  /**
   * How weights are stored on the device. Default f32, or what the model was converted to. Arithmetic is f32, unless a session is asked for f16. q8 and q4 are for gate, up and
   * down; the embedding, the head and attention are f16 then.
   */
  dtype?: StoredDtype;
  /** Positions to make room for. Default: the model's own maximum, at most 4096. */
  context?: number;
  /**
   * Of all layers' up and down rows (`mlpRows`), with up's biases, what may be on the device at a time; the other
   * weights are there as ever. Without it, all.
   */
  budget?: Budget;
  /**
   * Under a budget, where those rows are: in host memory (default), or left in the file of a model that was converted,
   * which must stay open then.
   */
  pool?: PoolHome;
  /** Called after each tensor. */
  onProgress?: (done: number, total: number, name: string) => void;
}

/** Where rows are that need not be on the device. */
export type PoolHome = 'host' | 'file';
export const POOL_HOMES: readonly PoolHome[] = ['host', 'file'];

/** How matrices other than gate, up and down are stored where those are `dtype`. */
export function otherDtype(dtype: StoredDtype): StoredDtype {
  return isQuantized(dtype) ? 'f16' : dtype;
}

/** The context a model is loaded with. @throws OptionError when `wanted` is not an integer of 1 or more. */
export function chooseContext(config: LlamaConfig, wanted?: number): number {
  if (wanted !== undefined && (!Number.isInteger(wanted) || wanted < 1)) {
    throw new OptionError(`context must be an integer of 1 or more; it is ${wanted}.`, { context: wanted });
  }
  return Math.min(config.maxPositions, wanted ?? 4096);
}

/**
 * What a checkpoint's gate, up and down are stored as on the device.
 * @throws OptionError for an unknown dtype, or another one than a converted model has.
 */
export function chooseDtype({ bundle, name }: Checkpoint, wanted?: StoredDtype): StoredDtype {
  const dtype = checkStoredDtype(wanted ?? bundle?.dtype ?? 'f32');
  if (!bundle || dtype === bundle.dtype) return dtype;
  throw new OptionError(
    `${name} was converted to ${bundle.dtype}; as ${dtype} only the model that it was made from can be loaded.`,
    { dtype, converted: bundle.dtype },
  );
}

const ACTIVATIONS: Readonly<Record<LlamaConfig['hiddenAct'], Activation>> = {
  silu: 'silu',
  gelu: 'gelu',
  gelu_tanh: 'gelu_tanh',
  relu: 'relu',
};

/** The rows of a model's layers that need not all be on the device: up and down, with up's bias where there is one. */
export function mlpRows(
  { hiddenSize, intermediateSize, layers, mlpBias }: LlamaConfig,
  dtype: StoredDtype,
): RowSet {
  // A bias is four f32, of which one counts: see `biasField`.
  return { layers, rows: intermediateSize, rowBytes: 2 * rowBytes(hiddenSize, dtype) + (mlpBias ? 16 : 0) };
}

/**
 * GPU bytes of a model's weights, rotary table and key/value cache, by part. With a budget, of the MLPs the gates are on
 * the device and of up and down as many rows as the budget holds; row maps, staging and activations come on top.
 *
 * @throws OptionError when the budget does not hold a row of each layer.
 */
export function estimateBytes(
  config: LlamaConfig,
  dtype: StoredDtype,
  context: number,
  budget?: Budget,
): Record<string, number> {
  const { hiddenSize: h, intermediateSize: n, vocabSize, layers, heads, kvHeads, headDim } = config;
  const rows = mlpRows(config, dtype);
  const mlp: Record<string, number> = budget
    ? { gate: layers * n * rowBytes(h, dtype), slabs: budgetRows(budget, rows) * rows.rowBytes }
    : { mlp: layers * 3 * n * rowBytes(h, dtype) };
  const wide = heads * headDim;
  const other = otherDtype(dtype);
  const attention = (wide + 2 * kvHeads * headDim) * rowBytes(h, other) + h * rowBytes(wide, other);
  return {
    embedding: vocabSize * rowBytes(h, other) * (config.tieWordEmbeddings ? 1 : 2),
    attention: layers * attention,
    ...mlp,
    norms: (2 * layers + 1) * roundUp(h, 4) * 4,
    rotary: context * headDim * 4,
    cache: layers * 2 * context * kvHeads * headQuads(headDim) * 16,
  };
}

/**
 * Refuses a model that cannot fit, before anything is allocated.
 * @throws DeviceLimitError with the buffer's bytes and the limit.
 */
export function checkFits(device: GPUDevice, config: LlamaConfig, dtype: StoredDtype, context: number): void {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  const single: Record<string, number> = {
    'one row of a weight': Math.max(
      rowBytes(config.hiddenSize, dtype),
      rowBytes(config.hiddenSize, otherDtype(dtype)),
      rowBytes(config.heads * config.headDim, otherDtype(dtype)),
    ),
    'the key cache of a layer': context * config.kvHeads * headQuads(config.headDim) * 16,
    'the rotary table': context * config.headDim * 4,
    'the logits': config.vocabSize * 4,
  };
  for (const [what, bytes] of Object.entries(single)) {
    if (bytes > limit) {
      throw new DeviceLimitError(
        `${what} needs ${bytes} bytes in one binding; this device allows ${limit}. ` +
          'Use a shorter context, or an adapter with larger limits.',
        { what, bytes, limit },
      );
    }
  }
}

/**
 * Uploads a checkpoint, one tensor at a time.
 * @throws ModelFormatError when tensors are missing or of another shape, DeviceLimitError when the device cannot hold
 * them: both before anything is allocated; OptionError for an unknown dtype or a context below 1; NonFiniteError, naming
 * the tensor, for values that q8 or q4 cannot hold.
 */
export async function loadWeights(
  device: GPUDevice,
  checkpoint: Checkpoint,
  options: LoadOptions = {},
): Promise<LlamaWeights> {
  const { config } = checkpoint;
  const dtype = chooseDtype(checkpoint, options.dtype);
  const context = chooseContext(config, options.context);
  checkPool(checkpoint, options);
  const slots = options.budget ? splitEvenly(options.budget, mlpRows(config, dtype)) : null;
  requireTensors(checkpoint);
  checkFits(device, config, dtype, context);
  await loadTuningOnce(device);
  const loader = new Loader(device, checkpoint, dtype, options);
  // Out of memory is reported by the device, not by the calls: look for it before the model is handed out.
  device.pushErrorScope('out-of-memory');
  let loaded: LlamaWeights | undefined;
  let outOfMemory: GPUError | null = null;
  try {
    loaded = await loader.load(context, slots);
  } finally {
    outOfMemory = await waitFor(device, device.popErrorScope());
    if (!loaded || outOfMemory) loader.destroy();
  }
  if (outOfMemory) {
    const wanted = estimateBytes(config, dtype, context, options.budget);
    throw new DeviceLimitError(`the device ran out of memory: ${outOfMemory.message}`, { wanted });
  }
  return loaded;
}

/** @throws OptionError where rows cannot be left in a file. */
function checkPool({ bundle, name }: Checkpoint, { budget, pool = 'host' }: LoadOptions): void {
  if (!POOL_HOMES.includes(pool))
    throw new OptionError(`pool is "${String(pool)}"; it must be host or file.`, { pool });
  if (pool === 'host') return;
  if (!budget)
    throw new OptionError('pool file needs a budget: without one all rows are on the device.', { pool });
  if (!bundle) {
    throw new OptionError(
      `${name} has no rows that can be read one by one: write it anew with \`pairslab convert\`, or use pool host.`,
      { pool },
    );
  }
}

class Loader {
  private readonly device: GPUDevice;
  private readonly checkpoint: Checkpoint;
  private readonly dtype: StoredDtype;
  private readonly other: StoredDtype;
  private readonly quantization: Record<string, QuantizationError>;
  private readonly options: LoadOptions;
  private readonly memory: BufferGroup;
  private readonly pools: DevicePool[] = [];
  private done = 0;
  private readonly total: number;

  constructor(device: GPUDevice, checkpoint: Checkpoint, dtype: StoredDtype, options: LoadOptions) {
    this.device = device;
    this.checkpoint = checkpoint;
    this.dtype = dtype;
    this.other = otherDtype(dtype);
    this.quantization = { ...checkpoint.bundle?.quantization };
    this.options = options;
    this.memory = new BufferGroup(device);
    const { layers, tieWordEmbeddings } = checkpoint.config;
    this.total = layers * 9 + (tieWordEmbeddings ? 2 : 3);
  }

  async load(context: number, slots: readonly number[] | null): Promise<LlamaWeights> {
    const { config } = this.checkpoint;
    const { hiddenSize: h, vocabSize } = config;
    const words = { ...(await this.read('model.embed_tokens', vocabSize, h)), cols: h };
    const embedding = this.pool('embedding', { weight: words }, this.other);
    const layers: LayerWeights[] = [];
    for (let l = 0; l < config.layers; l++) layers.push(await this.layer(l));
    const finalNorm = await this.vector('model.norm.weight', h);
    const head = config.tieWordEmbeddings
      ? embedding
      : this.pool('head', { weight: { ...(await this.read('lm_head', vocabSize, h)), cols: h } }, this.other);
    const turns = this.rotary(context);
    const bytes = this.memory.bytes + this.pools.reduce((sum, pool) => sum + pool.bytes, 0);
    const activation = chooseActivation(ACTIVATIONS[config.hiddenAct]);
    const { dtype, quantization } = this;
    const destroy = () => this.destroy();
    const shared = { config, dtype, quantization, activation, turns, context, slots, bytes, destroy };
    return { ...shared, embedding, layers, finalNorm, head };
  }

  destroy(): void {
    this.memory.destroy();
    for (const pool of this.pools) pool.destroy();
  }

  private async layer(l: number): Promise<LayerWeights> {
    const { config } = this.checkpoint;
    const { hiddenSize: h, attentionBias, mlpBias } = config;
    const wide = config.heads * config.headDim;
    const narrow = config.kvHeads * config.headDim;
    const at = layerName(l);
    const inputNorm = await this.vector(`${at}.input_layernorm.weight`, h);
    const three = [];
    const biases: Float32Array[] = [];
    for (const [name, rows] of [
      ['q', wide],
      ['k', narrow],
      ['v', narrow],
    ] as const) {
      three.push(toF32(await this.tensor(`${at}.self_attn.${name}_proj`, rows, h)));
      if (attentionBias)
        biases.push(await this.checkpoint.readF32(`${at}.self_attn.${name}_proj.bias`, [rows]));
    }
    const joined = { weight: { data: concat(three), cols: h } };
    const qkvBias = biasField(attentionBias ? concat(biases) : null);
    const qkv = this.pool(`${at} qkv`, { ...joined, ...qkvBias }, this.other);
    const output = await this.linear(`${at}.self_attn.o_proj`, h, wide, attentionBias, this.other);
    const mlpNorm = await this.vector(`${at}.post_attention_layernorm.weight`, h);
    const { gate, mlp } = await this.mlp(l);
    const downBias = this.memory.storage(`${at} down bias`, roundUp(h, 4) * 4);
    if (mlpBias) upload(this.device, downBias, 0, await this.f32(`${at}.mlp.down_proj.bias`, h));
    return { inputNorm, qkv, output, mlpNorm, gate, mlp, downBias };
  }

  private async mlp(l: number): Promise<Pick<LayerWeights, 'gate' | 'mlp'>> {
    const { bundle } = this.checkpoint;
    if (bundle) {
      const gate = await this.converted(bundle, gatePool(l), 1);
      if (this.options.budget) return { gate, mlp: await this.bundled(bundle, mlpPool(l)) };
      return { gate, mlp: await this.converted(bundle, mlpPool(l), 2) };
    }
    const read: ReadMatrix = (name, rows, cols) => this.read(name, rows, cols);
    const gate = this.pool(gatePool(l), await gateFields(this.checkpoint, l, read), this.dtype);
    const fields = await mlpFields(this.checkpoint, l, read);
    if (!this.options.budget) return { gate, mlp: this.pool(mlpPool(l), fields, this.dtype) };
    const mlp = HostPool.from(fields, { dtype: this.dtype, label: mlpPool(l) });
    this.note(mlp.quantization);
    return { gate, mlp };
  }

  /** The rows of up and down, off the device. */
  private async bundled(bundle: RowBundle, name: string): Promise<OffDevicePool> {
    const stored = bundle.pool(name);
    const pool = this.options.pool === 'file' ? stored : await stored.toHost();
    this.done += 2;
    this.options.onProgress?.(this.done, this.total, name);
    return pool;
  }

  /** A pool whose rows are stored as the device has them: `matrices` of the model. */
  private async converted(bundle: RowBundle, name: string, matrices: number): Promise<DevicePool> {
    const host = await bundle.pool(name).toHost();
    const pool = DevicePool.fromHost(this.device, host, { label: name });
    this.pools.push(pool);
    this.done += matrices;
    this.options.onProgress?.(this.done, this.total, name);
    return pool;
  }

  private async linear(
    name: string,
    rows: number,
    cols: number,
    withBias: boolean,
    dtype: StoredDtype,
  ): Promise<DevicePool> {
    const weight = await this.read(name, rows, cols);
    const bias = withBias ? await this.checkpoint.readF32(`${name}.bias`, [rows]) : null;
    return this.pool(name, { weight: { ...weight, cols }, ...biasField(bias) }, dtype);
  }

  private pool(label: string, fields: Record<string, FieldSpec>, dtype: StoredDtype): DevicePool {
    const pool = DevicePool.from(this.device, fields, { dtype, label });
    this.pools.push(pool);
    this.note(pool.quantization);
    return pool;
  }

  private note(quantization: readonly MatrixQuantization[]): void {
    for (const { name, rmsRelative, maxAbsolute } of quantization)
      this.quantization[name] = { rmsRelative, maxAbsolute };
  }

  private async read(name: string, rows: number, cols: number): Promise<MatrixData> {
    const { data, dtype } = await this.tensor(name, rows, cols);
    return { data, dtype: DTYPES[dtype], name: `${name}.weight` };
  }

  private async tensor(name: string, rows: number, cols: number): Promise<TensorData> {
    const tensor = await this.checkpoint.read(`${name}.weight`, [rows, cols]);
    this.options.onProgress?.(++this.done, this.total, name);
    return tensor;
  }

  private async vector(name: string, length: number): Promise<GPUBuffer> {
    const buffer = this.memory.storage(name, roundUp(length, 4) * 4);
    upload(this.device, buffer, 0, await this.f32(name, length));
    this.options.onProgress?.(++this.done, this.total, name);
    return buffer;
  }

  private async f32(name: string, length: number): Promise<Float32Array<ArrayBuffer>> {
    return Float32Array.from(await this.checkpoint.readF32(name, [length]));
  }

  /** cos and sin of position · frequency, computed in f64 and rounded once. */
  private rotary(context: number): GPUBuffer {
    const frequencies = ropeInverseFrequencies(this.checkpoint.config);
    const turns = new Float32Array(context * frequencies.length * 2);
    for (let p = 0; p < context; p++) {
      frequencies.forEach((frequency, d) => {
        const at = (p * frequencies.length + d) * 2;
        turns[at] = Math.cos(p * frequency);
        turns[at + 1] = Math.sin(p * frequency);
      });
    }
    const buffer = this.memory.storage('rotary', turns.byteLength);
    upload(this.device, buffer, 0, turns);
    return buffer;
  }
}

const DTYPES: Record<TensorData['dtype'], Dtype> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

function concat(parts: readonly Float32Array[]): Float32Array {
  const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
