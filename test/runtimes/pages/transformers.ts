import { AutoTokenizer, env, InterruptableStoppingCriteria, TextStreamer } from '@huggingface/transformers';
import { answer, openChat } from '../../../docs/examples/transformers.js';
import { gpuBytes, recovery } from '../../../src/index.js';
import { pipeline, type TextGenerationPipeline } from '../../../src/transformers/index.js';
import { refusal } from './refusal.js';

env.remoteHost = `${location.origin}/`;
let generator: TextGenerationPipeline;
let device: GPUDevice;

/** By URL, on a device of the page's own. */
export async function open(path: string) {
  device = (await (await navigator.gpu.requestAdapter())?.requestDevice()) as GPUDevice;
  generator = await pipeline('text-generation', new URL(path, location.href), { device, dtype: 'f16' });
}

export async function texts(prompts: string[], maxTokens: number) {
  const seen: string[] = [];
  const streamer = new TextStreamer(generator.tokenizer, { callback_function: (text) => seen.push(text) });
  const full = await generator(prompts[0], { max_new_tokens: maxTokens, streamer });
  const rest = await generator(prompts[0], { max_new_tokens: maxTokens, return_full_text: false });
  const many = await generator(prompts, { max_new_tokens: 3, return_full_text: false });
  return { full, rest, many, streamed: seen.join('') };
}

export async function sampled(prompt: string) {
  const run = (seed: number) =>
    generator(prompt, {
      max_new_tokens: 12,
      do_sample: true,
      temperature: 0.9,
      top_k: 20,
      top_p: 0.95,
      seed,
    });
  const [first, again, other] = [await run(1), await run(1), await run(2)];
  return { first, again, other };
}

/** Interrupted by a criterion of transformers.js's, and by a signal. */
export async function stopped(prompt: string) {
  const stopping_criteria = new InterruptableStoppingCriteria();
  let count = 0;
  const streamer = {
    put: () => void (++count === 3 && stopping_criteria.interrupt()),
    end: () => {
      count += 1000;
    },
  };
  const [{ generated_text: text }] = await generator(prompt, {
    max_new_tokens: 200,
    streamer,
    stopping_criteria,
    do_sample: true,
  });
  const signal = AbortSignal.abort(new Error('before it began'));
  const early = await generator(prompt, { signal }).then(
    () => 'text',
    (error) => (error as Error).message,
  );
  return { count, length: text.length, early };
}

export async function refusals(prompt: string) {
  return {
    beams: await refusal(() => generator(prompt, { num_beams: 4 } as object)),
    temperature: await refusal(() => generator(prompt, { do_sample: true, temperature: 0 })),
    input: await refusal(() => generator([{ text: prompt }] as never)),
    task: await refusal(() => pipeline('fill-mask' as 'text-generation', 'org/statesman')),
    name: await refusal(() => pipeline('text-generation', 'http://')),
    repo: await refusal(() => pipeline('text-generation', 'org/absent')),
    revision: await refusal(() => pipeline('text-generation', 'org/statesman', { revision: 'gone' })),
  };
}

/** Of the test: ends the GPU process. */
declare function crashGpu(): Promise<void>;

/** A text on a device of the pipeline's own, through a crash of the GPU process. */
export async function crash(path: string, prompt: string, maxTokens: number) {
  const lost: string[] = [];
  const recover = recovery({ onLost: (error) => lost.push(error.name) });
  const own = await pipeline('text-generation', new URL(path, location.href), { dtype: 'f16', recover });
  let count = 0;
  const streamer = { put: () => void (++count === 4 && crashGpu()), end() {} };
  const options = { max_new_tokens: maxTokens, return_full_text: false, streamer };
  const [{ generated_text: text }] = await own(prompt, options);
  await own.dispose();
  return { text, lost };
}

export async function close() {
  await generator.dispose();
  const left = gpuBytes(device);
  device.destroy();
  return left;
}

/** The example, twice: the second time what it reads is in the browser's files. */
export async function chat(repo: string) {
  const messages = [{ role: 'user', content: 'The state of the Union is' }];
  const runs = [];
  for (let i = 0; i < 2; i++) {
    let percent = 0;
    const begun = await fetch('/seen').then((response) => response.json());
    const opened = await openChat(repo, (progress) => {
      percent = progress;
    });
    const ended = await fetch('/seen').then((response) => response.json());
    const pieces: string[] = [];
    const text = await answer(opened, messages, (piece) => pieces.push(piece));
    await opened.dispose();
    runs.push({ percent, text, streamed: pieces.join(''), requests: ended.slice(begun.length) as string[] });
  }
  const tokenizer = await AutoTokenizer.from_pretrained(repo);
  const prompt = tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true });
  return { runs, prompt };
}
