import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { OptionError } from '../../../src/errors.js';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { recordTrace } from '../../../src/llama/record-trace.js';
import { LlamaSession } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import { DiskFolder } from '../../../src/node/model-folder.js';
import type { Trace } from '../../../src/residency/trace.js';
import { describeAdapters } from '../../support/adapters.js';

const IDS = [52, 258, 1151, 268, 260, 1217, 327, 259, 552, 284, 1124];
const NAMED = { model: 'statesman', mode: 'exact' };
const text = { name: 'text', ids: IDS, generate: 0 };

describeAdapters('recordTrace', (ctx) => {
  let folder: DiskFolder;
  let weights: LlamaWeights;
  beforeAll(async () => {
    folder = await DiskFolder.at(fileURLToPath(new URL('../../../demo/models/statesman', import.meta.url)));
    weights = await loadWeights(ctx.device, await openCheckpoint(folder), { context: 16 });
  });
  afterAll(async () => {
    weights.destroy();
    await folder.close();
  });

  async function record(
    strategy: 'paired' | 'repack',
    sources: Parameters<typeof recordTrace>[1],
    signal?: AbortSignal,
  ): Promise<Trace> {
    const session = new LlamaSession(ctx.device, weights, { strategy, planOn: 'host' });
    try {
      return await recordTrace(session, sources, { ...NAMED, signal });
    } finally {
      expect(session.onMask).toBeNull();
      session.destroy();
    }
  }

  it('keeps the rows whose gate is above zero, of every layer and token', async () => {
    const trace = await record('paired', [text]);
    expect([trace.steps, trace.info.rowBytes]).toEqual([IDS.length, weights.layers[0].mlp.rowBytes]);
    const dense = new LlamaSession(ctx.device, weights, { strategy: 'dense' });
    let active = 0;
    let differ = 0;
    await dense.visitGates(IDS, (layer, { gates: values, gateStride: stride }) => {
      for (let step = 0; step < IDS.length; step++) {
        const mask = trace.mask(step, layer);
        for (let row = 0; row < trace.info.rows; row++) {
          const value = values[step * stride + row];
          if (value > 0) active++;
          if (mask.has(row) === value > 0) continue;
          // Another kernel, another rounding: only what is next to zero may change sides.
          expect(value).toBeLessThan(1e-4);
          differ++;
        }
      }
    });
    dense.destroy();
    expect(active).toBeGreaterThan(IDS.length * 100);
    expect(differ).toBeLessThan(active / 1000);
  });

  it('is the same by repack, and goes on in another window where the context is full', async () => {
    const long = { ...text, ids: [...IDS, ...IDS] };
    const trace = await record('repack', [text, long]);
    expect(trace.info.sequences.map(({ steps }) => steps)).toEqual([11, 22]);
    const paired = await record('paired', [text]);
    expect(trace.sequences(0, 1).words).toEqual(paired.words);
    expect(trace.sequences(1).mask(10, 3)).toEqual(paired.mask(10, 3));
    // The seventeenth token begins from nothing, as a text would that began with it.
    const rest = await record('paired', [{ ...text, ids: long.ids.slice(16) }]);
    expect(trace.sequences(1).mask(21, 3)).toEqual(rest.mask(5, 3));
  });

  it('records what a prompt is followed by, and stops when it is told to', async () => {
    const prompt = { name: 'prompt', ids: IDS.slice(0, 4), generate: 5 };
    expect((await record('paired', [prompt])).steps).toBe(4);
    expect((await record('paired', [prompt, text], AbortSignal.abort())).info.sequences).toEqual([]);
  });

  it('refuses a strategy that brings no masks', async () => {
    const session = new LlamaSession(ctx.device, weights, { strategy: 'indexed' });
    const resident = new LlamaSession(ctx.device, weights, { strategy: 'paired' });
    await expect(recordTrace(resident, [text], NAMED)).rejects.toThrow(OptionError);
    resident.destroy();
    await expect(recordTrace(session, [text], NAMED)).rejects.toThrow(OptionError);
    session.destroy();
  });
});
