import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  AdapterError,
  DeviceLostError,
  ModelFormatError,
  OptionError,
  RowError,
  ShapeError,
  WorkerError,
} from '../../src/errors.js';
import { gpuBytes } from '../../src/index.js';
import { generate, loadWeights, LlamaSession, openCheckpoint, Sampler } from '../../src/llama/index.js';
import {
  type Endpoint,
  serve,
  WorkerClient,
  type WorkerClientOptions,
  type WorkerModel,
  type WorkerReply,
} from '../../src/worker/index.js';
import { describeAdapters } from '../support/adapters.js';
import { FaultServer } from '../support/fault-server.js';
import { LossyDevices } from '../support/lossy.js';
import { type MemoryFolder, makeModel } from '../support/make-model.js';

const blobs = (folder: MemoryFolder) =>
  [...folder.files].map(([name, bytes]) => ({ name, blob: new Blob([Uint8Array.from(bytes)]) }));

/** A client and what its worker would be, in one thread, with messages that are cloned as between two. */
function connect(requestDevice: () => Promise<GPUDevice>, onLost?: WorkerClientOptions['onLost']) {
  const { port1, port2 } = new MessageChannel();
  const transferred: string[] = [];
  serve(
    {
      postMessage(message, transfer = []) {
        port2.postMessage(message, transfer);
        if (transfer.length > 0) transferred.push((message as WorkerReply).type);
      },
      addEventListener: port2.addEventListener.bind(port2) as Endpoint['addEventListener'],
      start: () => port2.start(),
    },
    { requestDevice, tries: 2 },
  );
  return { client: new WorkerClient(port1, { onLost }), transferred, close: () => port1.close() };
}

describeAdapters('a model behind a port', (ctx) => {
  const folder = makeModel({ hidden: 32, intermediate: 64, layers: 2, heads: 2, vocab: 60, act: 'relu' });
  const promptIds = [5, 9, 2, 33];
  let line: ReturnType<typeof connect>;
  let model: WorkerModel;
  let expected: number[];
  const progress: string[] = [];

  beforeAll(async () => {
    line = connect(async () => ctx.device);
    model = await line.client.load(
      { name: 'made', files: blobs(folder) },
      {
        session: { strategy: 'dense' },
        onProgress: (done, total, name) => progress.push(`${done}/${total} ${name}`),
      },
    );
    const weights = await loadWeights(ctx.device, await openCheckpoint(folder));
    const session = new LlamaSession(ctx.device, weights, { strategy: 'dense' });
    const run = { promptIds, maxTokens: 20, sampler: new Sampler(), stopIds: [] };
    expected = (await generate(session, run)).tokens;
    session.destroy();
    weights.destroy();
  });
  afterAll(() => line.close());
  afterEach(() => void line.transferred.splice(0));

  it('loads with progress and says what it is', () => {
    expect(progress.length).toBeGreaterThan(10);
    expect(progress.at(-1)).toMatch(/^(\d+)\/\1 /);
    expect(model.config).toMatchObject({ hiddenSize: 32, layers: 2 });
    expect(model.facts.bytes).toBeGreaterThan(folder.files.get('model.safetensors')?.length as number);
  });

  it('generates what a session does, token by token, and transfers them', async () => {
    const streamed: number[] = [];
    const result = await model.generate({
      promptIds,
      maxTokens: 20,
      stopIds: [],
      onToken: (token) => streamed.push(token),
    });
    expect(result.tokens).toEqual(expected);
    expect(streamed).toEqual(expected);
    expect(result.stats).toMatchObject({ stoppedBy: 'length', promptTokens: 4, cachedTokens: 0 });
    expect(line.transferred).toHaveLength(1);
  });

  it('goes on from what the last text had in common', async () => {
    const { tokens, stats } = await model.generate({
      promptIds: [...promptIds, ...expected.slice(0, 10)],
      maxTokens: 10,
      stopIds: [],
    });
    expect(tokens).toEqual(expected.slice(10));
    expect(stats).toMatchObject({ cachedTokens: 13, promptTokens: 1 });
  });

  it('answers calls one after the other, though they come at once', async () => {
    const ask = () => model.generate({ promptIds, maxTokens: 8, stopIds: [] });
    const [first, logits, second] = await Promise.all([ask(), model.logits(promptIds), ask()]);
    expect([first.tokens, second.tokens]).toEqual([expected.slice(0, 8), expected.slice(0, 8)]);
    expect(logits).toHaveLength(60);
    expect(logits.indexOf(Math.max(...logits))).toBe(expected[0]);
    expect(line.transferred).toHaveLength(3);
  });

  it('ends with what it has when it is aborted, and goes on after', async () => {
    const controller = new AbortController();
    const { tokens, stats } = await model.generate({
      promptIds,
      maxTokens: 100,
      stopIds: [],
      sampling: { temperature: 1, seed: 3 },
      signal: controller.signal,
      onToken: () => controller.abort(),
    });
    expect(stats.stoppedBy).toBe('abort');
    expect(tokens.length).toBeLessThan(100);
    expect((await model.generate({ promptIds, maxTokens: 5, stopIds: [] })).tokens).toEqual(
      expected.slice(0, 5),
    );
    const waiting = new AbortController();
    const running = model.generate({ promptIds, maxTokens: 20, stopIds: [] });
    const second = model.generate({ promptIds, maxTokens: 20, signal: waiting.signal });
    const reason = new Error('not needed any more');
    waiting.abort(reason);
    await expect(second).rejects.toBe(reason);
    expect((await running).tokens).toEqual(expected);
    await expect(model.generate({ promptIds, maxTokens: 1, signal: waiting.signal })).rejects.toBe(reason);
  });

  it('hands errors on as what they are', async () => {
    await expect(model.generate({ promptIds: [60], maxTokens: 1 })).rejects.toBeInstanceOf(RowError);
    await expect(model.generate({ promptIds: [], maxTokens: 1 })).rejects.toBeInstanceOf(ShapeError);
    await expect(model.generate({ promptIds, maxTokens: 0 })).rejects.toBeInstanceOf(OptionError);
    const empty = line.client.load({ name: 'nothing', files: [] });
    await expect(empty).rejects.toBeInstanceOf(ModelFormatError);
    await expect(empty).rejects.toMatchObject({ details: { file: 'config.json' } });
    // After errors it works as before.
    expect((await model.generate({ promptIds, maxTokens: 3, stopIds: [] })).tokens).toEqual(
      expected.slice(0, 3),
    );
  });

  it('gives up a load that is aborted, and keeps nothing of it', async () => {
    const server = await FaultServer.start(Object.fromEntries(folder.files));
    const before = gpuBytes(ctx.device);
    const controller = new AbortController();
    const reason = new Error('another model was chosen');
    const seen: number[] = [];
    const load = line.client.load(
      { url: server.url() },
      {
        signal: controller.signal,
        onProgress(done) {
          seen.push(done);
          if (done === 3) controller.abort(reason);
        },
      },
    );
    await expect(load).rejects.toBe(reason);
    await server.close();
    expect(gpuBytes(ctx.device)).toBe(before);
    expect(seen.length).toBeLessThan(progress.length);
  });

  it('goes on on another device when its own is lost, tells, and says when there is none', async () => {
    const devices = new LossyDevices(ctx.adapter.name);
    const told: Error[] = [];
    let last: GPUDevice | undefined;
    let none = false;
    const requestDevice = async () => {
      if (none) throw new OptionError('no more of them');
      last = await devices.next();
      return last;
    };
    const own = connect(requestDevice, (error) => told.push(error));
    const source = { name: 'made', files: blobs(folder) };
    const [first, second] = await Promise.all([own.client.load(source), own.client.load(source)]);
    expect(devices.given).toBe(1);
    let count = 0;
    const loseAtFifth = () => {
      if (++count === 5) last?.destroy();
    };
    const found = await Promise.all([
      first.generate({ promptIds, maxTokens: 20, stopIds: [], onToken: loseAtFifth }),
      second.generate({ promptIds, maxTokens: 20, stopIds: [] }),
    ]);
    expect(found.map(({ tokens }) => tokens)).toEqual([expected, expected]);
    last?.destroy();
    const [ids, logits] = await Promise.all([
      first.generate({ promptIds, maxTokens: 20, stopIds: [] }),
      second.logits(promptIds),
    ]);
    expect(ids.tokens).toEqual(expected);
    expect(logits.indexOf(Math.max(...logits))).toBe(expected[0]);
    expect(devices.given).toBe(3);
    expect(told).toHaveLength(2);
    expect(told[0]).toBeInstanceOf(DeviceLostError);
    none = true;
    last?.destroy();
    const refused = first.generate({ promptIds, maxTokens: 20 });
    await expect(refused).rejects.toBeInstanceOf(AdapterError);
    await expect(refused).rejects.toThrow(/2 tries.*no more of them/);
    none = false;
    expect((await first.generate({ promptIds, maxTokens: 20, stopIds: [] })).tokens).toEqual(expected);
    await first.destroy();
    await second.destroy();
    expect(gpuBytes(last as GPUDevice)).toBe(0);
    own.close();
    devices.destroy();
    expect(devices.uncaught).toEqual([]);
  });

  it('is freed when it is closed, after the request in turn', async () => {
    const running = model.generate({ promptIds, maxTokens: 10, stopIds: [] });
    await model.destroy();
    expect((await running).tokens).toEqual(expected.slice(0, 10));
    expect(gpuBytes(ctx.device)).toBe(0);
    await expect(model.generate({ promptIds, maxTokens: 1 })).rejects.toThrow(/there is no model/);
  });
});

describe('a worker that ends', () => {
  it('leaves nobody waiting', async () => {
    const { client, close } = connect(() => new Promise(() => {}));
    const load = client.load({ name: 'made', files: [] });
    client.fail();
    await expect(load).rejects.toBeInstanceOf(WorkerError);
    close();
  });

  it('asks again for a device where there was none', async () => {
    let asked = 0;
    const { client, close } = connect(async () => {
      throw new OptionError(`no device, ${++asked}`);
    });
    await expect(client.load({ name: 'a', files: [] })).rejects.toThrow('no device, 1');
    await expect(client.load({ name: 'a', files: [] })).rejects.toThrow('no device, 2');
    close();
  });
});
