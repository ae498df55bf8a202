/** A converted model is the model it was made from, loaded as that dtype: bit for bit on the device, and in its tokens. */
import { expect, it } from 'vitest';
import { OptionError } from '../../../src/errors.js';
import type { StoredDtype } from '../../../src/gpu/layout.js';
import type { ModelFolder } from '../../../src/io/byte-source.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { convertModel } from '../../../src/llama/convert.js';
import { generate } from '../../../src/llama/generate.js';
import { Sampler } from '../../../src/llama/sample.js';
import { LlamaSession } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { describeAdapters } from '../../support/adapters.js';
import { sameBytes } from '../../support/same-bytes.js';
import { makeModel } from '../../support/make-model.js';
import { MemorySink } from '../../support/memory-sink.js';
import { NodeFolder, STATESMAN } from '../node-folder.js';
import { readMemory } from '../../support/read-memory.js';

/** Every buffer of a model's weights, by what it is. */
function buffersOf(weights: LlamaWeights): Map<string, GPUBuffer | GPUTexture> {
  const found = new Map<string, GPUBuffer | GPUTexture>();
  const add = (at: string, value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    if ('mapAsync' in value) found.set(at, value as GPUBuffer);
    else if ('fields' in value && value.fields instanceof Map) {
      for (const [name, { shards }] of value.fields)
        for (const [i, { memory }] of shards.entries()) found.set(`${at} ${name} ${i}`, memory);
    } else if (Array.isArray(value)) for (const [i, one] of value.entries()) add(`${at} ${i}`, one);
    else for (const [key, one] of Object.entries(value)) add(`${at} ${key}`, one);
  };
  const { embedding, layers, finalNorm, head, turns } = weights;
  add('', { embedding, layers: layers.map((layer) => ({ ...layer })), finalNorm, head, turns });
  return found;
}

describeAdapters('a converted model', (ctx) => {
  const convert = async (folder: ModelFolder, dtype: StoredDtype) => {
    const sink = new MemorySink();
    await convertModel(folder, sink, { dtype });
    return openCheckpoint(sink.folder);
  };
  const load = (checkpoint: Checkpoint, dtype?: StoredDtype) =>
    loadWeights(ctx.device, checkpoint, { dtype, context: 64 });
  const tokensOf = async (weights: LlamaWeights) => {
    const session = new LlamaSession(ctx.device, weights, { strategy: 'indexed' });
    const { tokens } = await generate(session, {
      promptIds: [1, 20, 300],
      maxTokens: 12,
      sampler: new Sampler(),
    });
    session.destroy();
    return tokens;
  };

  it.each<StoredDtype>(['f16', 'q8', 'q4'])('is the shipped one stored as %s', async (dtype) => {
    const folder = new NodeFolder(STATESMAN);
    const names: string[] = [];
    const want = await load(await openCheckpoint(folder), dtype);
    const checkpoint = await convert(folder, dtype);
    const got = await loadWeights(ctx.device, checkpoint, {
      context: 64,
      onProgress: (done, total, name) => names.push(`${done}/${total} ${name}`),
    });
    expect(got.dtype).toBe(dtype);
    expect(got.quantization).toEqual(want.quantization);
    expect(got.bytes).toBe(want.bytes);
    expect(names.at(-1)).toMatch(/^(\d+)\/\1 /);
    const [a, b] = [buffersOf(want), buffersOf(got)];
    expect([...b.keys()]).toEqual([...a.keys()]);
    expect(a.size).toBeGreaterThan(30);
    for (const [name, buffer] of a) {
      const [one, other] = [
        await readMemory(ctx.device, buffer),
        await readMemory(ctx.device, b.get(name) as GPUBuffer),
      ];
      expect(sameBytes(one, other), name).toBe(true);
    }
    expect(await tokensOf(got)).toEqual(await tokensOf(want));
    want.destroy();
    got.destroy();
    await expect(load(checkpoint, 'f32')).rejects.toThrow(OptionError);
  });

  it.each<StoredDtype>(['f32', 'bf16', 'q8'])('has its biases and its head too: %s', async (dtype) => {
    const options = { hidden: 24, intermediate: 37, heads: 2, mlpBias: true, attentionBias: true };
    const folder = makeModel({ ...options, dtype: 'bf16', act: 'relu' });
    const want = await load(await openCheckpoint(folder), dtype);
    const got = await load(await convert(folder, dtype), dtype);
    const [a, b] = [buffersOf(want), buffersOf(got)];
    expect([...b.keys()]).toEqual([...a.keys()]);
    for (const [name, buffer] of a)
      expect(await readMemory(ctx.device, b.get(name) as GPUBuffer), name).toEqual(
        await readMemory(ctx.device, buffer),
      );
    want.destroy();
    got.destroy();
  });
});
