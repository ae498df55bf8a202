/**
 * A model in the Hugging Face layout: config.json, and its weights in model.safetensors or in shards that
 * model.safetensors.index.json lists. Opening reads headers only.
 */
import { ModelFormatError } from '../errors.js';
import { type ByteSource, isObject, type ModelFolder, readJsonObject, show } from '../io/byte-source.js';
import { BUNDLE_INDEX, openBundle, type RowBundle } from '../pool/bundle.js';
import type { FieldLayout } from '../pool/fields.js';
import { type LlamaConfig, parseConfig } from './config.js';
import { pooledFields, pooledTensors } from './layer-fields.js';
import { openSafetensors, type Safetensors, type TensorData, type TensorInfo, toF32 } from './safetensors.js';

const CONFIG = 'config.json';
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const CONFIG_LIMIT = 16 * 2 ** 20;
const INDEX_LIMIT = 100 * 2 ** 20;
const SHARD_LIMIT = 4096;
/** How many names an error message lists; `details` has them all. */
const LISTED = 12;

/** An opened model: its configuration and its tensors by name, whichever file they are in. */
export class Checkpoint {
  readonly name: string;
  readonly config: LlamaConfig;
  /** The rows of the MLPs, where the model was converted: they are no tensors then. */
  readonly bundle: RowBundle | null;
  /** The file each tensor is in. */
  readonly #files: ReadonlyMap<string, Safetensors>;

  constructor(
    name: string,
    config: LlamaConfig,
    files: ReadonlyMap<string, Safetensors>,
    bundle: RowBundle | null = null,
  ) {
    this.name = name;
    this.config = config;
    this.bundle = bundle;
    this.#files = files;
  }

  /** The same model with the rows of its MLPs from elsewhere: `requireTensors` says whether they fit it. */
  withRows(bundle: RowBundle): Checkpoint {
    return new Checkpoint(this.name, this.config, this.#files, bundle);
  }

  has(name: string): boolean {
    return this.#files.has(name);
  }

  /** @throws ModelFormatError when there is no such tensor. */
  info(name: string): TensorInfo {
    return this.#file(name).tensors.get(name)!;
  }

  /** The file that `info(name).begin` and `.end` count in, to read parts of a tensor. Throws as `info` does. */
  source(name: string): ByteSource {
    return this.#file(name).source;
  }

  /**
   * A tensor as stored: f32, or the bit patterns of f16 or bf16.
   * @throws ModelFormatError when it is missing, has another shape, is no float of 16 or 32 bits, or is cut short.
   */
  async read(name: string, shape: readonly number[]): Promise<TensorData> {
    const file = this.#file(name);
    const found = file.tensors.get(name)!.shape;
    if (!sameShape(found, shape)) {
      throw new ModelFormatError(
        `${this.name}: tensor ${show(name)} has shape ${show(found)}, expected ${show(shape)}.`,
        { tensor: name, shape: found, expected: shape },
      );
    }
    return file.read(name);
  }

  /** As `read`, widened to f32. */
  async readF32(name: string, shape: readonly number[]): Promise<Float32Array<ArrayBuffer>> {
    return toF32(await this.read(name, shape));
  }

  #file(name: string): Safetensors {
    const file = this.#files.get(name);
    if (file) return file;
    throw new ModelFormatError(`${this.name}: there is no tensor ${show(name)}.`, { tensor: name });
  }
}

const describe = (fields: readonly FieldLayout[]): string =>
  fields.map(({ name, dtype, parts }) => `${name} ${dtype} ${show(parts)}`).join(', ');

const sameFields = (a: readonly FieldLayout[], b: readonly FieldLayout[]): boolean =>
  describe(a) === describe(b);

const sameShape = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((n, i) => n === b[i]);

/**
 * Opens a model folder. model.safetensors wins where there is an index as well, as in transformers. With a rows.json,
 * it is one that `pairslab convert` wrote.
 * @throws ModelFormatError for missing, truncated, inconsistent or hostile files.
 * @throws UnsupportedModelError for a configuration the loader does not know.
 */
export async function openCheckpoint(folder: ModelFolder): Promise<Checkpoint> {
  const configFile = await folder.open(CONFIG);
  if (!configFile) throw new ModelFormatError(`${folder.name}: there is no ${CONFIG}.`, { file: CONFIG });
  const config = parseConfig(await readJsonObject(configFile, CONFIG_LIMIT));

  const bundle = await openBundle(folder);
  const single = await folder.open(SINGLE);
  if (single) {
    const file = await openSafetensors(single);
    const files = new Map([...file.tensors.keys()].map((name) => [name, file]));
    return new Checkpoint(folder.name, config, files, bundle);
  }
  const index = await folder.open(INDEX);
  if (!index) {
    throw new ModelFormatError(`${folder.name}: there is neither ${SINGLE} nor ${INDEX}.`, {
      files: [SINGLE, INDEX],
    });
  }
  return new Checkpoint(folder.name, config, await openShards(folder, index), bundle);
}

async function openShards(folder: ModelFolder, index: ByteSource): Promise<Map<string, Safetensors>> {
  const json = await readJsonObject(index, INDEX_LIMIT);
  const weightMap = Object.hasOwn(json, 'weight_map') ? json.weight_map : undefined;
  if (!isObject(weightMap)) {
    throw new ModelFormatError(`${INDEX}: weight_map must be an object, not ${show(weightMap)}.`);
  }
  const entries = Object.entries(weightMap);
  const shards = new Map<string, Safetensors>();
  const names = new Set(entries.map(([tensor, shard]) => checkShardName(tensor, shard)));
  if (names.size > SHARD_LIMIT) {
    throw new ModelFormatError(`${INDEX} names ${names.size} shards; at most ${SHARD_LIMIT} are opened.`, {
      shards: names.size,
      limit: SHARD_LIMIT,
    });
  }
  for (const name of names) {
    const source = await folder.open(name);
    if (!source) {
      throw new ModelFormatError(`${folder.name}: shard ${show(name)} of ${INDEX} is missing.`, {
        shard: name,
      });
    }
    shards.set(name, await openSafetensors(source));
  }
  const files = new Map<string, Safetensors>();
  for (const [tensor, shard] of entries as [string, string][]) {
    const file = shards.get(shard)!;
    if (!file.tensors.has(tensor)) {
      throw new ModelFormatError(
        `${INDEX} says that ${show(tensor)} is in ${show(shard)}, where it is not.`,
        {
          tensor,
          shard,
        },
      );
    }
    files.set(tensor, file);
  }
  return files;
}

/** A shard's name comes from a file that may be hostile, and a folder may turn it into a path or a URL. */
function checkShardName(tensor: string, shard: unknown): string {
  if (
    typeof shard === 'string' &&
    /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$/.test(shard) &&
    !shard.includes('..')
  ) {
    return shard;
  }
  throw new ModelFormatError(
    `${INDEX}: weight_map sends ${show(tensor)} to ${show(shard)}; a shard must be a plain file name.`,
    { tensor, shard },
  );
}

/**
 * Every tensor a model of this configuration has, with its shape; matrices are [outputs, inputs]. The biases of
 * `attentionBias` and `mlpBias` included, `lm_head.weight` unless it is tied to the embedding.
 */
export function requiredTensors(config: LlamaConfig): Map<string, number[]> {
  const { hiddenSize: h, intermediateSize, vocabSize } = config;
  const q = config.heads * config.headDim;
  const kv = config.kvHeads * config.headDim;
  const out = new Map<string, number[]>([['model.embed_tokens.weight', [vocabSize, h]]]);
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `model.layers.${layer}.`;
    const linear = (name: string, outputs: number, inputs: number, bias: boolean) => {
      out.set(`${at}${name}.weight`, [outputs, inputs]);
      if (bias) out.set(`${at}${name}.bias`, [outputs]);
    };
    out.set(`${at}input_layernorm.weight`, [h]);
    linear('self_attn.q_proj', q, h, config.attentionBias);
    linear('self_attn.k_proj', kv, h, config.attentionBias);
    linear('self_attn.v_proj', kv, h, config.attentionBias);
    linear('self_attn.o_proj', h, q, config.attentionBias);
    out.set(`${at}post_attention_layernorm.weight`, [h]);
    linear('mlp.gate_proj', intermediateSize, h, config.mlpBias);
    linear('mlp.up_proj', intermediateSize, h, config.mlpBias);
    linear('mlp.down_proj', h, intermediateSize, config.mlpBias);
  }
  out.set('model.norm.weight', [h]);
  if (!config.tieWordEmbeddings) out.set('lm_head.weight', [vocabSize, h]);
  return out;
}

/**
 * Checks, before anything is loaded, that the checkpoint has every tensor its configuration asks for, in its shape
 * and as F32, F16 or BF16, the pools of its bundle where it has one, and no bias that the configuration does not mention (it would be dropped in silence).
 * @throws ModelFormatError that lists them; `details.missing`, `.wrong` and `.unexpected` name all of them.
 */
export function requireTensors(checkpoint: Checkpoint): void {
  const missing: string[] = [];
  const wrong: string[] = [];
  const unexpected: string[] = [];
  const { bundle, config } = checkpoint;
  const required = requiredTensors(config);
  if (bundle) {
    for (const name of pooledTensors(config)) required.delete(name);
    for (const [name, fields] of pooledFields(config, bundle.dtype)) {
      const stored = bundle.pools.get(name);
      if (!stored) missing.push(`${name} (of ${BUNDLE_INDEX})`);
      else if (stored.rows !== config.intermediateSize || !sameFields(stored.fields, fields))
        wrong.push(
          `${name} (of ${BUNDLE_INDEX}: ${stored.rows} rows of ${describe(stored.fields)}, expected ` +
            `${config.intermediateSize} of ${describe(fields)})`,
        );
    }
  }
  for (const [name, shape] of required) {
    if (!checkpoint.has(name)) {
      missing.push(name);
    } else {
      const info = checkpoint.info(name);
      const readable = ['F32', 'F16', 'BF16'].includes(info.dtype);
      if (!readable || !sameShape(info.shape, shape)) {
        const want = `${readable ? '' : 'F32, F16 or BF16 '}${show(shape)}`;
        wrong.push(`${name} (${info.dtype} ${show(info.shape)}, expected ${want})`);
      }
    }
    const bias = name.replace(/_proj\.weight$/, '_proj.bias');
    if (bias !== name && !required.has(bias) && checkpoint.has(bias)) unexpected.push(bias);
  }
  if (missing.length + wrong.length + unexpected.length === 0) return;
  const part = (what: string, names: string[]) => {
    const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : '';
    return names.length === 0 ? '' : ` ${names.length} ${what}: ${names.slice(0, LISTED).join(', ')}${more}.`;
  };
  throw new ModelFormatError(
    `${checkpoint.name}: the tensors do not fit ${CONFIG}.${part('missing', missing)}${part('of another shape or type', wrong)}` +
      part('not in the configuration', unexpected),
    { missing, wrong, unexpected },
  );
}
