/**
 * What goes between a page and a worker that runs models: plain data, so that any other worker, frame or process could
 * speak it. Every request has an id of its own, which its replies carry; a request is answered by exactly one `done` or
 * `error`, with `progress` and `token` before it. `lost` comes unasked.
 */
import type { LlamaConfig } from '../llama/config.js';
import type { Calibration } from '../llama/calibrate.js';
import type { RunnerResult } from '../llama/runner.js';
import type { SamplerOptions } from '../llama/sample.js';
import type { SessionOptions } from '../llama/session.js';
import type { LoadOptions } from '../llama/weights.js';

/** Where a model's files are: under a URL (with range requests), or picked or dropped by the user. */
export type ModelSource =
  | { readonly url: string; readonly headers?: Readonly<Record<string, string>> }
  | { readonly name: string; readonly files: readonly { readonly name: string; readonly blob: Blob }[] };

/** How a model is loaded and run; as `RunnerOptions`, without what cannot be sent. */
export interface WorkerModelOptions {
  weights?: Omit<LoadOptions, 'onProgress'>;
  session?: Omit<SessionOptions, 'residency' | 'thresholds'> & {
    residency?: { policy?: string; ringBytes?: number };
    thresholds?: Calibration['thresholds'];
  };
}

/** What a page knows of a model that is loaded elsewhere. */
export interface ModelFacts {
  config: LlamaConfig;
  /** Positions that there is room for. */
  context: number;
  /** GPU bytes of weights and session. */
  bytes: number;
}

export type WorkerRequest =
  | { type: 'load'; id: number; source: ModelSource; options: WorkerModelOptions }
  | {
      type: 'generate';
      id: number;
      model: number;
      promptIds: Uint32Array;
      maxTokens: number;
      sampling?: SamplerOptions;
      stopIds?: readonly number[];
    }
  | { type: 'logits'; id: number; model: number; promptIds: Uint32Array }
  | { type: 'close'; id: number; model: number }
  /** Ends the request of that id; it is answered as ever. */
  | { type: 'abort'; id: number };

/** What a request's `done` brings. Arrays are transferred, not copied. */
export interface WorkerResults {
  /** `model` names it in later requests. */
  load: ModelFacts & { model: number };
  generate: { tokens: Uint32Array; stats: RunnerResult['stats'] };
  logits: Float32Array;
  close: null;
}

export type WorkerReply =
  | { type: 'progress'; id: number; stage: 'load' | 'prefill'; done: number; total: number; name: string }
  | { type: 'token'; id: number; token: number }
  | { type: 'done'; id: number; result: WorkerResults[keyof WorkerResults] }
  | { type: 'error'; id: number; error: ErrorData }
  /** The device was lost; another is asked for, and requests go on there. */
  | { type: 'lost'; error: ErrorData };

/** An error as data: `restoreError` makes one of the same class of it. */
export interface ErrorData {
  /** The class, e.g. `ModelFormatError`; `AbortError` for a request that was aborted. */
  name: string;
  message: string;
  /** Of a PairslabError: what of its details can be sent. */
  details?: Readonly<Record<string, unknown>>;
  stack?: string;
}

/** What both ends need of a Worker, a worker's global scope or a MessagePort. */
export interface Endpoint {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void;
  /** Of a MessagePort: lets messages come. */
  start?(): void;
}
