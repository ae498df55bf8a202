/** Everything that owns GPU memory, on a device that is lost: typed errors, whole host state, and a second device. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DeviceLostError, OptionError, ShapeError } from '../../src/errors.js';
import { createBuffer, destroyBuffer, gpuBytes, storageBuffer, Usage } from '../../src/gpu/buffers.js';
import { finished, readBuffer } from '../../src/gpu/readback.js';
import { recovering } from '../../src/gpu/recovering.js';
import { waitFor } from '../../src/gpu/wait.js';
import type { Bitmask } from '../../src/mask/index.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { HostPool } from '../../src/pool/host-pool.js';
import type { OffDevicePool } from '../../src/pool/pool.js';
import { policyNamed } from '../../src/residency/index.js';
import { DevicePlanner } from '../../src/slab/device-planner.js';
import { ArrivingRows } from '../../src/slab/arriving-rows.js';
import { ResidentSlab } from '../../src/slab/resident-slab.js';
import { RowSelector } from '../../src/slab/row-selector.js';
import { Slab } from '../../src/slab/slab.js';
import { UploadRing } from '../../src/slab/upload-ring.js';
import { autotune } from '../../src/tune/autotune.js';
import { checkSame, checkSlab, type FieldShape, makeSpecs, randomMask, readSlab } from '../slab/twin.js';
import { describeAdapters } from '../support/adapters.js';
import { largestDifference } from '../support/compare-logits.js';
import { LossyDevices, loseAtWait } from '../support/lossy.js';
import { makeLayer } from '../support/make-layer.js';
import { randomSource } from '../support/make-model.js';

const ROWS = 50;
const SHAPES: Readonly<Record<string, FieldShape>> = {
  gateUp: { cols: [5, 5] },
  down: { cols: [6], transposed: true },
};
const { specs, images } = makeSpecs(ROWS, SHAPES);
const masks = Array.from({ length: 4 }, (_, n) => randomMask(randomSource(n), ROWS, 20 + n));

/** Rows that are read, as from a file. */
function readPool(host: HostPool): OffDevicePool {
  const { rows, fields, rowBytes, label } = host;
  return {
    rows,
    fields,
    rowBytes,
    label,
    field: (name) => host.field(name),
    read: (...given) => host.read(...given),
  };
}

describeAdapters('on a device that is lost', (ctx) => {
  const devices = new LossyDevices(ctx.adapter.name);
  let device: GPUDevice;
  let other: GPUDevice;
  beforeEach(async () => {
    device = await devices.next();
    other = await devices.next();
  });
  afterEach(() => {
    // Whatever was made was destroyed, or brought to the other device and destroyed there.
    expect([gpuBytes(device), gpuBytes(other)]).toEqual([0, 0]);
    devices.destroy();
    expect(devices.uncaught.splice(0)).toEqual([]);
  });
  const lose = async () => {
    device.destroy();
    await device.lost;
  };

  it('waits end, and nothing can be made', async () => {
    const never = waitFor(device, new Promise(() => {}));
    const buffer = storageBuffer(device, 'here', 16);
    const read = readBuffer(device, buffer);
    const done = finished(device);
    device.destroy();
    for (const wait of [never, read, done]) await expect(wait).rejects.toBeInstanceOf(DeviceLostError);
    await expect(never).rejects.toMatchObject({ details: { reason: 'destroyed' } });
    for (const wait of [readBuffer(device, buffer), finished(device), waitFor(device, Promise.resolve(1))])
      await expect(wait).rejects.toBeInstanceOf(DeviceLostError);
    expect(() => createBuffer(device, 'more', 16, Usage.STORAGE)).toThrow(DeviceLostError);
    await expect(autotune(device, undefined, { budgetMs: 100 })).rejects.toBeInstanceOf(DeviceLostError);
    buffer.destroy();
    expect(gpuBytes(device)).toBe(16);
    destroyBuffer(device, buffer);
  });

  it('what fails for another reason keeps its own error', async () => {
    const kept = new DOMException('the buffer was unmapped', 'AbortError');
    await expect(waitFor(device, Promise.reject(kept))).rejects.toBe(kept);
  });

  it('a tuning that is under way ends, and leaves nothing behind', async () => {
    loseAtWait(device, 12);
    const shapes = [{ rows: 64, hidden: 64, dtype: 'f32' }] as const;
    await expect(autotune(device, shapes, { budgetMs: 5000 })).rejects.toBeInstanceOf(DeviceLostError);
  });

  it('a pool comes back from the arrays it was asked to keep, or from its source', async () => {
    const host = HostPool.from(specs);
    const pools = [
      DevicePool.from(device, specs, { keepSource: true, maxShardBytes: 12 * 48, storage: 'texture' }),
      DevicePool.from(device, specs, { source: async () => specs }),
      DevicePool.fromHost(device, host, { keepSource: true }),
    ];
    const forgetful = DevicePool.from(device, specs);
    let given: Parameters<typeof DevicePool.from>[1] = specs;
    const changed = DevicePool.from(device, specs, { source: () => given });
    await lose();
    for (const pool of pools) {
      await pool.rebuild(other);
      const slab = new Slab(pool);
      slab.update(masks[0]);
      await checkSlab({ pool, rows: ROWS, images }, slab, masks[0]);
      slab.destroy();
      pool.destroy();
    }
    await expect(forgetful.rebuild(other)).rejects.toBeInstanceOf(OptionError);
    await expect(forgetful.rebuild(other)).rejects.toThrow(/keepSource/);
    given = makeSpecs(ROWS + 1, SHAPES).specs;
    await expect(changed.rebuild(other)).rejects.toBeInstanceOf(ShapeError);
    expect(changed.device).toBe(device);
    given = specs;
    await changed.rebuild(other);
    for (const pool of [forgetful, changed]) pool.destroy();
  });

  const homes = ['device', 'host', 'read'] as const;
  it.each(homes)('a slab keeps its mask, and its rows are written again: %s', async (home) => {
    const host = HostPool.from(specs);
    const onDevice = DevicePool.from(device, specs, { keepSource: true });
    const pool = { device: onDevice, host, read: readPool(host) }[home];
    const bytes = 7 * host.rowBytes;
    const ring = home === 'device' ? undefined : new UploadRing(device, { bytes });
    const slab = new Slab(pool, { capacity: 30, ring });
    for (const mask of masks.slice(0, 3)) await slab.load(mask);
    const before = await readSlab(slab);
    const ids = [...slab.rowIds()];
    // Its pool is not there yet, or its ring, which other slabs may still use where it is.
    await expect(slab.rebuild(other)).rejects.toThrow(/before/);
    await lose();
    if (home !== 'read') expect(() => slab.update(masks[3])).toThrow(DeviceLostError);
    await expect(slab.load(masks[3])).rejects.toBeInstanceOf(DeviceLostError);
    expect([...slab.rowIds()]).toEqual(ids);
    await onDevice.rebuild(other);
    await slab.rebuild(other);
    expect(slab.device).toBe(other);
    expect(ring?.device ?? other).toBe(other);
    expect([...slab.rowIds()]).toEqual(ids);
    const twin = { pool: onDevice, rows: ROWS, images };
    const after = await checkSlab(twin, slab, masks[2]);
    // What stands beyond m was never anyone's.
    after.rowList.fill(0, 4 + ids.length);
    before.rowList.fill(0, 4 + ids.length);
    for (const [name, words] of after.fields) {
      const end = (ids.length * (slab.fields.get(name)?.rowBytes ?? 0)) / 4;
      words.fill(0, end);
      before.fields.get(name)?.fill(0, end);
    }
    checkSame(after, before);
    await slab.load(masks[3]);
    await checkSlab(twin, slab, masks[3]);
    for (const one of [slab, onDevice, ...(ring ? [ring] : [])]) one.destroy();
  });

  it('a load that is under way when the device is lost changes nothing', async () => {
    const host = HostPool.from(specs);
    let arrive = () => {};
    const pool = readPool(host);
    const ring = new UploadRing(device, { bytes: 7 * host.rowBytes });
    const slab = new Slab(
      {
        ...pool,
        read: async (...given) => {
          await new Promise<void>((resolve) => {
            arrive = resolve;
          });
          return pool.read(...given);
        },
      },
      { ring },
    );
    const load = slab.load(masks[0]);
    await new Promise((resolve) => setTimeout(resolve, 1));
    await lose();
    arrive();
    await expect(load).rejects.toBeInstanceOf(DeviceLostError);
    expect(slab.active).toBe(0);
    slab.destroy();
    ring.destroy();
  });

  it('a planner gives back what the host knew last', async () => {
    const pool = DevicePool.from(device, specs, { keepSource: true });
    const slab = new Slab(pool);
    slab.update(masks[0]);
    const planner = new DevicePlanner(slab);
    const selector = new RowSelector(device, ROWS, { by: 'top', k: 9 });
    const update = async (): Promise<void> => {
      const on = slab.device;
      const scores = storageBuffer(on, 'scores', ROWS * 4);
      on.queue.writeBuffer(
        scores,
        0,
        Float32Array.from({ length: ROWS }, (_, i) => (i * 7) % ROWS),
      );
      try {
        const encoder = on.createCommandEncoder();
        const pass = encoder.beginComputePass();
        selector.encode(pass, scores);
        planner.encodeUpdate(pass, selector.mask);
        pass.end();
        on.queue.submit([encoder.finish()]);
        await planner.sync();
      } finally {
        destroyBuffer(on, scores);
      }
    };
    loseAtWait(device, 0);
    await expect(update()).rejects.toBeInstanceOf(DeviceLostError);
    await expect(update()).rejects.toBeInstanceOf(DeviceLostError);
    await pool.rebuild(other);
    await slab.rebuild(other);
    planner.rebuild();
    selector.rebuild(other);
    await checkSlab({ pool, rows: ROWS, images }, slab, masks[0]);
    await update();
    const { mask } = await selector.read();
    expect(mask.count()).toBe(9);
    await checkSlab({ pool, rows: ROWS, images }, slab, mask);
    for (const one of [planner, selector, slab, pool]) one.destroy();
  });

  it.each([true, false])('a resident slab uploads the rows that it had: in memory %s', async (inMemory) => {
    const host = HostPool.from(specs);
    const ring = new UploadRing(device, { bytes: 3 * host.rowBytes });
    const policy = policyNamed('lru');
    const slab = new ResidentSlab(inMemory ? host : readPool(host), { capacity: 30, policy, ring });
    const arriving = new ArrivingRows();
    /** The rows of each piece, as the slab has them where the list says. */
    const step = async (mask: Bitmask): Promise<void> => {
      const on = slab.device;
      const recorder = new Passes(on, () => slab.submitted());
      let list: { buffer: GPUBuffer; offset: number; size: number } | undefined;
      await slab.encodeStep(recorder, mask, arriving, (piece) => {
        list = piece.list;
      });
      recorder.flush();
      if (!list) throw new Error('no piece');
      const words = new Uint32Array(await readBuffer(on, list.buffer, list.offset, list.size));
      const down = new Uint32Array(await readBuffer(on, slab.buffers.get('down') as GPUBuffer));
      const { words: want, stride } = images.get('down') as { words: Uint32Array; stride: number };
      expect(words[0]).toBe(mask.count());
      for (let i = 0; i < words[0]; i++) {
        const [slot, row] = [words[4 + 2 * i], words[5 + 2 * i]];
        expect(mask.has(row)).toBe(true);
        expect([...down.subarray(slot * stride, (slot + 1) * stride)]).toEqual([
          ...want.subarray(row * stride, (row + 1) * stride),
        ]);
      }
    };
    for (const mask of masks.slice(0, 3)) await step(mask);
    const { resident } = slab;
    await lose();
    await expect(step(masks[3])).rejects.toBeInstanceOf(DeviceLostError);
    expect(slab.resident.equals(resident)).toBe(true);
    ring.rebuild(other);
    await slab.rebuild();
    expect(slab.resident.equals(resident)).toBe(true);
    await step(masks[2]);
    await step(masks[3]);
    for (const one of [slab, ring]) one.destroy();
  });

  it.each(['dense', 'indexed', 'repack', 'paired'] as const)('a layer goes on: %s', async (strategy) => {
    const { weights } = makeLayer({ rows: ROWS, hidden: 20, biases: ['up', 'down'] });
    const mlp = await SparseMLP.create(device, { ...weights, source: () => weights, dtype: 'f16' });
    const kept = await SparseMLP.create(device, { ...weights, keepSource: true });
    const forgetful = await SparseMLP.create(device, weights);
    const x = Float32Array.from({ length: 20 }, (_, i) => Math.sin(i));
    const packs = strategy === 'repack' || strategy === 'paired';
    const want: Float32Array[] = [];
    for (const mask of masks) want.push(await mlp.forward(x, { mask, strategy }));
    for (const mask of masks.slice(0, 2)) await mlp.forward(x, { mask, strategy });
    const { slab } = mlp;
    loseAtWait(device, 0);
    await expect(mlp.forward(x, { mask: masks[2], strategy })).rejects.toBeInstanceOf(DeviceLostError);
    // The step was submitted, and came to nothing.
    if (packs) expect(slab.mask().equals(masks[1])).toBe(true);
    for (const one of [mlp, kept, forgetful])
      await expect(one.forward(x, { strategy })).rejects.toBeInstanceOf(DeviceLostError);
    await expect(forgetful.rebuild(other)).rejects.toThrow(/keepSource/);
    await kept.rebuild(other);
    const again = () => mlp.forward(x, { mask: masks[2], strategy });
    // Rows may lie in other slots than at the first time, so sums may differ in the last bits.
    expect(largestDifference(await recovering(mlp, async () => other, again), want[2])).toBeLessThan(1e-5);
    if (packs) expect(slab.device).toBe(other);
    const last = await mlp.forward(x, { mask: masks[3], strategy });
    expect(largestDifference(last, want[3])).toBeLessThan(1e-5);
    expect((await kept.forward(x, { mask: masks[0], strategy })).length).toBe(20);
    for (const one of [mlp, kept, forgetful]) one.destroy();
  });
});

/** Passes that are submitted at `flush`. */
class Passes {
  pass: GPUComputePassEncoder;
  private encoder: GPUCommandEncoder;
  private readonly device: GPUDevice;
  private readonly onSubmit: () => void;

  constructor(device: GPUDevice, onSubmit: () => void) {
    this.device = device;
    this.onSubmit = onSubmit;
    this.encoder = device.createCommandEncoder();
    this.pass = this.encoder.beginComputePass();
  }

  flush(): void {
    this.pass.end();
    this.device.queue.submit([this.encoder.finish()]);
    this.onSubmit();
    this.encoder = this.device.createCommandEncoder();
    this.pass = this.encoder.beginComputePass();
  }
}
