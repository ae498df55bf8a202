import { OptionError } from '../errors.js';
import { requestBrowserDevice } from '../gpu/device-needs.js';
import { isLost } from '../gpu/lost.js';
import type { Recover } from '../gpu/recovering.js';
import { recovery } from '../gpu/recovery.js';
import { BlobSource, type ModelFolder } from '../io/byte-source.js';
import { HttpFolder } from '../io/http-source.js';
import { LlamaRunner } from '../llama/runner.js';
import { errorData } from './error-data.js';
import type {
  Endpoint,
  ModelFacts,
  ModelSource,
  WorkerReply,
  WorkerRequest,
  WorkerResults,
} from './protocol.js';

export interface ServeOptions {
  /**
   * Gives the device that models are loaded on, asked for with the first of them, and again when it is lost: models are
   * rebuilt then, and go on. Default: the browser's.
   */
  requestDevice?: () => Promise<GPUDevice>;
  /** How often another device is asked for, as of `recovery`. */
  tries?: number;
}

/** A worker's only lasting state. */
interface Desk {
  readonly requestDevice: () => Promise<GPUDevice>;
  /** Of all models: they are on one device. */
  readonly recover: Recover;
  readonly models: Map<number, LlamaRunner>;
  /** What ends each request under way. */
  readonly running: Map<number, AbortController>;
  device?: Promise<GPUDevice>;
}

/** Answers requests that come to `endpoint`, in a worker: `serve(self)`. */
export function serve(
  endpoint: Endpoint,
  { requestDevice = requestBrowserDevice, tries }: ServeOptions = {},
): void {
  const send = (reply: WorkerReply, transfer: Transferable[] = []) => endpoint.postMessage(reply, transfer);
  const recover = recovery({
    requestDevice: () => deviceOf(desk),
    tries,
    onLost: (error) => send({ type: 'lost', error: errorData(error) }),
  });
  const desk: Desk = { requestDevice, recover, models: new Map(), running: new Map() };
  endpoint.addEventListener('message', ({ data }) => void answer(desk, data as WorkerRequest, send));
  endpoint.start?.();
}

type Send = (reply: WorkerReply, transfer?: Transferable[]) => void;

async function answer(desk: Desk, request: WorkerRequest, send: Send): Promise<void> {
  const { id, type } = request;
  if (type === 'abort') {
    desk.running.get(id)?.abort();
    return;
  }
  const controller = new AbortController();
  desk.running.set(id, controller);
  try {
    const result = await run(desk, request, send, controller.signal);
    send({ type: 'done', id, result }, transferOf(result));
  } catch (error) {
    send({ type: 'error', id, error: errorData(error) });
  } finally {
    desk.running.delete(id);
  }
}

function transferOf(result: WorkerResults[keyof WorkerResults]): Transferable[] {
  if (result === null) return [];
  if (ArrayBuffer.isView(result)) return [result.buffer as ArrayBuffer];
  return 'tokens' in result ? [result.tokens.buffer as ArrayBuffer] : [];
}

async function run(
  desk: Desk,
  request: Exclude<WorkerRequest, { type: 'abort' }>,
  send: Send,
  signal: AbortSignal,
): Promise<WorkerResults[keyof WorkerResults]> {
  const { id, type } = request;
  const progress = (stage: 'load' | 'prefill') => (done: number, total: number, name?: string) =>
    send({ type: 'progress', id, stage, done, total, name: name ?? '' });
  if (type === 'load') {
    const { source, options } = request;
    const runner = await LlamaRunner.load(await deviceOf(desk), folderOf(source), {
      ...options,
      signal,
      onProgress: progress('load'),
      recover: desk.recover,
    });
    desk.models.set(id, runner);
    return { model: id, ...factsOf(runner) };
  }
  const runner = desk.models.get(request.model);
  if (!runner)
    throw new OptionError(`there is no model ${request.model} (any more).`, { model: request.model });
  switch (type) {
    case 'generate': {
      const { promptIds, maxTokens, sampling, stopIds } = request;
      const { tokens, stats } = await runner.generate({
        promptIds,
        maxTokens,
        sampling,
        stopIds,
        signal,
        onPrefill: progress('prefill'),
        onToken: (token) => send({ type: 'token', id, token }),
      });
      return { tokens: Uint32Array.from(tokens), stats };
    }
    case 'logits':
      return runner.logits(request.promptIds);
    case 'close':
      desk.models.delete(request.model);
      await runner.destroy();
      return null;
    default:
      throw new OptionError(`a worker has no answer to "${String(type satisfies never)}".`, { type });
  }
}

function factsOf({ config, weights, bytes }: LlamaRunner): ModelFacts {
  return { config, context: weights.context, bytes };
}

/** One device for all models; a new one where the last was lost. */
function deviceOf(desk: Desk): Promise<GPUDevice> {
  const before = desk.device?.catch(() => undefined);
  desk.device = (async () => {
    const known = await before;
    return known && !isLost(known) ? known : desk.requestDevice();
  })();
  return desk.device;
}

function folderOf(source: ModelSource): ModelFolder {
  if ('url' in source) return new HttpFolder(source.url, { headers: source.headers });
  const files = new Map(source.files.map(({ name, blob }) => [name, blob]));
  return {
    name: source.name,
    async open(file) {
      const blob = files.get(file);
      return blob ? new BlobSource(blob, file) : null;
    },
  };
}
