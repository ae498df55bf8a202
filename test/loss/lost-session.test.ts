/** Sessions whose device is lost, between steps and in the middle of them: the text goes on with the same tokens. */
import { afterEach, expect, it } from 'vitest';
import { DeviceLostError, OptionError, PoolError } from '../../src/errors.js';
import { gpuBytes } from '../../src/gpu/buffers.js';
import { recovering } from '../../src/gpu/recovering.js';
import { MemorySource, type ModelFolder } from '../../src/io/byte-source.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { convertModel } from '../../src/llama/convert.js';
import { generate } from '../../src/llama/generate.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession, type SessionOptions } from '../../src/llama/session.js';
import { type LlamaWeights, type LoadOptions, loadWeights } from '../../src/llama/weights.js';
import { listAdapters } from '../../src/node/adapters.js';
import type { Slab } from '../../src/slab/slab.js';
import { describeAdapters } from '../support/adapters.js';
import { argmax } from '../support/llama-twin.js';
import { LossyDevices, loseAtPass, loseAtWait } from '../support/lossy.js';
import { makeModel, randomSource, smallModel } from '../support/make-model.js';
import { MemorySink } from '../support/memory-sink.js';

const checkpoint = await openCheckpoint(smallModel());
const others = !process.env.PAIRSLAB_ADAPTER && (await listAdapters()).length > 1;
const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
const COUNT = 14;

interface Way {
  name: string;
  session: SessionOptions;
  load?: LoadOptions;
}
const WAYS: Way[] = [
  { name: 'dense, in buffers', session: { strategy: 'dense' }, load: { storage: 'buffer' } },
  { name: 'indexed, in textures', session: { strategy: 'indexed' }, load: { storage: 'texture' } },
  { name: 'auto', session: { strategy: 'auto' } },
  { name: 'repack', session: { strategy: 'repack' } },
  { name: 'paired', session: { strategy: 'paired' } },
  { name: 'paired planned on the host', session: { strategy: 'paired', planOn: 'host' } },
  { name: 'budget, from host memory', session: {}, load: { budget: { share: 0.3 } } },
];

describeAdapters('a session whose device is lost', (ctx) => {
  const devices = new LossyDevices(ctx.adapter.name);
  afterEach(() => {
    devices.destroy();
    expect(devices.uncaught.splice(0)).toEqual([]);
  });

  async function open({ session, load }: Way): Promise<{ weights: LlamaWeights; session: LlamaSession }> {
    const device = await devices.next();
    const weights = await loadWeights(device, checkpoint, load);
    return { weights, session: await LlamaSession.create(device, weights, { prefillChunk: 4, ...session }) };
  }
  const options = (recover?: () => Promise<GPUDevice>) => ({
    promptIds: PROMPT,
    maxTokens: COUNT,
    stopIds: [],
    sampler: new Sampler(),
    recover,
  });
  const recover = () => devices.next();

  /** The likeliest tokens after PROMPT, by calls of every kind, always the same ones. */
  async function text(session: LlamaSession, recover?: () => Promise<GPUDevice>): Promise<number[]> {
    const step = <T>(work: () => Promise<T>) => (recover ? recovering(session, recover, work) : work());
    const tokens = [argmax(await step(() => session.prefill(PROMPT)))];
    const last = () => tokens[tokens.length - 1];
    for (const count of [1, 0, 4, 0, 7]) {
      if (count === 0) tokens.push(argmax(await step(() => session.next(last()))));
      else tokens.push(...(await step(() => session.greedy(last(), count))).tokens);
    }
    return tokens;
  }

  // 7 ways, 8 losses each; fewer where there is a faster adapter and this one takes its time.
  const losses = ctx.adapter.name === 'swiftshader' && others ? 2 : 8;
  it.each(WAYS)('makes the same tokens, wherever it happens: $name', async (way) => {
    const random = randomSource(way.name.length);
    const { weights, session } = await open(way);
    const want = await text(session);
    session.reset();
    const waits = loseAtWait(session.device, -1);
    expect(await text(session)).toEqual(want);
    const most = waits();
    const before = devices.given;
    for (let n = 0; n < losses; n++) {
      session.reset();
      const lost = session.device;
      // The first and the last wait are sure to be among them.
      const at = n === 0 ? 0 : n === 2 ? most - 1 : Math.floor(random() * most);
      if (n % 4 === 1) session.tap = loseAtPass(lost, Math.floor(random() * 4));
      else loseAtWait(lost, at);
      const tokens = await text(session, recover);
      session.tap = null;
      expect(tokens, `loss ${n}, at wait ${at} of ${most}`).toEqual(want);
      expect(devices.given - before).toBe(n + 1);
      expect(session.device).not.toBe(lost);
      expect(gpuBytes(lost), 'nothing is held on a device that is gone').toBe(0);
      expect(session.position).toBe(PROMPT.length + want.length - 1);
    }
    const { device } = session;
    expect(gpuBytes(device)).toBeGreaterThan(0);
    session.destroy();
    weights.destroy();
    expect(gpuBytes(device)).toBe(0);
  });

  it.each(WAYS)('keeps what it was before the step: $name', async (way) => {
    const { weights, session } = await open(way);
    await session.prefill(PROMPT);
    for (const id of [2, 6]) await session.next(id);
    // Of slabs that are planned on the device, the host knows what they had before.
    const slabs = (session as unknown as { slabs: Slab[] }).slabs.filter((slab) => !slab.onDevice);
    const held = () => slabs.map((slab) => [...slab.rowIds()]);
    const { device } = session;
    const waits = loseAtWait(device, -1);
    await session.next(5);
    const rows = held();
    const { lastStep } = session;
    loseAtWait(device, Math.floor(waits() / 2));
    await expect(session.next(3)).rejects.toBeInstanceOf(DeviceLostError);
    const as = { position: PROMPT.length + 3, rows, lastStep };
    const now = () => ({ position: session.position, rows: held(), lastStep: session.lastStep });
    expect(now()).toEqual(as);
    // From now on every call says so, and none hangs.
    for (const call of [
      () => session.next(5),
      () => session.greedy(5, 4),
      () => session.prefill([1]),
      () => session.prefillAll([1, 2]),
      () => session.visitGates([1], () => {}),
      () => LlamaSession.create(device, weights),
      () => loadWeights(device, checkpoint),
    ])
      await expect(call()).rejects.toBeInstanceOf(DeviceLostError);
    expect(() => new LlamaSession(device, weights, way.session)).toThrow(DeviceLostError);
    expect(now()).toEqual(as);
    await session.rebuild(await devices.next());
    expect(now()).toEqual(as);
    await session.next(3);
    session.destroy();
    weights.destroy();
  });

  it('goes back to where it was when a prompt or a run of tokens is lost half way', async () => {
    const { weights, session } = await open(WAYS[3]);
    await session.prefill(PROMPT.slice(0, 3));
    loseAtWait(session.device, 0);
    await expect(session.prefill(PROMPT.slice(3))).rejects.toBeInstanceOf(DeviceLostError);
    expect(session.position).toBe(3);
    await session.rebuild(await devices.next());
    const logits = await session.prefill(PROMPT.slice(3));
    loseAtWait(session.device, 7);
    await expect(session.greedy(argmax(logits), 4)).rejects.toBeInstanceOf(DeviceLostError);
    expect(session.position).toBe(PROMPT.length);
    session.destroy();
    weights.destroy();
  });

  it('two sessions at once, of two models on one device, meet on another', async () => {
    const other = await openCheckpoint(makeModel({ act: 'relu', hidden: 24, intermediate: 40, seed: 9 }));
    const device = await devices.next();
    const all = [await loadWeights(device, checkpoint), await loadWeights(device, other)];
    const make = () => [
      new LlamaSession(device, all[0], { strategy: 'paired' }),
      new LlamaSession(device, all[0], { strategy: 'indexed' }),
      new LlamaSession(device, all[1], { strategy: 'repack' }),
    ];
    const alone = make();
    const want: number[][] = [];
    for (const session of alone) {
      want.push((await generate(session, options())).tokens);
      session.destroy();
    }
    expect(want[0]).toEqual(want[1]);
    const sessions = make();
    const atOnce = () => Promise.all(sessions.map((session) => generate(session, options(recover))));
    expect((await atOnce()).map(({ tokens }) => tokens)).toEqual(want);
    for (const session of sessions) session.reset();
    const given = devices.given;
    loseAtWait(device, 9);
    expect((await atOnce()).map(({ tokens }) => tokens)).toEqual(want);
    expect(devices.given, 'one device for all').toBe(given + 1);
    expect(new Set(sessions.map((session) => session.device)).size).toBe(1);
    for (const one of [...sessions, ...all]) one.destroy();
    expect([gpuBytes(device), gpuBytes(all[0].device)]).toEqual([0, 0]);
  });

  it('goes on under a budget with rows in a file, and says when they cannot be read', async () => {
    const sink = new MemorySink();
    await convertModel(smallModel(), sink, { dtype: 'f32' });
    const rows = new FailingSource(sink.folder.files.get('rows.bin') as Uint8Array);
    const folder: ModelFolder = {
      name: 'made',
      open: async (file) => (file === 'rows.bin' ? rows : sink.folder.open(file)),
    };
    const device = await devices.next();
    const load = { budget: { share: 0.3 }, pool: 'file' } as const;
    const weights = await loadWeights(device, await openCheckpoint(folder), load);
    const session = new LlamaSession(device, weights, { prefillChunk: 4 });
    const want = (await generate(session, options())).tokens;
    session.reset();
    loseAtWait(device, 20);
    expect((await generate(session, options(recover))).tokens).toEqual(want);
    session.reset(PROMPT.length);
    session.device.destroy();
    await session.device.lost;
    const next = await devices.next();
    rows.fails = true;
    await expect(session.rebuild(next)).rejects.toBeInstanceOf(PoolError);
    await expect(session.next(want[0])).rejects.toThrow(/rebuild/);
    rows.fails = false;
    await session.rebuild(next);
    expect(session.position).toBe(PROMPT.length);
    expect((await session.greedy(want[0], 4)).tokens).toEqual(want.slice(1, 5));
    session.destroy();
    weights.destroy();
    expect([gpuBytes(device), gpuBytes(next)]).toEqual([0, 0]);
  });

  it('gives up when no device lasts, and passes on what recover throws', async () => {
    const { weights, session } = await open(WAYS[1]);
    let asked = 0;
    const doomed = async () => {
      asked++;
      const device = await devices.next();
      device.destroy();
      await device.lost;
      return device;
    };
    session.device.destroy();
    await expect(generate(session, options(doomed))).rejects.toBeInstanceOf(DeviceLostError);
    expect(asked).toBe(3);
    const none = () => Promise.reject(new OptionError('no adapter'));
    await expect(generate(session, options(none))).rejects.toThrow('no adapter');
    expect((await generate(session, options(recover))).tokens.length).toBe(COUNT);
    session.destroy();
    weights.destroy();
  });
});

/** A file that cannot be read at times, as one on a server that is gone. */
class FailingSource extends MemorySource {
  fails = false;

  constructor(bytes: Uint8Array) {
    super(bytes, 'rows.bin');
  }

  override async read(...given: Parameters<MemorySource['read']>): Promise<Uint8Array<ArrayBuffer>> {
    if (this.fails) throw new PoolError('network', 'rows.bin: no connection');
    return super.read(...given);
  }
}
