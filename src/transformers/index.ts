/**
 * transformers.js's `pipeline('text-generation')` with a pairslab LLaMA behind it. Its tokenizer, chat template and
 * streamers are used as they are: tested with @huggingface/transformers 4.3.1, and @huggingface/hub 2.17.5 for loading by
 * repo id. Both are optional peers, imported when they are needed.
 */
import type { PreTrainedTokenizer } from '@huggingface/transformers';
import { ModelFormatError, OptionError } from '../errors.js';
import { requestBrowserDevice } from '../gpu/device-needs.js';
import type { StoredDtype } from '../gpu/layout.js';
import type { Recover } from '../gpu/recovering.js';
import { recovery } from '../gpu/recovery.js';
import { type ModelFolder, readJsonObject } from '../io/byte-source.js';
import { HttpFolder } from '../io/http-source.js';
import { LlamaRunner, type RunnerOptions } from '../llama/runner.js';
import { type GenerationDefaults, parseDefaults } from './generation-options.js';
import { HubFolder, type HubOptions, isRepoId } from './hub-folder.js';
import { type TextGenerationPipeline, textGeneration } from './text-generation.js';

export type { Chat, GenerationOptions, Message, Streamer } from './generation-options.js';
export { HubFolder, type HubOptions } from './hub-folder.js';
export {
  type GeneratedChat,
  type GeneratedText,
  type TextGenerationPipeline,
  type TextModel,
  textGeneration,
} from './text-generation.js';

/** transformers.js's names of what is stored here under others. */
const DTYPES: Readonly<Record<string, StoredDtype>> = { fp32: 'f32', fp16: 'f16', q8: 'q8', q4: 'q4' };

export interface PipelineOptions
  extends Omit<HubOptions, 'hubUrl'>,
    Pick<RunnerOptions, 'session' | 'signal'> {
  /** Default (and `webgpu`): one of its own, which `dispose` destroys. */
  device?: GPUDevice | 'webgpu';
  /**
   * Gives another device when that is lost, and texts go on there. Default: `recovery()` for a device of its own, which
   * asks the browser; none for one that is given.
   */
  recover?: Recover;
  /** How weights are stored on the device. Default fp32, or what the model was converted to. */
  dtype?: StoredDtype | 'fp32' | 'fp16';
  /** As for `loadWeights`: a budget, a context. */
  weights?: Omit<NonNullable<RunnerOptions['weights']>, 'dtype'>;
  /** Default: the model's own. */
  tokenizer?: PreTrainedTokenizer;
  /** Called after each tensor, with a percentage, as transformers.js calls it. */
  progress_callback?: (info: PipelineProgress) => void;
}

export interface PipelineProgress {
  status: 'progress';
  /** The model. */
  name: string;
  /** The tensor. */
  file: string;
  /** Percent of all tensors. */
  progress: number;
}

/**
 * Loads a LLaMA-family model and its tokenizer.
 * @param model A repo id of the hub that transformers.js is set to (`env.remoteHost`), the URL of a folder on a server that knows ranges, or a folder.
 * @throws OptionError for another task; AdapterError without WebGPU; PoolError for what cannot be read; what
 * `LlamaRunner.load` throws.
 */
export async function pipeline(
  task: 'text-generation',
  model: string | URL | ModelFolder,
  options: PipelineOptions = {},
): Promise<TextGenerationPipeline> {
  if (task !== 'text-generation')
    throw new OptionError(`task "${String(task)}" is unknown; there is text-generation.`, { task });
  const { device = 'webgpu', dtype, session, signal, progress_callback } = options;
  const folder = await folderOf(model, options);
  const defaults = await defaultsOf(folder);
  const tokenizer = options.tokenizer ?? (await tokenizerOf(folder, options));
  const own = device === 'webgpu';
  let gpu = own ? await requestBrowserDevice() : device;
  const ask = options.recover ?? (own ? recovery() : undefined);
  const recover: Recover | undefined = own && ask ? async (lost) => (gpu = await ask(lost)) : ask;
  const close = () => {
    if (own) gpu.destroy();
  };
  try {
    const runner = await LlamaRunner.load(gpu, folder, {
      weights: { ...options.weights, dtype: dtype && (DTYPES[dtype] ?? dtype) },
      session,
      signal,
      recover,
      onProgress: (done, total, file) =>
        progress_callback?.({ status: 'progress', name: folder.name, file, progress: (100 * done) / total }),
    });
    return textGeneration(tokenizer, runner, defaults, async () => {
      await runner.destroy();
      close();
    });
  } catch (error) {
    close();
    throw error;
  }
}

async function folderOf(model: string | URL | ModelFolder, options: PipelineOptions): Promise<ModelFolder> {
  if (typeof model === 'object' && 'open' in model) return model;
  if (typeof model === 'string' && isRepoId(model)) {
    const { env } = await import('@huggingface/transformers');
    return new HubFolder(model, { ...options, hubUrl: env.remoteHost });
  }
  const { location } = globalThis as { location?: { href: string } };
  try {
    return new HttpFolder(new URL(model, location?.href));
  } catch {
    throw new OptionError(
      `"${String(model).slice(0, 200)}" is neither a repo id, such as org/name, nor a URL.`,
    );
  }
}

/** tokenizer.json of the largest vocabularies is some tens of MB. */
const LIMIT = 256 << 20;

async function defaultsOf(folder: ModelFolder): Promise<GenerationDefaults> {
  const file = await folder.open('generation_config.json');
  return file ? parseDefaults(await readJsonObject(file, LIMIT)) : {};
}

/** By repo id as transformers.js loads it, which knows each model's kind; else of the folder's files. */
async function tokenizerOf(folder: ModelFolder, { revision }: HubOptions): Promise<PreTrainedTokenizer> {
  const { AutoTokenizer, PreTrainedTokenizer } = await import('@huggingface/transformers');
  if (folder instanceof HubFolder) return AutoTokenizer.from_pretrained(folder.name, { revision });
  const file = await folder.open('tokenizer.json');
  if (!file)
    throw new ModelFormatError(`${folder.name} has no tokenizer.json; give a tokenizer.`, {
      file: 'tokenizer.json',
    });
  const json = await readJsonObject(file, LIMIT);
  const configFile = await folder.open('tokenizer_config.json');
  const config = configFile ? { ...(await readJsonObject(configFile, LIMIT)) } : {};
  const template = await folder.open('chat_template.jinja');
  if (template && !('chat_template' in config))
    Object.assign(config, { chat_template: new TextDecoder().decode(await template.read(0, template.size)) });
  return new PreTrainedTokenizer(json, config);
}
