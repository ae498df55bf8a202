import { type DeviceLostError, WorkerError } from '../errors.js';
import type { LlamaConfig } from '../llama/config.js';
import type { RunnerOptions, RunnerRequest, RunnerResult } from '../llama/runner.js';
import { restoreError } from './error-data.js';
import type {
  Endpoint,
  ModelFacts,
  ModelSource,
  WorkerModelOptions,
  WorkerReply,
  WorkerRequest,
  WorkerResults,
} from './protocol.js';

type Fresh<R> = R extends { id: number } ? Omit<R, 'id'> : never;
type Question = Fresh<Exclude<WorkerRequest, { type: 'abort' }>>;

interface Pending {
  resolve(result: never): void;
  reject(error: Error): void;
  onProgress?: (done: number, total: number, name: string) => void;
  onToken?: (token: number) => void;
}

export interface WorkerClientOptions {
  /** Told when the worker's device is lost: it asks for another, and what it was asked for goes on there. */
  onLost?: (error: DeviceLostError) => void;
}

/**
 * The page's end of a worker that runs models:
 * `new WorkerClient(new Worker(new URL('pairslab/worker/start', import.meta.url), { type: 'module' }))`, or over any
 * other endpoint where `serve` listens. The worker stays the caller's, who terminates it; then `fail` what is under way.
 */
export class WorkerClient {
  private readonly endpoint: Endpoint;
  private readonly pending = new Map<number, Pending>();
  private readonly onLost: WorkerClientOptions['onLost'];
  private asked = 0;

  constructor(endpoint: Endpoint, { onLost }: WorkerClientOptions = {}) {
    this.endpoint = endpoint;
    this.onLost = onLost;
    endpoint.addEventListener('message', ({ data }) => this.take(data as WorkerReply));
    endpoint.start?.();
    // A worker whose script cannot be loaded says so by an event of its own.
    const target = endpoint as unknown as EventTarget;
    target.addEventListener('error', (event) =>
      this.fail(`the worker failed: ${(event as ErrorEvent).message || 'its script could not be loaded'}.`),
    );
    target.addEventListener('messageerror', () => this.fail('a message of the worker could not be read.'));
  }

  /**
   * Loads a model in the worker, on the worker's own device, and on another when that is lost.
   * @throws what `LlamaRunner.load` throws there; the signal's reason; WorkerError.
   */
  async load(
    source: ModelSource,
    options: WorkerModelOptions & Pick<RunnerOptions, 'onProgress' | 'signal'> = {},
  ): Promise<WorkerModel> {
    const { weights, session, onProgress, signal } = options;
    const question = { type: 'load', source, options: { weights, session } } as const;
    const { model, ...facts } = await this.ask<'load'>(question, { onProgress }, signal);
    return new WorkerModel((...args) => this.ask(...args), model, facts);
  }

  /** Rejects everything that is under way with a WorkerError, e.g. after `worker.terminate()`. */
  fail(message = 'the worker was terminated.'): void {
    const failed = [...this.pending.values()];
    this.pending.clear();
    for (const { reject } of failed) reject(new WorkerError(message));
  }

  private ask<T extends keyof WorkerResults>(
    question: Question,
    listeners: Pick<Pending, 'onProgress' | 'onToken'> = {},
    signal?: AbortSignal,
    transfer: Transferable[] = [],
  ): Promise<WorkerResults[T]> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = ++this.asked;
    const { endpoint, pending } = this;
    const onAbort = () => endpoint.postMessage({ type: 'abort', id } satisfies WorkerRequest);
    return new Promise<WorkerResults[T]>((resolve, reject) => {
      pending.set(id, { ...listeners, resolve, reject });
      endpoint.postMessage({ ...question, id }, transfer);
      signal?.addEventListener('abort', onAbort, { once: true });
    })
      .catch((error: Error) => {
        // The reason itself stays on this side.
        throw signal?.aborted && error.name === 'AbortError' ? signal.reason : error;
      })
      .finally(() => signal?.removeEventListener('abort', onAbort));
  }

  private take(reply: WorkerReply): void {
    if (reply.type === 'lost') {
      this.onLost?.(restoreError(reply.error) as DeviceLostError);
      return;
    }
    const pending = this.pending.get(reply.id);
    if (!pending) return;
    switch (reply.type) {
      case 'progress':
        pending.onProgress?.(reply.done, reply.total, reply.name);
        return;
      case 'token':
        pending.onToken?.(reply.token);
        return;
      case 'done':
        this.pending.delete(reply.id);
        pending.resolve(reply.result as never);
        return;
      case 'error':
        this.pending.delete(reply.id);
        pending.reject(restoreError(reply.error));
    }
  }
}

type Ask = <T extends keyof WorkerResults>(
  question: Question,
  listeners?: Pick<Pending, 'onProgress' | 'onToken'>,
  signal?: AbortSignal,
  transfer?: Transferable[],
) => Promise<WorkerResults[T]>;

/** A model in a worker; `generate` is as `LlamaRunner`'s. */
export class WorkerModel {
  readonly facts: ModelFacts;
  private readonly ask: Ask;
  private readonly model: number;

  constructor(ask: Ask, model: number, facts: ModelFacts) {
    this.ask = ask;
    this.model = model;
    this.facts = facts;
  }

  get config(): LlamaConfig {
    return this.facts.config;
  }

  /**
   * Requests take turns. One that is aborted ends with the tokens it has, but throws the signal's reason when it has not
   * begun.
   * @throws what `LlamaRunner.generate` throws in the worker; WorkerError.
   */
  async generate(request: RunnerRequest): Promise<RunnerResult> {
    const { promptIds, maxTokens, sampling, stopIds, onPrefill, onToken, signal } = request;
    const ids = Uint32Array.from(promptIds);
    const { tokens, stats } = await this.ask<'generate'>(
      { type: 'generate', model: this.model, promptIds: ids, maxTokens, sampling, stopIds },
      { onProgress: onPrefill, onToken },
      signal,
      [ids.buffer],
    );
    return { tokens: [...tokens], stats };
  }

  /** Logits after the last token of a prompt, [vocabulary]. Turns and errors as `generate`. */
  logits(promptIds: ArrayLike<number>): Promise<Float32Array> {
    const ids = Uint32Array.from(promptIds);
    return this.ask<'logits'>({ type: 'logits', model: this.model, promptIds: ids }, {}, undefined, [
      ids.buffer,
    ]);
  }

  /** Frees the model once the request in turn has ended. */
  async destroy(): Promise<void> {
    await this.ask<'close'>({ type: 'close', model: this.model });
  }
}
