import { OptionError } from '../errors.js';
import { isObject, type JsonObject } from '../io/byte-source.js';
import type { SamplerOptions } from '../llama/sample.js';

/** What is given a prompt and then each token, as transformers.js has it: a `TextStreamer`. */
export interface Streamer {
  /** Ids of the one text that is generated. */
  put(value: bigint[][]): void;
  end(): void;
}

/** Of transformers.js's generation options those that mean the same here. */
export interface GenerationOptions {
  /** Default 256. */
  max_new_tokens?: number;
  /** Default false, which is greedy, or what the model's generation_config.json says; so are those that follow. */
  do_sample?: boolean;
  /** Default 1. */
  temperature?: number;
  /** Default 50; 0 for all. */
  top_k?: number;
  /** Default 1. */
  top_p?: number;
  eos_token_id?: number | readonly number[] | null;
  streamer?: Streamer | null;
  /** Ends generation when it is interrupted: an `InterruptableStoppingCriteria`. */
  stopping_criteria?: { readonly interrupted: boolean } | null;
  /** The prompt is part of the text (not of a chat's answer). Default true. */
  return_full_text?: boolean;
  /** Default: what the tokenizer says, else false. */
  add_special_tokens?: boolean;
  /** For chats, handed to the template. */
  chat_template?: string | null;
  tools?: readonly object[] | null;
  documents?: readonly object[] | null;
  tokenizer_encode_kwargs?: object;
  /** Of sampling; not known to transformers.js. Default 0. */
  seed?: number;
  /** Ends generation; not known to transformers.js. */
  signal?: AbortSignal;
}

/** Options with no counterpart here, at the value that leaves them out. */
const NEUTRAL: Readonly<Record<string, unknown>> = {
  num_beams: 1,
  num_beam_groups: 1,
  num_return_sequences: 1,
  repetition_penalty: 1,
  no_repeat_ngram_size: 0,
  use_cache: true,
};

const KNOWN: Readonly<Record<keyof GenerationOptions, true>> = {
  max_new_tokens: true,
  do_sample: true,
  temperature: true,
  top_k: true,
  top_p: true,
  eos_token_id: true,
  streamer: true,
  stopping_criteria: true,
  return_full_text: true,
  add_special_tokens: true,
  chat_template: true,
  tools: true,
  documents: true,
  tokenizer_encode_kwargs: true,
  seed: true,
  signal: true,
};

/**
 * Refuses options that would be left out in silence.
 * @throws OptionError that names the option.
 */
export function checkOptions(options: object): void {
  for (const [name, value] of Object.entries(options)) {
    if (Object.hasOwn(KNOWN, name) || value === undefined || value === null) continue;
    if (Object.hasOwn(NEUTRAL, name) && NEUTRAL[name] === value) continue;
    throw new OptionError(`${name} is not supported; known are ${Object.keys(KNOWN).join(', ')}.`, {
      name,
      value,
    });
  }
}

export interface GenerationDefaults
  extends Pick<GenerationOptions, 'do_sample' | 'temperature' | 'top_k' | 'top_p'> {
  eosTokenIds?: readonly number[];
}

/** Of a generation_config.json what is used here; what is malformed is as if it were not there. */
export function parseDefaults(json: JsonObject): GenerationDefaults {
  const number = (name: string) => (typeof json[name] === 'number' ? json[name] : undefined);
  const { do_sample, eos_token_id } = json;
  return {
    do_sample: typeof do_sample === 'boolean' ? do_sample : undefined,
    temperature: number('temperature'),
    top_k: number('top_k'),
    top_p: number('top_p'),
    eosTokenIds: idsOf(eos_token_id),
  };
}

/** Which token comes next. @throws OptionError for a temperature of 0 or less, as nothing could be sampled. */
export function samplingOf(options: GenerationOptions, defaults: GenerationDefaults): SamplerOptions {
  if (!(options.do_sample ?? defaults.do_sample ?? false)) return {};
  const temperature = options.temperature ?? defaults.temperature ?? 1;
  if (!(temperature > 0)) {
    throw new OptionError(
      `temperature is ${temperature}; to sample it must be above 0 (or do_sample false).`,
      {
        temperature,
      },
    );
  }
  return {
    temperature,
    topK: options.top_k ?? defaults.top_k ?? 50,
    topP: options.top_p ?? defaults.top_p ?? 1,
    seed: options.seed,
  };
}

/** What ends a text: what is asked for, what the model's defaults say, or (undefined) what its config does. */
export function stopIdsOf(
  { eos_token_id }: GenerationOptions,
  { eosTokenIds }: GenerationDefaults,
): readonly number[] | undefined {
  return idsOf(eos_token_id) ?? eosTokenIds;
}

function idsOf(value: unknown): readonly number[] | undefined {
  const ids = Array.isArray(value) ? value : [value];
  return ids.every((id): id is number => Number.isSafeInteger(id)) ? ids : undefined;
}

/** Messages of a chat: `{ role, content }`. */
export type Chat = readonly Message[];
export interface Message {
  readonly role: string;
  readonly content: string;
}

export function isChat(value: unknown): value is Chat {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((one) => isObject(one) && 'role' in one && 'content' in one)
  );
}
