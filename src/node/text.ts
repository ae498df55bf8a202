import { Tokenizer } from '@huggingface/tokenizers';
import { ModelFormatError } from '../errors.js';
import { type ModelFolder, readJsonObject } from '../io/byte-source.js';

/** A model's tokenizer, as much of it as the command line needs. */
export interface TextCodec {
  encode(text: string): number[];
  decode(ids: readonly number[]): string;
}

/** tokenizer.json of the largest vocabularies is some tens of MB. */
const LIMIT = 256 << 20;

/** @throws ModelFormatError when tokenizer.json is missing or not one. */
export async function openTokenizer(folder: ModelFolder): Promise<TextCodec> {
  const source = await folder.open('tokenizer.json');
  if (!source)
    throw new ModelFormatError(
      `${folder.name} has no tokenizer.json; give --prompt-ids instead of --prompt.`,
    );
  const json = await readJsonObject(source, LIMIT);
  const config = await folder.open('tokenizer_config.json');
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(json, config ? await readJsonObject(config, LIMIT) : {});
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ModelFormatError(`${folder.name}/tokenizer.json cannot be used: ${why}`);
  }
  return {
    encode: (text) => [...tokenizer.encode(text).ids],
    decode: (ids) => (ids.length === 0 ? '' : tokenizer.decode([...ids], { skip_special_tokens: true })),
  };
}

/**
 * Turns tokens into text as they come: a character whose bytes are spread over tokens is held back until it is whole.
 */
export class TextStream {
  private readonly ids: number[] = [];
  private readonly codec: TextCodec;
  private shown = '';

  constructor(codec: TextCodec) {
    this.codec = codec;
  }

  /** The text that `id` completes. */
  push(id: number): string {
    this.ids.push(id);
    const text = this.codec.decode(this.ids);
    if (text.endsWith('\uFFFD')) return '';
    return this.advance(text);
  }

  /** What is left, replacement characters and all. */
  end(): string {
    return this.advance(this.codec.decode(this.ids));
  }

  private advance(text: string): string {
    const fresh = text.slice(this.shown.length);
    this.shown = text;
    return fresh;
  }
}
