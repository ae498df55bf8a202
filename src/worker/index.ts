/**
 * Models off the main thread: `WorkerClient` in the page, `serve` in the worker. `pairslab/worker/start` is a script that
 * serves as it is loaded.
 */
export { WorkerClient, type WorkerClientOptions, WorkerModel } from './client.js';
export { errorData, restoreError } from './error-data.js';
export type {
  Endpoint,
  ErrorData,
  ModelFacts,
  ModelSource,
  WorkerModelOptions,
  WorkerReply,
  WorkerRequest,
  WorkerResults,
} from './protocol.js';
export { serve, type ServeOptions } from './serve.js';
