/**
 * A chat with a pairslab LLaMA in an app that was written for transformers.js: `pipeline` comes from pairslab, all else
 * stays.
 */
import { TextStreamer } from '@huggingface/transformers';
import { opfsFiles, SegmentCache } from 'pairslab/pool';
import { type Message, pipeline, type TextGenerationPipeline } from 'pairslab/transformers';

/** @param model A repo id, such as `org/name`. What is read of it is kept in the browser for the next time. */
export async function openChat(model: string, onProgress: (percent: number) => void) {
  const root = await navigator.storage.getDirectory();
  const cache = await SegmentCache.open(opfsFiles(await root.getDirectoryHandle('models', { create: true })));
  const generator = await pipeline('text-generation', model, {
    dtype: 'fp16',
    cache,
    progress_callback: ({ progress }) => onProgress(progress),
  });
  await cache.close();
  return generator;
}

/** @returns the answer; `onText` gets it piece by piece. */
export async function answer(
  generator: TextGenerationPipeline,
  messages: Message[],
  onText: (text: string) => void,
): Promise<string> {
  const streamer = new TextStreamer(generator.tokenizer, { skip_prompt: true, callback_function: onText });
  const [{ generated_text }] = await generator(messages, { max_new_tokens: 12, do_sample: false, streamer });
  return generated_text.at(-1)?.content ?? '';
}
