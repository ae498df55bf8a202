/** Masks, plans and slot maps that the device makes, over long chains of steps, against the CPU's. */
import { describe, expect, it } from 'vitest';
import { CapacityError, NonFiniteError, OnDeviceError, OptionError } from '../../src/errors.js';
import { gpuBytes, storageBuffer, upload } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { Bitmask, threshold, topK } from '../../src/mask/index.js';
import { planUpdate, SlotMap } from '../../src/plan/index.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { COUNT_WORDS, DevicePlanner } from '../../src/slab/device-planner.js';
import { RowSelector, type Selection } from '../../src/slab/row-selector.js';
import { Slab } from '../../src/slab/slab.js';
import { checkWords } from '../kernels/compare.js';
import { randomIds, source } from '../kernels/make.js';
import { describeAdapters } from '../support/adapters.js';

const TRACE = new URL('../../bench/traces/statesman.trace.gz', import.meta.url);
/** All steps of one chain go in one submit. */
const STEPS = 250;
const CHAINS = 40;
const HOW = ['mask', 'mask', 'threshold', 'sigma', 'top'] as const;

/** What one step of a chain is given: a mask, or scores that a selection makes one of. */
interface Given {
  mask?: Bitmask;
  scores?: Float32Array<ArrayBuffer>;
}

/** A chain of masks: of all sizes, that grow, shrink, change a little, much, or not at all. */
function nextMask(random: () => number, before: Bitmask, most: number): Bitmask {
  const { size } = before;
  const kind = random();
  if (kind < 0.05) return before.clone();
  if (kind < 0.1) return Bitmask.empty(size);
  if (kind < 0.25) return Bitmask.fromIds(randomIds(random, Math.floor(random() * (most + 1)), size), size);
  const mask = before.clone();
  const flips = Math.ceil(size * random() ** 4);
  for (let i = 0; i < flips; i++) {
    const row = Math.floor(random() * size);
    // About as many as there are, so that the chain stays between none and the capacity, and now and then above it.
    if (mask.has(row)) mask.delete(row);
    else if (random() < most / size) mask.add(row);
  }
  return mask;
}

function makePool(device: GPUDevice, rows: number, storage: RowStorage = 'buffer'): DevicePool {
  const data = Float32Array.from({ length: rows * 4 }, (_, i) => i);
  return DevicePool.from(device, { weight: { data, cols: 4 } }, { storage });
}

/** Where rows are in the slab, and what it holds. */
async function checkSlab(slab: Slab, map: SlotMap): Promise<void> {
  const buffer = slab.buffers.get('weight') as GPUBuffer;
  const values = new Float32Array(await readBuffer(slab.device, buffer)).subarray(0, 4 * map.active);
  const want = [...map.slots()].flatMap((row) => [0, 1, 2, 3].map((c) => 4 * row + c));
  expect([...values]).toEqual(want);
}

/** Masks, or scores that become masks, one after the other on one slab. */
interface Chain {
  name: string;
  rows: number;
  capacity: number;
  how: (typeof HOW)[number];
  /** Of scores. */
  selection: Selection;
  given: readonly Given[];
}

function randomChain(seed: number): Chain {
  const random = source(seed);
  const rows = Math.ceil(2 ** (11 * random()));
  const capacity = Math.ceil(rows * (random() < 0.3 ? 1 : random()));
  const how = HOW[seed % HOW.length];
  const selection: Selection =
    how === 'sigma'
      ? { by: 'sigma', k: random() * 2 }
      : how === 'top'
        ? { by: 'top', k: Math.floor(random() * (capacity + 1)) }
        : { by: 'threshold', t: random() };
  let before = Bitmask.empty(rows);
  const given = Array.from({ length: STEPS }, (): Given => {
    if (how === 'mask') {
      before = nextMask(random, before, Math.min(rows, capacity * 1.1));
      return { mask: before };
    }
    // Few different scores, so that there are ties.
    return { scores: Float32Array.from({ length: rows }, () => Math.round(40 * random()) / 20 - 0.5) };
  });
  return { name: `chain ${seed}`, rows, capacity, how, selection, given };
}

/** @returns how many steps were refused: more rows than slots. */
async function runChain(device: GPUDevice, chain: Chain, storage: RowStorage = 'buffer'): Promise<number> {
  const { name, rows, capacity, how, selection, given } = chain;
  const steps = given.length;
  const pool = makePool(device, rows, storage);
  const slab = new Slab(pool, { capacity });
  const planner = new DevicePlanner(slab);
  const selector = new RowSelector(device, rows, selection);
  const words = Math.ceil(rows / 32);
  const inputWords = how === 'mask' ? words : rows;
  const inputs = storageBuffer(device, 'inputs', 4 * steps * inputWords);
  const input = storageBuffer(device, 'input', 4 * inputWords);
  given.forEach(({ mask, scores }, step) => {
    upload(device, inputs, 4 * step * inputWords, (mask?.words ?? scores) as Uint32Array<ArrayBuffer>);
  });
  const mask = how === 'mask' ? input : selector.mask;
  // What each step leaves: the mask, the selection, the moves, the slot map, the counts.
  const parts: [GPUBuffer, number][] = [
    [mask, words],
    [selector.found, 4],
    [planner.moves.buffer, 4 + 2 * capacity],
    [slab.rowList, 4 + capacity],
    [planner.counts.buffer, COUNT_WORDS],
  ];
  const logWords = parts.reduce((sum, [, size]) => sum + size, 0);
  const log = storageBuffer(device, 'log', 4 * steps * logWords);
  const encoder = device.createCommandEncoder();
  for (let step = 0; step < steps; step++) {
    encoder.copyBufferToBuffer(inputs, 4 * step * inputWords, input, 0, 4 * inputWords);
    const pass = encoder.beginComputePass();
    if (how !== 'mask') selector.encode(pass, input);
    planner.encodeUpdate(pass, mask);
    pass.end();
    let at = 4 * step * logWords;
    for (const [buffer, size] of parts) {
      encoder.copyBufferToBuffer(buffer, 0, log, at, 4 * size);
      at += 4 * size;
    }
  }
  device.queue.submit([encoder.finish()]);
  const logged = new Uint32Array(await readBuffer(device, log));

  const map = new SlotMap(rows, capacity);
  let refused = 0;
  let wanted = Bitmask.empty(rows);
  for (let step = 0; step < steps; step++) {
    let at = step * logWords;
    const [gotMask, found, moves, list, counts] = parts.map(([, size]) => {
      at += size;
      return logged.subarray(at - size, at);
    });
    const { mask: sent, scores } = given[step];
    wanted = sent ?? select(scores as Float32Array, selection, new Float32Array(found.slice().buffer)[0]);
    const where = `${name} (${how}, ${rows} rows, ${capacity} slots), step ${step}`;
    checkWords(gotMask, wanted.words, `${where}: mask`);
    if (wanted.count() > capacity) {
      refused++;
      expect([...moves.subarray(0, 4)], where).toEqual([0, map.active, 0, 0]);
    } else {
      const plan = planUpdate(map, wanted);
      const head = [plan.writes, plan.active, plan.added.length, plan.removed.length];
      checkWords(moves.subarray(0, 4 + plan.moves.length), Uint32Array.of(...head, ...plan.moves), where);
      map.commit(plan);
      expect(planner.describe(counts).update).toMatchObject({
        writes: plan.writes,
        active: plan.active,
        added: plan.added.length,
        removed: plan.removed.length,
        minimum: plan.minimum,
      });
    }
    checkWords(list.subarray(4, 4 + map.active), map.slots(), `${where}: slots`);
    expect([list[0], counts[4]], where).toEqual([map.active, refused]);
  }
  await checkSlab(slab, map);
  const state = await planner.sync();
  expect(state).toMatchObject({ active: map.active, refused });
  expect(state.wanted.equals(wanted)).toBe(true);
  expect(slab.mask().equals(map.mask())).toBe(true);
  expect([...slab.rowIds()]).toEqual([...map.slots()]);
  for (const owner of [planner, selector, slab, pool]) owner.destroy();
  for (const buffer of [inputs, input, log]) buffer.destroy();
  return refused;
}

function select(scores: Float32Array, selection: Selection, found: number): Bitmask {
  if (selection.by === 'top') return topK(scores, selection.k);
  return threshold(scores, selection.by === 'threshold' ? selection.t : found);
}

describeAdapters('DevicePlanner', (ctx) => {
  it(`${CHAINS * STEPS} transitions: masks, plans and slot maps are the CPU's`, {
    timeout: 240_000,
  }, async () => {
    let refused = 0;
    for (let seed = 0; seed < CHAINS; seed++) {
      const storage = seed % 2 === 0 ? 'buffer' : 'texture';
      refused += await runChain(ctx.device, randomChain(seed), storage);
    }
    expect(refused).toBeGreaterThan(0);
    expect(refused).toBeLessThan((CHAINS * STEPS) / 2);
  });

  // SwiftShader takes long for so many rows, and has had its chains.
  it.skipIf(ctx.adapter.name === 'swiftshader')(
    'every step of a recorded trace',
    { timeout: 240_000 },
    async () => {
      const { readTrace } = await import('../../src/node/trace-file.js');
      const trace = await readTrace(decodeURIComponent(TRACE.pathname));
      const { rows, layers } = trace.info;
      expect([trace.steps, layers]).toEqual([1618, 4]);
      for (let layer = 0; layer < layers; layer++) {
        const given = trace.layer(layer).map((mask) => {
          const scores = new Float32Array(rows).fill(-1);
          for (const row of mask) scores[row] = 1;
          return { scores };
        });
        const selection = { by: 'threshold', t: 0 } as const;
        const chain = {
          name: `layer ${layer}`,
          rows,
          capacity: rows,
          how: 'threshold',
          selection,
          given,
        } as const;
        expect(await runChain(ctx.device, chain)).toBe(0);
      }
    },
  );

  describe('hand over', () => {
    const N = 90;
    async function withSlab(
      use: (slab: Slab, planner: DevicePlanner, run: (mask: Bitmask) => void) => Promise<void>,
    ): Promise<void> {
      const { device } = ctx;
      const before = gpuBytes(device);
      const pool = makePool(device, N);
      const slab = new Slab(pool, { capacity: 20 });
      const planner = new DevicePlanner(slab);
      const mask = storageBuffer(device, 'mask', 12);
      const run = ({ words }: Bitmask) => {
        device.queue.writeBuffer(mask, 0, words as Uint32Array<ArrayBuffer>);
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        planner.encodeUpdate(pass, mask);
        pass.end();
        device.queue.submit([encoder.finish()]);
      };
      await use(slab, planner, run);
      mask.destroy();
      for (const owner of [planner, slab, pool]) owner.destroy();
      expect(gpuBytes(device) - before).toBeLessThanOrEqual(16);
    }
    const rowsFrom = (first: number, count: number, step = 1) =>
      Bitmask.fromIds(
        Array.from({ length: count }, (_, i) => first + i * step),
        N,
      );

    it('host, device, host, device: one slab', () =>
      withSlab(async (slab, planner, run) => {
        const map = new SlotMap(N, 20);
        const host = (mask: Bitmask) => map.commit(planUpdate(map, mask));
        const steps = [rowsFrom(3, 15, 5), rowsFrom(8, 9, 5), rowsFrom(0, 20), rowsFrom(10, 12, 2)];
        for (const [i, mask] of steps.entries()) {
          if (i % 2 === 0) slab.update(mask, { tau: 1 });
          else {
            run(mask);
            run(rowsFrom(i, 20, 3));
            host(mask);
            host(rowsFrom(i, 20, 3));
            expect(await planner.sync()).toMatchObject({ active: 20, refused: 0 });
            continue;
          }
          host(mask);
        }
        expect([...slab.rowIds()]).toEqual([...map.slots()]);
        await checkSlab(slab, map);
      }));

    it('refuses to plan on the host what is on the device', () =>
      withSlab(async (slab, planner, run) => {
        run(rowsFrom(0, 5));
        expect(slab.onDevice).toBe(true);
        for (const ask of [
          () => slab.active,
          () => slab.mask(),
          () => slab.rowIds(),
          () => slab.update(rowsFrom(1, 4)),
          () => slab.view('weight'),
        ])
          expect(ask).toThrow(OnDeviceError);
        await planner.sync();
        expect(slab.active).toBe(5);
      }));

    it('more rows than slots: nothing changes, and the step can be redone on the host', () =>
      withSlab(async (slab, planner, run) => {
        const map = new SlotMap(N, 20);
        map.commit(planUpdate(map, rowsFrom(5, 18)));
        run(rowsFrom(5, 18));
        run(rowsFrom(2, 21));
        run(rowsFrom(2, 21));
        const state = await planner.sync();
        expect(state).toMatchObject({ active: 18, refused: 2 });
        await checkSlab(slab, map);
        expect([...slab.rowIds()]).toEqual([...map.slots()]);
        // On the safe path it is refused with the rows' names, and goes on with fewer.
        expect(() => slab.update(state.wanted)).toThrow(CapacityError);
        slab.update(rowsFrom(2, 20), { tau: 1 });
        map.commit(planUpdate(map, rowsFrom(2, 20)));
        await checkSlab(slab, map);
        run(rowsFrom(1, 20));
        map.commit(planUpdate(map, rowsFrom(1, 20)));
        expect((await planner.sync()).refused).toBe(0);
        await checkSlab(slab, map);
      }));
  });
});

describeAdapters('RowSelector', (ctx) => {
  const scores = Float32Array.of(0.1, -2, 0.3, 0.3, 7, 0.1);
  async function read(selection: Selection, values = scores) {
    const selector = new RowSelector(ctx.device, values.length, selection);
    const buffer = storageBuffer(ctx.device, 'scores', values.byteLength);
    upload(ctx.device, buffer, 0, values as Float32Array<ArrayBuffer>);
    const encoder = ctx.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    selector.encode(pass, buffer);
    pass.end();
    ctx.device.queue.submit([encoder.finish()]);
    try {
      return await selector.read();
    } finally {
      selector.destroy();
      buffer.destroy();
    }
  }

  it('selects', async () => {
    // 0.1 is no f32: the nearest is above it, and so are scores of that.
    for (const t of [0.1, Math.fround(0.1), 0.3, -1e-60, 1e39, -1e39, Number.NEGATIVE_INFINITY])
      expect([...(await read({ by: 'threshold', t })).mask], String(t)).toEqual([...threshold(scores, t)]);
    expect([...(await read({ by: 'top', k: 2 })).mask]).toEqual([2, 4]);
    const { mask, threshold: t } = await read({ by: 'sigma', k: 1 });
    expect([...mask]).toEqual([4]);
    expect(t).toBeCloseTo(0.9666667 + 2.8164205, 4);
  });

  it('refuses scores that are not finite, and figures that a rule cannot have', async () => {
    await expect(read({ by: 'top', k: 1 }, Float32Array.of(1, Number.NaN))).rejects.toThrow(NonFiniteError);
    const make = (selection: Selection) => () => new RowSelector(ctx.device, 6, selection);
    expect(make({ by: 'top', k: 7 })).toThrow(OptionError);
    expect(make({ by: 'threshold', t: Number.NaN })).toThrow(OptionError);
    expect(make({ by: 'sigma', k: Number.POSITIVE_INFINITY })).toThrow(OptionError);
    expect(make({ by: 'best' } as unknown as Selection)).toThrow(OptionError);
  });
});
