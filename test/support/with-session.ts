import { expect } from 'vitest';
import { gpuBytes } from '../../src/gpu/buffers.js';
import type { Checkpoint } from '../../src/llama/checkpoint.js';
import { LlamaSession, type SessionOptions } from '../../src/llama/session.js';
import { type LoadOptions, loadWeights } from '../../src/llama/weights.js';

/** Loads a model, uses a session on it, and sees that all its memory is given back. */
export async function withSession<T>(
  device: GPUDevice,
  from: Checkpoint,
  load: LoadOptions,
  options: SessionOptions,
  use: (session: LlamaSession) => Promise<T>,
): Promise<T> {
  const before = gpuBytes(device);
  const weights = await loadWeights(device, from, load);
  const session = new LlamaSession(device, weights, { prefillChunk: 8, ...options });
  try {
    return await use(session);
  } finally {
    session.destroy();
    weights.destroy();
    expect(gpuBytes(device), 'everything is given back').toBe(before);
  }
}
