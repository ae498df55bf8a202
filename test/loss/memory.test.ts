/** A device that has no more memory: errors with the bytes, and what was there works on. And all of it is given back. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DeviceLimitError } from '../../src/errors.js';
import { allocate } from '../../src/gpu/allocate.js';
import { BufferGroup, gpuBytes } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { waitFor } from '../../src/gpu/wait.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { LlamaSession } from '../../src/llama/session.js';
import { loadWeights } from '../../src/llama/weights.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { HostPool } from '../../src/pool/host-pool.js';
import { policyNamed } from '../../src/residency/index.js';
import { DevicePlanner } from '../../src/slab/device-planner.js';
import { ResidentSlab } from '../../src/slab/resident-slab.js';
import { RowSelector } from '../../src/slab/row-selector.js';
import { Slab } from '../../src/slab/slab.js';
import { UploadRing } from '../../src/slab/upload-ring.js';
import { checkSlab, type FieldShape, makeSpecs, randomMask } from '../slab/twin.js';
import { describeAdapters } from '../support/adapters.js';
import { largestDifference } from '../support/compare-logits.js';
import { makeLayer } from '../support/make-layer.js';
import { randomSource, smallModel } from '../support/make-model.js';
import { shortDevice } from '../support/short-device.js';

const ROWS = 50;
const SHAPES: Readonly<Record<string, FieldShape>> = { up: { cols: [5] }, down: { cols: [6] } };
const { specs, images } = makeSpecs(ROWS, SHAPES);
const masks = [1, 2].map((seed) => randomMask(randomSource(seed), ROWS, 20));
const { weights: layer } = makeLayer({ rows: ROWS, hidden: 20 });
const checkpoint = await openCheckpoint(smallModel());

describeAdapters('a device without more memory', (ctx) => {
  let device: GPUDevice;
  let memory: { bytes: number };
  beforeEach(() => {
    ({ device, memory } = shortDevice(ctx.device));
  });
  afterEach(() => expect(gpuBytes(device), 'all is given back').toBe(0));
  /** From now on there are `bytes` besides what is held. */
  const leave = (bytes: number) => {
    memory.bytes = gpuBytes(device) + bytes;
  };
  const plenty = () => leave(Number.POSITIVE_INFINITY);
  /** @returns the error's details. */
  async function refused(call: () => Promise<unknown>) {
    const held = gpuBytes(device);
    // What is made of buffers that are none.
    ctx.device.pushErrorScope('validation');
    const error: unknown = await call().then(
      () => null,
      (thrown: unknown) => thrown,
    );
    await waitFor(device, ctx.device.popErrorScope());
    expect(error).toBeInstanceOf(DeviceLimitError);
    expect(gpuBytes(device)).toBe(held);
    const { details } = error as DeviceLimitError;
    expect(details.held).toBeGreaterThanOrEqual(held);
    expect(details.bytes).toBeGreaterThan(0);
    return details;
  }

  it('refuses a slab with its bytes; the one before it works on', async () => {
    const pool = DevicePool.from(device, specs);
    const slab = await allocate(device, () => new Slab(pool), 'the first slab');
    slab.update(masks[0]);
    leave(1000);
    const details = await refused(() => allocate(device, () => new Slab(pool), 'a second slab'));
    expect(details).toMatchObject({ what: 'a second slab', held: gpuBytes(device) });
    expect(details.bytes as number).toBeGreaterThan(ROWS * pool.rowBytes);
    slab.update(masks[1]);
    plenty();
    await checkSlab({ pool, rows: ROWS, images }, slab, masks[1]);
    const kept = DevicePool.from(device, specs, { keepSource: true });
    leave(100);
    await refused(() => kept.rebuild(device));
    await refused(() => slab.rebuild(device));
    plenty();
    await checkSlab({ pool, rows: ROWS, images }, slab, masks[1]);
    for (const one of [slab, pool, kept]) one.destroy();
  });

  it('refuses a layer, or a step that needs more: strategies that have what they need go on', async () => {
    leave(1000);
    await refused(() => SparseMLP.create(device, layer));
    plenty();
    const mlp = await SparseMLP.create(device, layer);
    const x = Float32Array.from({ length: 20 }, (_, i) => Math.sin(i));
    const dense = () => mlp.forward(x, { mask: masks[0], strategy: 'dense' });
    const packed = (mask = masks[0]) => mlp.forward(x, { mask, strategy: 'paired' });
    const want = await dense();
    leave(100);
    await refused(() => packed());
    expect(await dense()).toEqual(want);
    plenty();
    expect(largestDifference(await packed(), want)).toBeLessThan(1e-5);
    // A batch is not multiplied on the way, so the slab copies: with what it makes for that now.
    await mlp.forward(new Float32Array(40), { mask: masks[1], strategy: 'paired' });
    await packed();
    leave(100);
    const batch = new Float32Array(20 * 9);
    // The slab was to be brought to another mask, with a step that came to nothing.
    await refused(() => mlp.forward(batch, { mask: masks[1], strategy: 'paired' }));
    expect(mlp.slab.mask().equals(masks[0])).toBe(true);
    expect(largestDifference(await packed(), want)).toBeLessThan(1e-5);
    // One that changes no slab has nothing to take back from another at the same time.
    let other: Promise<Float32Array> | undefined;
    await refused(() => {
      const failing = mlp.forward(batch, { strategy: 'dense' });
      other = packed(masks[1]);
      return failing;
    });
    const alone = await mlp.forward(x, { mask: masks[1], strategy: 'dense' });
    expect(largestDifference((await other) as Float32Array, alone)).toBeLessThan(1e-5);
    expect(mlp.slab.mask().equals(masks[1])).toBe(true);
    expect(largestDifference(await packed(masks[1]), alone)).toBeLessThan(1e-5);
    plenty();
    expect((await mlp.forward(batch, { mask: masks[1], strategy: 'paired' })).length).toBe(20 * 9);
    mlp.destroy();
  });

  it('refuses a model, a session and a prompt; another session goes on', async () => {
    leave(20_000);
    await refused(() => loadWeights(device, checkpoint));
    plenty();
    const weights = await loadWeights(device, checkpoint);
    const session = await LlamaSession.create(device, weights, { strategy: 'indexed', prefillChunk: 8 });
    const want = await session.next(3);
    session.reset();
    leave(1000);
    await refused(() => loadWeights(device, checkpoint));
    await refused(() => LlamaSession.create(device, weights));
    await refused(() => session.prefill([3, 1, 4]));
    expect(session.position).toBe(0);
    expect(await session.next(3)).toEqual(want);
    plenty();
    await session.prefill([1, 4]);
    expect(session.position).toBe(3);
    session.destroy();
    weights.destroy();
  });

  it('gets all back from everything that was used', async () => {
    const host = HostPool.from(specs);
    const pool = DevicePool.from(device, specs);
    const ring = new UploadRing(device, { bytes: 10 * host.rowBytes });
    const slab = new Slab(pool);
    const far = new Slab(host, { ring });
    const twice = new Slab(host, { ring });
    for (const one of [slab, far, twice]) one.update(masks[0]);
    const resident = new ResidentSlab(host, { capacity: 9, policy: policyNamed('lru'), ring });
    const planner = new DevicePlanner(slab);
    const selector = new RowSelector(device, ROWS, { by: 'top', k: 3 });
    const mlp = await SparseMLP.create(device, layer);
    for (const strategy of ['dense', 'indexed', 'repack', 'paired'] as const)
      await mlp.forward(new Float32Array(40), { mask: masks, strategy });
    const all = await loadWeights(device, checkpoint);
    const few = await loadWeights(device, checkpoint, { budget: { share: 0.3 } });
    const sessions = [
      ...(['dense', 'paired', 'repack'] as const).map(
        (strategy) => new LlamaSession(device, all, { strategy }),
      ),
      new LlamaSession(device, few),
    ];
    for (const session of sessions) {
      await session.prefill([1, 2, 3]);
      await session.greedy(4, 2);
    }
    const parts = [planner, selector, resident, slab, far, twice, ring, pool, mlp, ...sessions, all, few];
    expect(gpuBytes(device)).toBeGreaterThan(100_000);
    for (const part of parts) part.destroy();
    expect(gpuBytes(device)).toBe(0);
    // Twice is once.
    for (const part of parts) part.destroy();
  });

  // It alone lends less than it is asked for.
  it.runIf(ctx.adapter.name === 'swiftshader')('says so where the device does', async () => {
    const real = ctx.device;
    const limit = Math.min(real.limits.maxBufferSize, real.limits.maxStorageBufferBindingSize);
    const group = (bytes: number) => () => {
      const made = new BufferGroup(real);
      return Object.assign(made, { buffer: made.storage('large', bytes) });
    };
    const held = gpuBytes(real);
    await expect(allocate(real, group(limit), 'too much')).rejects.toMatchObject({
      name: 'DeviceLimitError',
      details: { what: 'too much', bytes: limit, held },
    });
    expect(gpuBytes(real)).toBe(held);
    const small = await allocate(real, group(64));
    expect((await readBuffer(real, small.buffer)).byteLength).toBe(64);
    small.destroy();
  });
});
