/** Tiny random LLaMAs in memory, in the Hugging Face layout, and the safetensors writer they need. */
import { type Dtype, encodeBf16, encodeF16 } from '../../src/dtype.js';
import { type ByteSource, MemorySource, type ModelFolder } from '../../src/io/byte-source.js';
import { requiredTensors } from '../../src/llama/checkpoint.js';
import { parseConfig } from '../../src/llama/config.js';
import { safetensorsHeader } from '../../src/llama/safetensors.js';

export interface TensorToWrite {
  name: string;
  dtype: string;
  shape: readonly number[];
  data: ArrayBufferView;
}

/** A safetensors file: tensors in the given order without gaps, header padded to 8 bytes. */
export function writeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata?: Record<string, string>,
): Uint8Array<ArrayBuffer> {
  const entries = tensors.map((tensor) => ({ ...tensor, bytes: tensor.data.byteLength }));
  const header = safetensorsHeader(entries, metadata);
  const out = new Uint8Array(header.length + entries.reduce((sum, { bytes }) => sum + bytes, 0));
  out.set(header);
  let at = header.length;
  for (const { data } of tensors) {
    out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return out;
}

/** A folder in memory. */
export class MemoryFolder implements ModelFolder {
  readonly name: string;
  readonly files = new Map<string, Uint8Array>();

  constructor(name = 'memory') {
    this.name = name;
  }

  /** Adds or replaces a file; anything but bytes is written as JSON. */
  set(file: string, content: unknown): this {
    const bytes = content instanceof Uint8Array ? content : new TextEncoder().encode(JSON.stringify(content));
    this.files.set(file, bytes);
    return this;
  }

  async open(file: string): Promise<ByteSource | null> {
    const bytes = this.files.get(file);
    return bytes ? new MemorySource(bytes, file) : null;
  }
}

export interface MakeModelOptions {
  hidden?: number;
  intermediate?: number;
  layers?: number;
  heads?: number;
  kvHeads?: number;
  /** hidden / heads unless given; even. */
  headDim?: number;
  vocab?: number;
  maxPositions?: number;
  /** Hugging Face's name: silu, gelu, gelu_new, gelu_pytorch_tanh, relu. */
  act?: string;
  tied?: boolean;
  attentionBias?: boolean;
  mlpBias?: boolean;
  /** How the weights are stored. Norm weights and biases too. */
  dtype?: Dtype;
  /** Two shards and an index instead of one file. */
  sharded?: boolean;
  /** Attention and MLPs add nothing: every layer sees the residual stream that the embedding left. */
  still?: boolean;
  seed?: number;
  /** Further or other fields of config.json, such as rope_scaling. */
  config?: Record<string, unknown>;
}

/** Mulberry32 (Tommy Ettinger, public domain). Uniform in [0, 1). */
export function randomSource(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

const STORED: Record<Dtype, string> = { f32: 'F32', f16: 'F16', bf16: 'BF16' };

function encode(values: Float32Array, dtype: Dtype): Float32Array | Uint16Array {
  if (dtype === 'f32') return values;
  return dtype === 'f16' ? encodeF16(values) : encodeBf16(values);
}

/** A random model whose activations stay of order 1: matrices uniform with deviation 1 / sqrt(inputs). */
export function makeModel(options: MakeModelOptions = {}): MemoryFolder {
  const { hidden = 16, intermediate = 24, layers = 2, heads = 2, dtype = 'f32', seed = 1 } = options;
  const json = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: options.kvHeads ?? heads,
    head_dim: options.headDim ?? hidden / heads,
    vocab_size: options.vocab ?? 32,
    max_position_embeddings: options.maxPositions ?? 64,
    hidden_act: options.act ?? 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: options.tied ?? false,
    attention_bias: options.attentionBias ?? false,
    mlp_bias: options.mlpBias ?? false,
    bos_token_id: 0,
    eos_token_id: 1,
    ...options.config,
  };
  const random = randomSource(seed);
  const tensors: TensorToWrite[] = [];
  for (const [name, shape] of requiredTensors(parseConfig(json))) {
    const norm = name.endsWith('norm.weight');
    const deviation = norm || shape.length === 1 ? 0.2 : name.includes('embed') ? 1 : 1 / Math.sqrt(shape[1]);
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    const uniform = () => (2 * random() - 1) * Math.sqrt(3) * deviation;
    const adds = /\.(o_proj|down_proj)\./.test(name);
    for (let i = 0; i < values.length; i++) values[i] = (norm ? 1 : 0) + uniform();
    if (options.still && adds) values.fill(0);
    tensors.push({ name, dtype: STORED[dtype], shape, data: encode(values, dtype) });
  }
  const folder = new MemoryFolder('made').set('config.json', json);
  if (!options.sharded) return folder.set('model.safetensors', writeSafetensors(tensors));
  const half = Math.ceil(tensors.length / 2);
  const weightMap: Record<string, string> = {};
  [tensors.slice(0, half), tensors.slice(half)].forEach((part, i) => {
    const file = `model-0000${i + 1}-of-00002.safetensors`;
    folder.set(file, writeSafetensors(part, { format: 'pt' }));
    for (const { name } of part) weightMap[name] = file;
  });
  return folder.set('model.safetensors.index.json', {
    metadata: { total_size: tensors.reduce((sum, t) => sum + t.data.byteLength, 0) },
    weight_map: weightMap,
  });
}

/** A model as small as one can be that has everything: shared by the tests of sessions. */
export const SMALL_CONTEXT = 64;
export const smallModel = (): MemoryFolder =>
  makeModel({
    act: 'relu',
    hidden: 20,
    intermediate: 70,
    layers: 3,
    heads: 4,
    kvHeads: 2,
    headDim: 10,
    mlpBias: true,
    maxPositions: SMALL_CONTEXT,
    seed: 3,
  });
