/**
 * Hugging Face config.json to the fields the loader needs. What the loader does not know it refuses, with the field's
 * name and value: a model that is computed slightly wrong is worse than one that does not load.
 */
import { ModelFormatError, UnsupportedModelError } from '../errors.js';
import { isObject, type JsonObject, show } from '../io/byte-source.js';

export interface Llama3Scaling {
  type: 'llama3';
  factor: number;
  lowFreqFactor: number;
  highFreqFactor: number;
  /** Tokens. */
  originalMaxPositions: number;
}
export type RopeScaling = Llama3Scaling | { type: 'linear'; factor: number };

export type HiddenAct = 'silu' | 'gelu' | 'gelu_tanh' | 'relu';

/** A LLaMA's hyperparameters. Sizes are in elements. */
export interface LlamaConfig {
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  /** Divides `heads`. */
  kvHeads: number;
  /** Even. heads · headDim need not be hiddenSize. */
  headDim: number;
  vocabSize: number;
  maxPositions: number;
  rmsNormEps: number;
  ropeTheta: number;
  ropeScaling: RopeScaling | null;
  hiddenAct: HiddenAct;
  tieWordEmbeddings: boolean;
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
  /** gate, up and down projections have biases. */
  mlpBias: boolean;
  bosTokenId: number | null;
  eosTokenIds: number[];
}

const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['llama', 'LlamaForCausalLM'],
  ['mistral', 'MistralForCausalLM'],
]);

const ACTIVATIONS: ReadonlyMap<string, HiddenAct> = new Map([
  ['silu', 'silu'],
  ['swish', 'silu'],
  ['gelu', 'gelu'],
  ['gelu_new', 'gelu_tanh'],
  ['gelu_pytorch_tanh', 'gelu_tanh'],
  ['relu', 'relu'],
]);

/** Absent and null mean the same in these files, save for `sliding_window`. */
const get = (from: JsonObject, key: string): unknown =>
  Object.hasOwn(from, key) ? (from[key] ?? undefined) : undefined;

function malformed(field: string, value: unknown, want: string): never {
  const message = `config.json: ${field} is ${show(value)}; it must be ${want}.`;
  throw new ModelFormatError(message, { field, value });
}

function unsupported(field: string, value: unknown, known: string): never {
  throw new UnsupportedModelError(`config.json: ${field} is ${show(value)}; ${known}.`, { field, value });
}

/** Within [min, max]: below is malformed, above more than the loader takes. */
function number(from: JsonObject, field: string, [min, max]: [number, number], fallback?: number): number {
  const value = get(from, field) ?? fallback;
  if (typeof value !== 'number' || !Number.isFinite(value)) malformed(field, value, 'a number');
  if (value < min) malformed(field, value, `at least ${min}`);
  if (value > max) unsupported(field, value, `at most ${max} is supported`);
  return value;
}

function count(from: JsonObject, field: string, max: number, fallback?: number): number {
  const value = number(from, field, [1, max], fallback);
  if (!Number.isInteger(value)) malformed(field, value, 'a whole number');
  return value;
}

function flag(from: JsonObject, field: string): boolean {
  const value = get(from, field) ?? false;
  if (typeof value !== 'boolean') malformed(field, value, 'true or false');
  return value;
}

function checkArchitecture(json: JsonObject): void {
  const modelType = get(json, 'model_type');
  const expected = typeof modelType === 'string' ? ARCHITECTURES.get(modelType) : undefined;
  if (expected === undefined) {
    unsupported('model_type', modelType, `known are ${[...ARCHITECTURES.keys()].join(' and ')}`);
  }
  const architectures = get(json, 'architectures') ?? [expected];
  if (!Array.isArray(architectures) || architectures.length !== 1 || architectures[0] !== expected) {
    unsupported('architectures', architectures, `a ${modelType} must be a ${expected}`);
  }
  // A Mistral without sliding window, and without the biases it never has, is the same graph. Its default window is
  // 4,096, so an absent field is not null.
  const mistral = expected === 'MistralForCausalLM';
  const window = get(json, 'sliding_window');
  if (window !== undefined || (mistral && !Object.hasOwn(json, 'sliding_window'))) {
    unsupported('sliding_window', window, 'only null (full attention) is supported');
  }
  const bias = ['attention_bias', 'mlp_bias'].find((field) => mistral && flag(json, field));
  if (bias) unsupported(bias, true, 'a Mistral has no biases');
}

/** Fields that change the graph, with the one value that leaves it alone. */
const NEUTRAL: [string, unknown][] = [
  ['quantization_config', null],
  ['compression_config', null],
  ['auto_map', null],
  ['partial_rotary_factor', 1],
  ['rope_interleaved', false],
];

function checkNeutral(from: JsonObject): void {
  for (const [field, neutral] of NEUTRAL) {
    const value = get(from, field) ?? neutral;
    if (value !== neutral) unsupported(field, value, `only ${neutral} is supported`);
  }
  const types = get(from, 'layer_types') ?? [];
  if (Array.isArray(types) && types.every((type) => type === 'full_attention')) return;
  unsupported('layer_types', types, 'only "full_attention" is supported');
}

const LLAMA3_FIELDS = ['low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'];
const ROPE_FIELDS = ['rope_type', 'type', 'rope_theta', 'partial_rotary_factor', 'factor', ...LLAMA3_FIELDS];

function parseScaling(rope: unknown, field: string): RopeScaling | null {
  if (rope === undefined) return null;
  if (!isObject(rope)) malformed(field, rope, 'an object');
  for (const key of Object.keys(rope)) {
    const known = rope[key] === null || ROPE_FIELDS.includes(key);
    if (!known) unsupported(`${field}.${key}`, rope[key], 'this setting is not known');
  }
  checkNeutral(rope);
  const type = get(rope, 'rope_type') ?? get(rope, 'type') ?? 'default';
  if (type === 'default') return null;
  if (type !== 'linear' && type !== 'llama3') {
    unsupported(`${field}.rope_type`, type, 'known are "default", "linear" and "llama3"');
  }
  const factor = number(rope, 'factor', [1, 1e6]);
  if (type === 'linear') return { type, factor };
  const lowFreqFactor = number(rope, 'low_freq_factor', [1e-6, 1e6]);
  const highFreqFactor = number(rope, 'high_freq_factor', [1e-6, 1e6]);
  if (highFreqFactor <= lowFreqFactor) {
    malformed('high_freq_factor', highFreqFactor, `above low_freq_factor (${lowFreqFactor})`);
  }
  const originalMaxPositions = count(rope, 'original_max_position_embeddings', 2 ** 26);
  return { type, factor, lowFreqFactor, highFreqFactor, originalMaxPositions };
}

/** Older files have `rope_theta` and `rope_scaling`, newer ones both in `rope_parameters`; some have all of them. */
function parseRope(json: JsonObject): { ropeTheta: number; ropeScaling: RopeScaling | null } {
  const theta = (from: JsonObject) => number(from, 'rope_theta', [1, 1e15], 10_000);
  const parameters = get(json, 'rope_parameters');
  const old = parseScaling(get(json, 'rope_scaling'), 'rope_scaling');
  if (parameters === undefined) return { ropeTheta: theta(json), ropeScaling: old };
  const ropeScaling = parseScaling(parameters, 'rope_parameters');
  const ropeTheta = theta({ rope_theta: get(json, 'rope_theta'), ...(parameters as JsonObject) });
  if (get(json, 'rope_theta') !== undefined && theta(json) !== ropeTheta) {
    malformed('rope_theta', theta(json), `that of rope_parameters (${ropeTheta})`);
  }
  const [given, wanted] = [old, ropeScaling].map((scaling) => JSON.stringify(scaling));
  if (get(json, 'rope_scaling') !== undefined && given !== wanted) {
    malformed('rope_scaling', given, `that of rope_parameters (${wanted})`);
  }
  return { ropeTheta, ropeScaling };
}

function tokenIds(json: JsonObject, field: string, fallback: number, vocabSize: number): number[] {
  if (!Object.hasOwn(json, field)) return fallback < vocabSize ? [fallback] : [];
  const value = get(json, field) ?? [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  for (const id of ids) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocabSize) {
      malformed(field, value, `token ids below vocab_size (${vocabSize})`);
    }
  }
  return ids as number[];
}

/**
 * Reads a parsed config.json. Absent optional fields take the defaults of transformers' LlamaConfig.
 * @throws ModelFormatError for a missing, wrongly typed or contradictory field.
 * @throws UnsupportedModelError for another architecture, rope type, activation, quantisation or an absurd size.
 */
export function parseConfig(json: unknown): LlamaConfig {
  if (!isObject(json)) malformed('the whole', json, 'a JSON object');
  checkArchitecture(json);
  checkNeutral(json);
  const hiddenSize = count(json, 'hidden_size', 65_536);
  const heads = count(json, 'num_attention_heads', 4096);
  // Absent, it means as many as heads in a Llama, but 8 in a Mistral: there it must be given.
  const kvDefault = json.model_type === 'llama' ? heads : undefined;
  const kvHeads = count(json, 'num_key_value_heads', 4096, kvDefault);
  if (heads % kvHeads !== 0) malformed('num_key_value_heads', kvHeads, `a divisor of ${heads}, the heads`);
  if (get(json, 'head_dim') === undefined && hiddenSize % heads !== 0) {
    malformed('num_attention_heads', heads, `a divisor of hidden_size (${hiddenSize}) without head_dim`);
  }
  const headDim = count(json, 'head_dim', 4096, hiddenSize / heads);
  if (headDim % 2 !== 0) malformed('head_dim', headDim, 'even: rotary embedding turns pairs');
  const vocabSize = count(json, 'vocab_size', 2 ** 24);
  const act = get(json, 'hidden_act') ?? 'silu';
  const hiddenAct = typeof act === 'string' ? ACTIVATIONS.get(act) : malformed('hidden_act', act, 'a string');
  if (hiddenAct === undefined) unsupported('hidden_act', act, `known are ${[...ACTIVATIONS.keys()]}`);
  return {
    hiddenSize,
    intermediateSize: count(json, 'intermediate_size', 2 ** 20),
    layers: count(json, 'num_hidden_layers', 1024),
    heads,
    kvHeads,
    headDim,
    vocabSize,
    maxPositions: count(json, 'max_position_embeddings', 2 ** 26, 2048),
    rmsNormEps: number(json, 'rms_norm_eps', [1e-12, 1], 1e-6),
    ...parseRope(json),
    hiddenAct,
    tieWordEmbeddings: flag(json, 'tie_word_embeddings'),
    attentionBias: flag(json, 'attention_bias'),
    mlpBias: flag(json, 'mlp_bias'),
    bosTokenId: tokenIds(json, 'bos_token_id', 1, vocabSize)[0] ?? null,
    eosTokenIds: tokenIds(json, 'eos_token_id', 2, vocabSize),
  };
}

/**
 * Radians per position of each rotated pair, [headDim / 2], f32: theta^(-2i / headDim), scaled.
 *
 * linear divides all by `factor`. llama3 (Hugging Face transformers, `_compute_llama3_parameters`; introduced with
 * Llama 3.1) looks at how many whole turns a pair makes within the original context: at highFreqFactor turns and more
 * it is left alone, at lowFreqFactor and fewer it is divided by `factor`, and between them the two are blended
 * linearly in the number of turns.
 */
export function ropeInverseFrequencies(
  config: Pick<LlamaConfig, 'headDim' | 'ropeTheta' | 'ropeScaling'>,
): Float32Array<ArrayBuffer> {
  const { headDim, ropeTheta, ropeScaling } = config;
  const out = new Float32Array(headDim / 2);
  for (let i = 0; i < out.length; i++) {
    const plain = ropeTheta ** ((-2 * i) / headDim);
    if (ropeScaling === null) out[i] = plain;
    else if (ropeScaling.type === 'linear') out[i] = plain / ropeScaling.factor;
    else {
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = ropeScaling;
      const turns = (originalMaxPositions * plain) / (2 * Math.PI);
      const kept = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
      out[i] = kept * plain + ((1 - kept) * plain) / factor;
    }
  }
  return out;
}
