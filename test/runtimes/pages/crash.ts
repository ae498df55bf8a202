/** Texts of tiny models while the browser's GPU process crashes, in the page and in a worker; two models at once. */
import { gpuBytes, type Recover, recovery } from '../../../src/index.js';
import type { ByteSource, ModelFolder } from '../../../src/pool/index.js';
import { LlamaRunner, type RunnerRequest, type RunnerResult } from '../../../src/llama/runner.js';
import { WorkerClient } from '../../../src/worker/index.js';
import { makeModel } from '../../support/make-model.js';

/** Of the test: the GPU process ends a moment after it is called. */
declare function crashGpu(): Promise<void>;

const CONTEXT = 4096;
const PROMPT = Array.from({ length: 100 }, (_, i) => (7 * i * i + 3) % 60);
const made = (seed: number) =>
  makeModel({
    hidden: 32,
    intermediate: 96,
    layers: 2,
    heads: 2,
    vocab: 60,
    act: 'relu',
    maxPositions: CONTEXT,
    seed,
  });

interface Model {
  generate(request: RunnerRequest): Promise<RunnerResult>;
}

const request = (maxTokens: number) => ({
  promptIds: PROMPT,
  maxTokens,
  stopIds: [],
  // What is drawn depends on the sampler's place too.
  sampling: { temperature: 1, seed: 5 },
});

/** Tokens that follow the last recovery. */
const REST = 24;

/**
 * A text in which the GPU process is crashed once for each of `after`: as many tokens after the crash before was noticed;
 * -1: while the prompt is fed. It ends some tokens after the last one was made good.
 */
async function throughCrashes(model: Model, after: readonly number[], losses: () => number) {
  const enough = new AbortController();
  const before = losses();
  let asked = 0;
  let noticed = 0;
  let since = 0;
  const crash = () => {
    asked++;
    void crashGpu();
  };
  const { tokens } = await model.generate({
    ...request(CONTEXT - PROMPT.length),
    signal: enough.signal,
    onPrefill() {
      if (asked === 0 && after[0] === -1) crash();
    },
    onToken() {
      since++;
      if (losses() - before > noticed) {
        noticed = losses() - before;
        since = 0;
      }
      if (noticed < asked) return;
      if (asked === after.length) {
        if (since >= REST) enough.abort();
      } else if (since >= after[asked]) crash();
    },
  });
  return { tokens, crashes: asked, lost: losses() - before };
}

/** The same text again, undisturbed. */
const undisturbed = async (model: Model, count: number) => (await model.generate(request(count))).tokens;

export async function inWorker(after: number[]) {
  const worker = new Worker(new URL('/start.js', location.href), { type: 'module' });
  const told: string[] = [];
  const client = new WorkerClient(worker, { onLost: (error) => told.push(`${error.name} ${error.message}`) });
  const files = [...made(4).files].map(([name, bytes]) => ({ name, blob: new Blob([bytes.slice()]) }));
  const model = await client.load({ name: 'made', files }, { session: { strategy: 'indexed' } });
  const found = await throughCrashes(model, after, () => told.length);
  const expected = await undisturbed(model, found.tokens.length);
  await model.destroy();
  worker.terminate();
  return { ...found, told, expected };
}

/** A crash while the model loads, then the others while it writes. */
export async function inPage(after: number[]) {
  let losses = 0;
  const recover = recovery({ onLost: () => losses++ });
  const first = (await (await navigator.gpu.requestAdapter())?.requestDevice()) as GPUDevice;
  const memory = made(6);
  let reads = 0;
  const folder: ModelFolder = {
    name: 'made',
    async open(file) {
      const source = await memory.open(file);
      if (!source || !file.endsWith('.safetensors')) return source;
      const { name, size } = source;
      const read: ByteSource['read'] = async (...given) => {
        if (++reads === 8) {
          await crashGpu();
          await first.lost;
        }
        return source.read(...given);
      };
      return { name, size, read };
    },
  };
  const runner = await LlamaRunner.load(first, folder, { session: { strategy: 'paired' }, recover });
  const found = await throughCrashes(runner, after, () => losses);
  const expected = await undisturbed(runner, found.tokens.length);
  const { device } = runner;
  const logits = await runner.logits(PROMPT);
  await runner.destroy();
  return { ...found, losses, expected, logits: logits.length, left: [gpuBytes(first), gpuBytes(device)] };
}

/** Two models on one device: alone, at once, and at once while the GPU process crashes. */
export async function twoModels() {
  let losses = 0;
  const recover: Recover = recovery({ onLost: () => losses++ });
  const device = (await (await navigator.gpu.requestAdapter())?.requestDevice()) as GPUDevice;
  const load = (seed: number, strategy: 'auto' | 'repack') =>
    LlamaRunner.load(device, made(seed), { session: { strategy }, recover });
  const runners = [await load(1, 'auto'), await load(2, 'repack')];
  const count = 40;
  const alone = [await undisturbed(runners[0], count), await undisturbed(runners[1], count)];
  const atOnce = await Promise.all(runners.map((runner) => undisturbed(runner, count)));
  const crashing = await Promise.all([
    throughCrashes(runners[0], [10], () => losses),
    undisturbed(runners[1], count),
  ]);
  const [{ tokens }] = crashing;
  const expected = await undisturbed(runners[0], tokens.length);
  const last = runners.map((runner) => runner.device);
  await Promise.all(runners.map((runner) => runner.destroy()));
  return {
    alone,
    atOnce,
    first: { tokens, expected },
    second: crashing[1],
    losses,
    together: last[0] === last[1] && last[0] !== device,
    left: gpuBytes(last[0]),
  };
}

let runner: LlamaRunner | undefined;
/** For two tabs: a text of as many tokens, of a model that stays. */
export async function text(count: number) {
  const device = (await (await navigator.gpu.requestAdapter())?.requestDevice()) as GPUDevice;
  runner ??= await LlamaRunner.load(device, made(3), { recover: recovery() });
  return undisturbed(runner, count);
}

/** As `text` once more, crashing the GPU process of all tabs on the way. */
export async function textAndCrash() {
  let losses = 0;
  const loaded = runner as LlamaRunner;
  void loaded.device.lost.then(() => losses++);
  const found = await throughCrashes(loaded, [8], () => losses);
  return { ...found, expected: await undisturbed(loaded, found.tokens.length) };
}
