import { openModel } from '../../../docs/examples/worker.js';
import { WorkerClient, type WorkerModel } from '../../../src/worker/index.js';
import { refusal } from './refusal.js';

const script = () => new URL('/start.js', location.href);
let opened: Awaited<ReturnType<typeof openModel>>;

export async function open(path: string) {
  const shares: number[] = [];
  opened = await openModel(script(), new URL(path, location.href).href, (share) => shares.push(share));
  return { shares, config: opened.model.config };
}

export async function generate(promptIds: number[], maxTokens: number) {
  const streamed: number[] = [];
  const { tokens, stats } = await opened.model.generate({
    promptIds,
    maxTokens,
    onToken: (token) => streamed.push(token),
  });
  return { streamed, tokens, stats };
}

/** Aborted when the first token comes, then asked for something else. */
export async function abort(promptIds: number[]) {
  const controller = new AbortController();
  const { tokens, stats } = await opened.model.generate({
    promptIds,
    maxTokens: 200,
    sampling: { temperature: 0.8, seed: 1 },
    signal: controller.signal,
    onToken: () => controller.abort(),
  });
  return { tokens: tokens.length, stoppedBy: stats.stoppedBy, after: (await generate(promptIds, 4)).tokens };
}

/** Files as a user drops them; then a load that is aborted, one without a model, ids out of range, a closed model. */
export async function others(path: string) {
  const worker = new Worker(script(), { type: 'module' });
  const client = new WorkerClient(worker);
  const blob = async (name: string) => ({ name, blob: await (await fetch(`${path}${name}`)).blob() });
  const files = await Promise.all(['config.json', 'model.safetensors'].map(blob));
  const model = await client.load({ name: 'dropped', files }, { weights: { dtype: 'f16' } });
  const logits = await model.logits([52, 258, 1151]);
  const controller = new AbortController();
  const aborted = await client
    .load(
      { url: new URL(path, location.href).href },
      { signal: controller.signal, onProgress: () => controller.abort() },
    )
    .then(
      () => 'loaded',
      (error) => (error === controller.signal.reason ? 'the reason' : String(error)),
    );
  const missing = await refusal(() => client.load({ url: new URL('/nowhere/', location.href).href }));
  const row = await refusal(() => model.generate({ promptIds: [2048], maxTokens: 1 }));
  await model.destroy();
  const closed = await refusal(() => model.generate({ promptIds: [1], maxTokens: 1 }));
  const waiting = refusal(() => client.load({ url: new URL(path, location.href).href }));
  worker.terminate();
  client.fail();
  return {
    logits: logits.length,
    best: logits.indexOf(Math.max(...logits)),
    aborted,
    missing,
    row,
    closed,
    waiting: await waiting,
  };
}

/** A worker without a script. */
export async function absent() {
  const client = new WorkerClient(new Worker(new URL('/absent.js', location.href), { type: 'module' }));
  return refusal((): Promise<WorkerModel> => client.load({ name: 'none', files: [] }));
}

export function close() {
  opened.close();
}
