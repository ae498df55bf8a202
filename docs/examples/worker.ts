/** A model that is loaded and run in a worker, so that the page stays smooth. */
import { WorkerClient, type WorkerModel } from 'pairslab/worker';

/**
 * @param script The worker's: `new URL('pairslab/worker/start', import.meta.url)` where a bundler resolves it, else where
 * you serve `dist/worker/start.js`.
 * @param url Of a folder in the Hugging Face layout, on a server that knows range requests.
 */
export async function openModel(
  script: URL,
  url: string,
  onProgress: (share: number) => void,
): Promise<{ model: WorkerModel; close(): void }> {
  const worker = new Worker(script, { type: 'module' });
  const client = new WorkerClient(worker);
  const model = await client.load(
    { url },
    {
      weights: { dtype: 'f16' },
      session: { strategy: 'auto' },
      onProgress: (done, total) => onProgress(done / total),
    },
  );
  return {
    model,
    close() {
      worker.terminate();
      // Whoever still waits for an answer is told that there will be none.
      client.fail();
    },
  };
}
