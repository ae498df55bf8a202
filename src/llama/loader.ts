import { useSoftwareKernels } from '../software-kernels.js';
import type { Dtype } from '../dtype.js';
import { allocate } from '../gpu/allocate.js';
import { BufferGroup, roundUp, upload } from '../gpu/buffers.js';
import type { MatrixData, StoredDtype } from '../gpu/layout.js';
import { type Activation, chooseActivation } from '../mlp/activation.js';
import type { RowBundle } from '../pool/bundle.js';
import { DevicePool, type PoolSource } from '../pool/device-pool.js';
import type { MatrixQuantization } from '../pool/fields.js';
import { HostPool } from '../pool/host-pool.js';
import type { OffDevicePool } from '../pool/pool.js';
import type { QuantizationError } from '../quantize.js';
import type { Checkpoint } from './checkpoint.js';
import { type LlamaConfig, ropeInverseFrequencies } from './config.js';
import {
  biasField,
  gateFields,
  gatePool,
  layerName,
  mlpFields,
  mlpPool,
  type ReadMatrix,
} from './layer-fields.js';
import { type TensorData, toF32 } from './safetensors.js';
import type { LayerWeights, LlamaWeights, LoadOptions } from './weights.js';

const ACTIVATIONS: Readonly<Record<LlamaConfig['hiddenAct'], Activation>> = {
  silu: 'silu',
  gelu: 'gelu',
  gelu_tanh: 'gelu_tanh',
  relu: 'relu',
};

/** What a model's weights are stored as: gate, up and down, and the other matrices. */
export interface LoadDtypes {
  readonly dtype: StoredDtype;
  readonly other: StoredDtype;
}

/** A layer as it is put together. */
type Unfinished<T> = { -readonly [K in keyof T]?: T[K] };

/**
 * Brings a checkpoint's weights to a device, one tensor at a time, and again to another one. Of each pool it keeps how it
 * is read, not what was read.
 */
export class Loader {
  private readonly checkpoint: Checkpoint;
  private readonly dtypes: LoadDtypes;
  private readonly quantization: Record<string, QuantizationError>;
  private readonly options: LoadOptions;
  private readonly pools: DevicePool[] = [];
  /** What the vectors are made by: buffers of their own, so that they are other ones on another device. */
  private readonly vectors: ((memory: BufferGroup) => Promise<void>)[] = [];
  private readonly total: number;
  /** Of the vectors. */
  private memory: BufferGroup;
  private onProgress: LoadOptions['onProgress'];
  private done = 0;
  /** The rebuild that is under way. */
  private rebuilding?: { readonly device: GPUDevice; readonly done: Promise<void> };

  constructor(device: GPUDevice, checkpoint: Checkpoint, dtypes: LoadDtypes, options: LoadOptions) {
    this.checkpoint = checkpoint;
    this.dtypes = dtypes;
    this.quantization = { ...checkpoint.bundle?.quantization };
    this.options = options;
    this.onProgress = options.onProgress;
    this.memory = new BufferGroup(device);
    useSoftwareKernels(device);
    const { layers, tieWordEmbeddings } = checkpoint.config;
    this.total = layers * 9 + (tieWordEmbeddings ? 2 : 3);
  }

  async load(context: number, slots: readonly number[] | null): Promise<LlamaWeights> {
    const { checkpoint, quantization } = this;
    const { config } = checkpoint;
    const { hiddenSize: h, vocabSize } = config;
    const { dtype, other } = this.dtypes;
    const words = async (name: string) => ({ weight: { ...(await this.read(name, vocabSize, h)), cols: h } });
    const embedding = await this.pool('embedding', () => words('model.embed_tokens'), other);
    const layers: LayerWeights[] = [];
    for (let l = 0; l < config.layers; l++) layers.push(await this.layer(l));
    const last: Unfinished<LlamaWeights> = {};
    await this.vector(last, 'finalNorm', 'model.norm.weight', h);
    const head = config.tieWordEmbeddings
      ? embedding
      : await this.pool('head', () => words('lm_head'), other);
    await this.rotary(last, context);
    const bytes = this.memory.bytes + this.pools.reduce((sum, pool) => sum + pool.bytes, 0);
    const activation = chooseActivation(ACTIVATIONS[config.hiddenAct]);
    const found = { config, dtype, quantization, activation, context, slots, bytes, embedding, layers, head };
    const rebuild: LlamaWeights['rebuild'] = (device, onProgress) => this.rebuild(device, onProgress);
    Object.assign(last, found, { rebuild, destroy: () => this.destroy() });
    // Where they are then; enumerating the weights gives what they are made of.
    Object.defineProperty(last, 'device', { get: () => this.memory.device });
    return last as LlamaWeights;
  }

  destroy(): void {
    this.memory.destroy();
    for (const pool of this.pools) pool.destroy();
  }

  private async rebuild(device: GPUDevice, onProgress: LoadOptions['onProgress']): Promise<void> {
    if (this.rebuilding?.device === device) return this.rebuilding.done;
    const before = this.rebuilding?.done;
    const done = (async () => {
      await before?.catch(() => {});
      await this.rebuildNow(device, onProgress);
    })();
    const rebuilding = { device, done };
    this.rebuilding = rebuilding;
    try {
      await done;
    } finally {
      if (this.rebuilding === rebuilding) this.rebuilding = undefined;
    }
  }

  private async rebuildNow(device: GPUDevice, onProgress: LoadOptions['onProgress']): Promise<void> {
    useSoftwareKernels(device);
    this.onProgress = onProgress;
    this.done = 0;
    for (const pool of this.pools) await pool.rebuild(device);
    const memory = new BufferGroup(device);
    try {
      for (const make of this.vectors) await make(memory);
    } catch (error) {
      memory.destroy();
      throw error;
    }
    // Last, since it is by this that the weights are known to be on `device`.
    this.memory.destroy();
    this.memory = memory;
  }

  private async layer(l: number): Promise<LayerWeights> {
    const { config } = this.checkpoint;
    const { hiddenSize: h, attentionBias, mlpBias } = config;
    const wide = config.heads * config.headDim;
    const at = layerName(l);
    const layer: Unfinished<LayerWeights> = {};
    await this.vector(layer, 'inputNorm', `${at}.input_layernorm.weight`, h);
    layer.qkv = await this.pool(`${at} qkv`, () => this.joined(l), this.dtypes.other);
    const o = `${at}.self_attn.o_proj`;
    const output = async () => {
      const weight = await this.read(o, h, wide);
      const bias = attentionBias ? await this.checkpoint.readF32(`${o}.bias`, [h]) : null;
      return { weight: { ...weight, cols: wide }, ...biasField(bias) };
    };
    layer.output = await this.pool(o, output, this.dtypes.other);
    await this.vector(layer, 'mlpNorm', `${at}.post_attention_layernorm.weight`, h);
    Object.assign(layer, await this.mlp(l));
    await this.downBias(layer, `${at} down bias`, mlpBias ? `${at}.mlp.down_proj.bias` : null, h);
    return layer as LayerWeights;
  }

  /** q, k and v as one matrix. */
  private async joined(l: number): Promise<PoolSource> {
    const { config } = this.checkpoint;
    const { hiddenSize: h, attentionBias } = config;
    const narrow = config.kvHeads * config.headDim;
    const three = [];
    const biases: Float32Array[] = [];
    for (const [name, rows] of [
      ['q', config.heads * config.headDim],
      ['k', narrow],
      ['v', narrow],
    ] as const) {
      const part = `${layerName(l)}.self_attn.${name}_proj`;
      three.push(toF32(await this.tensor(part, rows, h)));
      if (attentionBias) biases.push(await this.checkpoint.readF32(`${part}.bias`, [rows]));
    }
    const weight = { data: concat(three), cols: h };
    return { weight, ...biasField(attentionBias ? concat(biases) : null) };
  }

  private async mlp(l: number): Promise<Pick<LayerWeights, 'gate' | 'mlp'>> {
    const { checkpoint, options } = this;
    const { dtype } = this.dtypes;
    const { bundle } = checkpoint;
    if (bundle) {
      const gate = await this.pool(gatePool(l), () => this.stored(bundle, gatePool(l), 1), dtype);
      if (options.budget) return { gate, mlp: await this.bundled(bundle, mlpPool(l)) };
      return { gate, mlp: await this.pool(mlpPool(l), () => this.stored(bundle, mlpPool(l), 2), dtype) };
    }
    const read: ReadMatrix = (name, rows, cols) => this.read(name, rows, cols);
    const gate = await this.pool(gatePool(l), () => gateFields(checkpoint, l, read), dtype);
    const fields = () => mlpFields(checkpoint, l, read);
    if (!options.budget) return { gate, mlp: await this.pool(mlpPool(l), fields, dtype) };
    const mlp = HostPool.from(await fields(), { dtype, label: mlpPool(l) });
    this.note(mlp.quantization);
    return { gate, mlp };
  }

  /** The rows of up and down, off the device. */
  private async bundled(bundle: RowBundle, name: string): Promise<OffDevicePool> {
    const stored = bundle.pool(name, this.options.stored);
    const pool = this.options.pool === 'file' ? stored : await stored.toHost();
    this.progress(name, 2);
    return pool;
  }

  /** A pool's rows as the device has them: `matrices` of the model. */
  private async stored(bundle: RowBundle, name: string, matrices: number): Promise<HostPool> {
    const host = await bundle.pool(name, this.options.stored).toHost();
    this.progress(name, matrices);
    return host;
  }

  private async pool(
    label: string,
    source: () => Promise<PoolSource>,
    dtype: StoredDtype,
  ): Promise<DevicePool> {
    const { device } = this.memory;
    const given = await source();
    const options = { dtype, label, source, storage: this.options.storage ?? 'auto' };
    const make = () =>
      given instanceof HostPool
        ? DevicePool.fromHost(device, given, options)
        : DevicePool.from(device, given, options);
    const pool = await allocate(device, make, label);
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
    this.progress(name);
    return tensor;
  }

  private progress(name: string, matrices = 1): void {
    this.done += matrices;
    this.onProgress?.(this.done, this.total, name);
  }

  /** Puts a vector's buffer into `into[key]`, now and at each rebuild. */
  private async keep<K extends string>(
    into: { [key in K]?: GPUBuffer },
    key: K,
    label: string,
    values: () => Promise<Float32Array<ArrayBuffer>>,
  ): Promise<void> {
    const make = async (memory: BufferGroup) => {
      const data = await values();
      const buffer = memory.storage(label, roundUp(data.length, 4) * 4);
      upload(memory.device, buffer, 0, data);
      into[key] = buffer;
    };
    await make(this.memory);
    this.vectors.push(make);
  }

  private vector<K extends string>(
    into: { [key in K]?: GPUBuffer },
    key: K,
    name: string,
    length: number,
  ): Promise<void> {
    return this.keep(into, key, name, async () => {
      const values = await this.f32(name, length);
      this.progress(name);
      return values;
    });
  }

  /** Zeros where the model has none. */
  private downBias(
    layer: Unfinished<LayerWeights>,
    label: string,
    name: string | null,
    length: number,
  ): Promise<void> {
    return this.keep(layer, 'downBias', label, async () =>
      name ? this.f32(name, length) : new Float32Array(length),
    );
  }

  private async f32(name: string, length: number): Promise<Float32Array<ArrayBuffer>> {
    return Float32Array.from(await this.checkpoint.readF32(name, [length]));
  }

  /** cos and sin of position · frequency, computed in f64 and rounded once. */
  private rotary(into: Unfinished<LlamaWeights>, context: number): Promise<void> {
    return this.keep(into, 'turns', 'rotary', async () => {
      const frequencies = ropeInverseFrequencies(this.checkpoint.config);
      const turns = new Float32Array(context * frequencies.length * 2);
      for (let p = 0; p < context; p++) {
        frequencies.forEach((frequency, d) => {
          const at = (p * frequencies.length + d) * 2;
          turns[at] = Math.cos(p * frequency);
          turns[at + 1] = Math.sin(p * frequency);
        });
      }
      return turns;
    });
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
