import type { PreTrainedTokenizer } from '@huggingface/transformers';
import { OptionError } from '../errors.js';
import type { RunnerRequest, RunnerResult } from '../llama/runner.js';
import {
  type Chat,
  checkOptions,
  type GenerationDefaults,
  type GenerationOptions,
  isChat,
  type Message,
  samplingOf,
  stopIdsOf,
} from './generation-options.js';

/** What generates: a `LlamaRunner`, or a `WorkerModel`. */
export interface TextModel {
  generate(request: RunnerRequest): Promise<RunnerResult>;
  destroy(): Promise<void>;
}

export interface GeneratedText {
  generated_text: string;
}
export interface GeneratedChat {
  /** The messages given, and the answer: `generated_text.at(-1).content`. */
  generated_text: Message[];
}

/** What `pipeline` gives: called as transformers.js's is, with outputs of the same shape. */
export interface TextGenerationPipeline {
  (text: string, options?: GenerationOptions): Promise<GeneratedText[]>;
  (texts: readonly string[], options?: GenerationOptions): Promise<GeneratedText[][]>;
  (chat: Chat, options?: GenerationOptions): Promise<GeneratedChat[]>;
  (chats: readonly Chat[], options?: GenerationOptions): Promise<GeneratedChat[][]>;
  readonly task: 'text-generation';
  readonly tokenizer: PreTrainedTokenizer;
  readonly model: TextModel;
  /** Frees the model once the text in turn has ended. */
  dispose(): Promise<void>;
}

const MAX_NEW_TOKENS = 256;

type Input = string | Chat | readonly string[] | readonly Chat[];

/**
 * A tokenizer and its chat template in front of a model.
 * Calls throw OptionError for input or options that are not supported, and what `LlamaRunner.generate` throws.
 */
export function textGeneration(
  tokenizer: PreTrainedTokenizer,
  model: TextModel,
  defaults: GenerationDefaults = {},
  dispose = () => model.destroy(),
): TextGenerationPipeline {
  const one = async (input: string | Chat, options: GenerationOptions) => {
    const chat = typeof input !== 'string';
    const promptIds = encode(tokenizer, input, options);
    const tokens = await run(model, promptIds, options, defaults);
    const decode = (ids: number[]) =>
      ids.length === 0 ? '' : tokenizer.decode(ids, { skip_special_tokens: true });
    // Decoded together: what a prompt's last token and the first one after it make of each other stays as it is.
    const whole = decode([...promptIds, ...tokens]);
    const full = !chat && (options.return_full_text ?? true);
    const text = full ? whole : whole.slice(decode(promptIds).length);
    return [{ generated_text: chat ? [...input, { role: 'assistant', content: text }] : text }];
  };
  const call = async (input: Input, options: GenerationOptions = {}) => {
    checkOptions(options);
    if (typeof input === 'string' || isChat(input)) return one(input, options);
    const many = input as readonly (string | Chat)[];
    if (!Array.isArray(many) || !many.every((each) => typeof each === 'string' || isChat(each)))
      throw new OptionError(
        'the input must be a text, a chat of { role, content } messages, or a list of either.',
      );
    if (options.streamer && many.length > 1)
      throw new OptionError(`a streamer follows one text; there are ${many.length}.`);
    const found = [];
    for (const each of many) found.push(await one(each, options));
    return found;
  };
  return Object.assign(call, {
    task: 'text-generation',
    tokenizer,
    model,
    dispose,
  }) as TextGenerationPipeline;
}

async function run(
  model: TextModel,
  promptIds: number[],
  options: GenerationOptions,
  defaults: GenerationDefaults,
): Promise<number[]> {
  const { streamer, stopping_criteria, signal, max_new_tokens = MAX_NEW_TOKENS } = options;
  const controller = new AbortController();
  const interrupt = () => controller.abort(signal?.reason);
  if (signal?.aborted) interrupt();
  signal?.addEventListener('abort', interrupt, { once: true });
  try {
    streamer?.put([promptIds.map(BigInt)]);
    const { tokens } = await model.generate({
      promptIds,
      maxTokens: max_new_tokens,
      sampling: samplingOf(options, defaults),
      stopIds: stopIdsOf(options, defaults),
      signal: controller.signal,
      onToken(id) {
        streamer?.put([[BigInt(id)]]);
        if (stopping_criteria?.interrupted) controller.abort();
      },
    });
    streamer?.end();
    return tokens;
  } finally {
    signal?.removeEventListener('abort', interrupt);
  }
}

function encode(tokenizer: PreTrainedTokenizer, input: string | Chat, options: GenerationOptions): number[] {
  const { tools, documents, chat_template, tokenizer_encode_kwargs, add_special_tokens } = options;
  if (typeof input === 'string') {
    const { add_bos_token, add_eos_token } = tokenizer as {
      add_bos_token?: boolean;
      add_eos_token?: boolean;
    };
    const special = add_special_tokens ?? (add_bos_token || add_eos_token) ?? false;
    return idsOf(tokenizer, input, { add_special_tokens: special, ...tokenizer_encode_kwargs });
  }
  const given = Object.fromEntries(
    Object.entries({ tools, documents, chat_template }).filter(([, value]) => value !== undefined),
  );
  const settings = { tokenize: false, add_generation_prompt: true, ...given, ...tokenizer_encode_kwargs };
  const text = tokenizer.apply_chat_template([...input], settings as object);
  // The template has put special tokens where they belong.
  return idsOf(tokenizer, text as unknown as string, { add_special_tokens: false });
}

function idsOf(tokenizer: PreTrainedTokenizer, text: string, options: object): number[] {
  const { input_ids } = tokenizer(text, { truncation: true, ...options, return_tensor: false } as object);
  return Array.from(input_ids as unknown as number[], Number);
}
