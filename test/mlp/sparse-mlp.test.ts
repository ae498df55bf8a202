import { expect, it, vi } from 'vitest';
import {
  AdapterError,
  CapacityError,
  NonFiniteError,
  OptionError,
  PairslabError,
  ShapeError,
} from '../../src/errors.js';
import { destroyBuffer, gpuBytes, storageBuffer } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { setTuning } from '../../src/gpu/tuning.js';
import { SlotMap } from '../../src/plan/index.js';
import { Bitmask, topK } from '../../src/mask/index.js';
import type { Activation } from '../../src/mlp/activation.js';
import { SparseMLP, type SparseMLPOptions, type SparseMLPWeights } from '../../src/mlp/sparse-mlp.js';
import { requestDevice } from '../../src/node/device.js';
import { checkStrategy, STRATEGIES, type Strategy } from '../../src/mlp/strategy.js';
import { nextMask } from '../slab/twin.js';
import { describeAdapters } from '../support/adapters.js';
import { checkOutput, layerTwin } from '../support/layer-twin.js';
import { type LayerConfig as Config, makeLayer, randoms } from '../support/make-layer.js';
import { randomSource } from '../support/make-model.js';

const ALL = ['gate', 'up', 'down'] as const;
const configs: Record<string, Config> = {
  // Everything that can differ between ways of reaching rows: all ways, one row of x and tiles of them.
  'silu, all biases': { rows: 100, hidden: 64, biases: ALL, batches: [1, 9] },
  'relu2, f16, 500 rows': {
    rows: 500,
    hidden: 130,
    activation: 'relu2',
    dtype: 'f16',
    biases: ['up'],
    batches: [1],
  },
  'plain relu, both biases': {
    rows: 100,
    hidden: 20,
    plain: true,
    activation: 'relu',
    biases: ['up', 'down'],
    batches: [1, 17],
  },
  // Rows in textures: all ways, one part of a line and several lines, shards, and what converts on the way to the slab.
  'silu, all biases, textures': {
    rows: 100,
    hidden: 64,
    biases: ALL,
    storage: 'texture',
    batches: [1, 8, 9],
  },
  'relu, f16, shards in textures': {
    rows: 300,
    hidden: 130,
    activation: 'relu',
    dtype: 'f16',
    biases: ['up', 'down'],
    storage: 'texture',
    maxShardBytes: 60_000,
    batches: [1, 9],
  },
  'silu, q8 in textures, into a slab of f32': {
    rows: 100,
    hidden: 77,
    dtype: 'q8',
    slabDtype: 'f32',
    biases: ALL,
    storage: 'texture',
    batches: [1, 9],
  },
  'plain gelu, q4 in textures': {
    rows: 300,
    hidden: 77,
    plain: true,
    activation: 'gelu',
    dtype: 'q4',
    biases: ['up'],
    storage: 'texture',
    batches: [1, 8],
  },
  'relu2, bf16 in textures': {
    rows: 100,
    hidden: 130,
    activation: 'relu2',
    dtype: 'bf16',
    storage: 'texture',
    strategies: ['dense', 'indexed'],
  },
  // Rows of all matrices in one piece: all ways, both forms, scales between the parts, shards, and converted on the way.
  'whole rows, all biases': { rows: 100, hidden: 64, biases: ALL, wholeRows: true, batches: [1, 9] },
  'whole rows, plain, q8 into a slab of f32': {
    rows: 100,
    hidden: 77,
    plain: true,
    dtype: 'q8',
    slabDtype: 'f32',
    biases: ['up', 'down'],
    wholeRows: true,
    batches: [1, 9],
  },
  'whole rows, q4': { rows: 37, hidden: 77, dtype: 'q4', wholeRows: true, strategies: ['indexed', 'repack'] },
  'whole rows, f16, shards in textures': {
    rows: 300,
    hidden: 130,
    activation: 'relu',
    dtype: 'f16',
    storage: 'texture',
    wholeRows: true,
    maxShardBytes: 60_000,
    downRows: true,
    batches: [1, 9],
  },
  'shards, biases, hidden 13': { rows: 37, hidden: 13, biases: ALL, maxShardBytes: 1300, batches: [1, 8] },
  'shards, f16, 500 rows': {
    rows: 500,
    hidden: 64,
    activation: 'relu2',
    dtype: 'f16',
    biases: ['up'],
    maxShardBytes: 30_000,
    strategies: ['indexed', 'paired'],
    batches: [1, 9],
  },
  'shards, plain': {
    rows: 100,
    hidden: 20,
    plain: true,
    activation: 'relu',
    biases: ['up'],
    maxShardBytes: 700,
    batches: [1, 3],
  },
  // The activations, dtypes and forms of the matrices, each by one or two ways.
  'silu, f16, hidden 13': {
    rows: 37,
    hidden: 13,
    dtype: 'f16',
    biases: ['gate', 'down'],
    strategies: ['paired'],
  },
  'gelu, down given by rows': {
    rows: 100,
    hidden: 20,
    activation: 'gelu',
    downRows: true,
    biases: ['up'],
    strategies: ['indexed'],
  },
  'gelu, f16 from bf16': {
    rows: 37,
    hidden: 20,
    activation: 'gelu',
    dtype: 'f16',
    given: 'bf16',
    strategies: ['repack'],
  },
  'gelu_tanh, f32 from f16': {
    rows: 37,
    hidden: 13,
    activation: 'gelu_tanh',
    given: 'f16',
    biases: ['down'],
    strategies: ['dense'],
  },
  'relu, 500 rows': {
    rows: 500,
    hidden: 130,
    activation: 'relu',
    biases: ['gate'],
    strategies: ['paired', 'repack'],
  },
  'silu, bf16, hidden 130': {
    rows: 100,
    hidden: 130,
    dtype: 'bf16',
    biases: ALL,
    strategies: ['dense', 'paired'],
  },
  'relu, q8 in shards, all biases': {
    rows: 100,
    hidden: 130,
    activation: 'relu',
    dtype: 'q8',
    biases: ALL,
    maxShardBytes: 10_000,
    batches: [1, 9],
  },
  'silu, q4 in shards, all biases': {
    rows: 100,
    hidden: 77,
    dtype: 'q4',
    biases: ALL,
    maxShardBytes: 3000,
    batches: [1, 9],
  },
  'plain relu2, q4 from bf16': {
    rows: 37,
    hidden: 300,
    plain: true,
    activation: 'relu2',
    dtype: 'q4',
    given: 'bf16',
    strategies: ['indexed', 'repack'],
  },
  // The slab holds the very values that the pool's widen to, so that the twin is the same.
  'silu, q8 into a slab of f32': {
    rows: 100,
    hidden: 77,
    dtype: 'q8',
    slabDtype: 'f32',
    biases: ALL,
    maxShardBytes: 6000,
    batches: [1, 9],
  },
  'relu, q4 into a slab of f32': {
    rows: 100,
    hidden: 130,
    activation: 'relu',
    dtype: 'q4',
    slabDtype: 'f32',
    biases: ['up'],
  },
  'plain gelu, f16 into a slab of f32': {
    rows: 37,
    hidden: 20,
    plain: true,
    activation: 'gelu',
    dtype: 'f16',
    slabDtype: 'f32',
    biases: ['up'],
    strategies: ['paired', 'repack'],
  },
  identity: { rows: 37, hidden: 64, activation: 'identity', strategies: ['auto'] },
  'fatrelu, f32 from bf16': {
    rows: 100,
    hidden: 20,
    activation: { fatrelu: 0.3 },
    given: 'bf16',
    biases: ALL,
    strategies: ['paired'],
  },
  'plain silu, f16 as given': {
    rows: 37,
    hidden: 13,
    plain: true,
    dtype: 'f16',
    given: 'f16',
    strategies: ['paired'],
    batches: [9],
  },
  'plain gelu': {
    rows: 37,
    hidden: 20,
    plain: true,
    activation: 'gelu',
    biases: ['up'],
    strategies: ['indexed'],
  },
  'plain gelu_tanh, f16': {
    rows: 100,
    hidden: 130,
    plain: true,
    activation: 'gelu_tanh',
    dtype: 'f16',
    strategies: ['paired'],
  },
  'plain relu2, down given by rows': {
    rows: 37,
    hidden: 64,
    plain: true,
    activation: 'relu2',
    downRows: true,
    strategies: ['indexed'],
  },
  'plain identity': {
    rows: 37,
    hidden: 13,
    plain: true,
    activation: 'identity',
    biases: ['down'],
    strategies: ['dense'],
  },
  'plain fatrelu, f16': {
    rows: 100,
    hidden: 20,
    plain: true,
    activation: { fatrelu: 0.2 },
    dtype: 'f16',
    strategies: ['repack'],
  },
};

const pinned = STRATEGIES.filter((strategy) => strategy !== 'auto');

describeAdapters('sparse MLP', (ctx) => {
  it.each(Object.keys(configs))('equals the twin: %s', async (name) => {
    const config = configs[name];
    const { rows, hidden, activation = 'silu', strategies = STRATEGIES, batches = [1] } = config;
    const order = Object.keys(configs).indexOf(name);
    const { weights, twin } = makeLayer(config, 100 + order);
    const before = gpuBytes(ctx.device);
    const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config });
    if (config.maxShardBytes) {
      const [{ shards }] = mlp.pool.fields.values();
      expect(shards.length).toBeGreaterThan(2);
    }
    const random = randomSource(200 + order);
    const scores = randoms(random, rows, 1);
    const masks: (Bitmask | undefined)[] = [
      topK(scores, Math.floor(rows / 3)),
      Bitmask.empty(rows),
      Bitmask.fromIds([rows - 1], rows),
      undefined,
      topK(randoms(random, rows, 1), Math.floor(rows / 2)),
      Bitmask.full(rows),
    ];
    for (const batch of batches) {
      // All masks at batch 1; the tiled variants, slower to compute the twin of, with three.
      for (const [n, mask] of masks.slice(0, batch === 1 ? 6 : 3).entries()) {
        const x = randoms(random, batch * hidden, 1);
        const wanted = layerTwin(twin, activation, x, mask ?? Bitmask.full(rows));
        for (const strategy of strategies) {
          checkOutput(
            await mlp.forward(x, { mask, strategy }),
            wanted,
            `batch ${batch}, mask ${n}, ${strategy}`,
          );
        }
        if (mask?.count() === 0) {
          for (let i = 0; i < x.length; i++) expect(wanted.y[i]).toBe(weights.downBias?.[i % hidden] ?? 0);
        }
      }
    }
    mlp.destroy();
    expect(gpuBytes(ctx.device)).toBe(before);
  });

  it.each(['f32', 'bf16', 'q8', 'q4'] as const)(
    'runs %s packed as f16, off by no more than rounding to f16',
    async (dtype) => {
      const config: Config = { rows: 100, hidden: 77, dtype, slabDtype: 'f16', capacity: 60, biases: ALL };
      const { weights, twin } = makeLayer(config, 5);
      const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config });
      const random = randomSource(6);
      for (const count of [40, 60, 7]) {
        const x = randoms(random, 77, 1);
        const mask = topK(randoms(random, 100, 1), count);
        const { y, size } = layerTwin(twin, 'silu', x, mask);
        for (const strategy of ['paired', 'repack'] as const) {
          const got = await mlp.forward(x, { mask, strategy });
          // Each weight by 2^-10 at most, rounded to either side; a and its down weight multiply, and a's sums cancel.
          for (let i = 0; i < got.length; i++)
            expect(Math.abs(got[i] - y[i])).toBeLessThanOrEqual(2 ** -7 * (size[i] + 0.1));
        }
        checkOutput(await mlp.forward(x, { mask, strategy: 'indexed' }), { y, size }, 'from the pool');
      }
      expect(mlp.slab.view('down')).toMatchObject({ dtype: 'f16', rowStride: 80 });
      expect(mlp.slab.rowBytes).toBe(3 * 160 + 16);
      mlp.destroy();
    },
  );

  // Few ways each: kernels in f16 take software adapters several seconds to compile.
  it.for<Config>([
    { rows: 100, hidden: 77, activation: 'silu', biases: ALL, strategies: STRATEGIES },
    { rows: 60, hidden: 40, activation: 'silu', biases: ALL, strategies: ['dense'], batches: [9] },
    { rows: 60, hidden: 300, activation: 'relu', maxShardBytes: 12_000, strategies: ['indexed'] },
    { rows: 60, hidden: 40, activation: 'gelu', plain: true, biases: ['up'], strategies: ['paired'] },
  ])('multiplies in f16 when asked, near what f32 gives: %o', async (shape, { skip }) => {
    const { device } = ctx;
    if (!ctx.has('shader-f16')) skip(`${ctx.adapter.name} has no shader-f16`);
    const { rows, hidden, activation = 'silu', strategies = [], batches = [1] } = shape;
    const config: Config = { ...shape, dtype: 'f16' };
    const { weights, twin } = makeLayer(config, 8);
    const before = gpuBytes(device);
    const wide = await SparseMLP.create(device, { ...weights, ...config });
    const half = await SparseMLP.create(device, { ...weights, ...config, compute: 'f16', slabDtype: 'f16' });
    const random = randomSource(9);
    for (const batch of batches) {
      const x = randoms(random, batch * hidden, 1);
      const mask = topK(randoms(random, rows, 1), rows / 2);
      const { size } = layerTwin(twin, activation, x, mask);
      const wanted = await wide.forward(x, { mask, strategy: 'indexed' });
      for (const strategy of strategies) {
        const got = await half.forward(x, { mask, strategy });
        let largest = 0;
        got.forEach((value, i) => {
          const off = Math.abs(value - wanted[i]) / (size[i] + 0.1);
          if (!(off <= largest)) largest = off;
        });
        // Of x, products and sums of four, each by 2^-11 at most, to either side.
        expect(largest, `batch ${batch}, ${strategy}`).toBeLessThan(2 ** -9);
        expect(largest, `batch ${batch}, ${strategy}: it is f16 arithmetic`).toBeGreaterThan(2e-5);
      }
    }
    wide.destroy();
    half.destroy();
    expect(gpuBytes(device)).toBe(before);
  });

  it('refuses f16 arithmetic where it cannot be, with what to do', async () => {
    const { device } = ctx;
    const { weights } = makeLayer({ rows: 10, hidden: 8 });
    const before = gpuBytes(device);
    const create = (options: SparseMLPOptions) => SparseMLP.create(device, { ...weights, ...options });
    for (const dtype of [undefined, 'f32', 'bf16', 'q8', 'q4'] as const) {
      const refused = create({ compute: 'f16', dtype });
      await expect(refused, dtype).rejects.toThrow(OptionError);
      await expect(refused).rejects.toThrow(/stored as (f32|bf16|q8|q4)\. Use dtype f16, or compute f32/);
    }
    await expect(create({ compute: 'bf16' as 'f16', dtype: 'f16' })).rejects.toThrow(/"bf16".*f32, f16/);
    const bare = await requestDevice({ adapter: ctx.adapter.name, features: [], tuning: false });
    try {
      const refused = SparseMLP.create(bare.device, { ...weights, compute: 'f16', dtype: 'f16' });
      await expect(refused).rejects.toThrow(AdapterError);
      await expect(refused).rejects.toThrow(/shader-f16.*Use compute f32.*requestDevice/);
      expect(gpuBytes(bare.device)).toBe(0);
    } finally {
      bare.destroy();
    }
    if (ctx.has('shader-f16')) {
      await expect(create({ compute: 'f16', dtype: 'f16', slabDtype: 'f32' })).rejects.toThrow(OptionError);
    }
    expect(gpuBytes(device)).toBe(before);
  });

  it('carries the slab from step to step', async () => {
    const config: Config = { rows: 100, hidden: 20, capacity: 60, biases: ALL };
    const { weights, twin } = makeLayer(config, 2);
    const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config });
    const random = randomSource(3);
    let mask = Bitmask.empty(100);
    for (let step = 0; step < 60; step++) {
      mask = nextMask(random, mask, 60);
      const strategy: Strategy = step % 7 === 3 ? 'repack' : step % 7 === 5 ? pinned[step % 4] : 'paired';
      const batch = step % 5 === 4 ? 3 : 1;
      const x = randoms(random, batch * 20, 1);
      const wanted = layerTwin(twin, 'silu', x, mask);
      checkOutput(await mlp.forward(x, { mask, strategy }), wanted, `step ${step}, ${strategy}`);
      if (strategy === 'paired' || strategy === 'repack') expect(mlp.slab.mask().equals(mask)).toBe(true);
    }
    mlp.destroy();
  });

  it('holds no more bytes from the tenth step on', async () => {
    const config: Config = { rows: 60, hidden: 20 };
    const mlp = await SparseMLP.create(ctx.device, { ...makeLayer(config).weights, ...config });
    const random = randomSource(4);
    let mask = Bitmask.empty(60);
    let held = 0;
    for (let step = 0; step < 30; step++) {
      mask = nextMask(random, mask, 60);
      await mlp.forward(randoms(random, 20, 1), { mask, strategy: STRATEGIES[step % 5] });
      if (step === 9) held = gpuBytes(ctx.device);
      if (step > 9) expect(gpuBytes(ctx.device)).toBe(held);
    }
    mlp.destroy();
  });

  it.each([{}, { dtype: 'f16', maxShardBytes: 800, storage: 'texture' }] as const)(
    'encodes steps of all strategies in one pass, into the caller’s buffers (%o)',
    async (options) => {
      const { device } = ctx;
      const config: Config = { rows: 90, hidden: 20, biases: ALL, pendingUpdates: 12, ...options };
      const { weights, twin } = makeLayer(config, 5);
      const mlp = await SparseMLP.create(device, { ...weights, ...config });
      const before = gpuBytes(device);
      const stride = mlp.inputStride;
      expect(stride).toBe(32);
      const random = randomSource(6);
      const batches = [1, 3, 9];
      const buffers = batches.map((batch) => {
        const x = randoms(random, batch * 20, 1);
        // Beyond the columns any finite values, beyond the batch anything.
        const padded = new Float32Array((batch === 1 ? 1 : Math.ceil(batch / 8) * 8) * stride).fill(
          Number.NaN,
        );
        padded.fill(1e4, 0, batch * stride);
        for (let b = 0; b < batch; b++) padded.set(x.subarray(b * 20, (b + 1) * 20), b * stride);
        const buffer = device.createBuffer({ size: padded.byteLength, usage: 0x80 | 0x8 });
        device.queue.writeBuffer(buffer, 0, padded);
        return { batch, x, buffer };
      });
      const made: GPUBuffer[] = buffers.map(({ buffer }) => buffer);
      for (let round = 0; round < 3; round++) {
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        let mask = Bitmask.empty(90);
        const steps = Array.from({ length: 12 }, (_, n) => {
          const strategy = STRATEGIES[(n + round) % 5];
          mask = nextMask(random, mask, 90);
          const use = n === 7 ? undefined : mask;
          const { batch, x, buffer } = buffers[(n + round) % 3];
          // One row more than the batch, to see that it is left alone.
          const y = device.createBuffer({ size: (batch + 1) * 80, usage: 0x80 | 0x4 | 0x8 });
          device.queue.writeBuffer(y, 0, new Float32Array((batch + 1) * 20).fill(Number.NaN));
          made.push(y);
          const stats = mlp.encode(pass, { x: buffer, y, batch, mask: use, strategy });
          if (strategy === 'paired' || strategy === 'repack') {
            expect(stats?.active).toBe((use ?? Bitmask.full(90)).count());
          } else if (strategy !== 'auto') expect(stats).toBeNull();
          return { y, batch, wanted: layerTwin(twin, 'silu', x, use ?? Bitmask.full(90)), strategy };
        });
        pass.end();
        device.queue.submit([encoder.finish()]);
        mlp.submitted();
        for (const [n, { y, batch, wanted, strategy }] of steps.entries()) {
          const got = new Float32Array(await readBuffer(device, y));
          checkOutput(
            got.subarray(0, batch * 20),
            wanted,
            `round ${round}, step ${n}, ${strategy}, batch ${batch}`,
          );
          expect(got.subarray(batch * 20).every(Number.isNaN)).toBe(true);
        }
      }
      // The buffers were the caller's: the layer destroyed none of them.
      for (const buffer of made) buffer.destroy();
      mlp.destroy();
      expect(gpuBytes(device)).toBeLessThan(before);
    },
  );

  it('refuses more steps than pendingUpdates', async () => {
    const { device } = ctx;
    const config: Config = { rows: 40, hidden: 8, pendingUpdates: 2 };
    const { weights, twin } = makeLayer(config);
    const mlp = await SparseMLP.create(device, { ...weights, ...config });
    const x = device.createBuffer({ size: 128, usage: 0x80 | 0x8 });
    const y = device.createBuffer({ size: 32, usage: 0x80 | 0x4 });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    const mask = (id: number) => Bitmask.fromIds([id], 40);
    for (const id of [1, 2]) {
      mlp.encode(pass, { x, y, mask: mask(id), strategy: 'indexed' });
      mlp.encode(pass, { x, y, mask: mask(id), strategy: 'paired' });
    }
    for (const strategy of pinned) {
      expect(() => mlp.encode(pass, { x, y, mask: mask(3), strategy }), strategy).toThrow(OptionError);
    }
    expect([...mlp.slab.mask()]).toEqual([2]);
    pass.end();
    device.queue.submit([encoder.finish()]);
    mlp.submitted();
    const values = randoms(randomSource(1), 8, 1);
    for (const strategy of pinned) {
      const wanted = layerTwin(twin, 'silu', values, [3, 4]);
      checkOutput(
        await mlp.forward(values, { mask: Bitmask.fromIds([3, 4], 40), strategy }),
        wanted,
        strategy,
      );
    }
    for (const buffer of [x, y]) buffer.destroy();
    mlp.destroy();
  });

  it('stays usable when a mask exceeds its capacity', async () => {
    const config: Config = { rows: 50, hidden: 13, capacity: 4, plain: true, activation: 'relu' };
    const { weights, twin } = makeLayer(config);
    const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config });
    const x = randoms(randomSource(7), 13, 1);
    const fits = Bitmask.fromIds([3, 8, 49], 50);
    const over = Bitmask.fromIds([1, 2, 3, 8, 30, 49], 50);
    await mlp.forward(x, { mask: fits, strategy: 'paired' });
    const held = gpuBytes(ctx.device);
    for (const strategy of ['paired', 'repack'] as const) {
      const error = await mlp.forward(x, { mask: over, strategy }).then(
        () => null,
        (caught: unknown) => caught,
      );
      expect(error).toBeInstanceOf(CapacityError);
      expect((error as CapacityError).details.rows).toEqual([2, 30]);
      // All rows, since no mask is given.
      await expect(mlp.forward(x, { strategy })).rejects.toThrow(CapacityError);
      expect(mlp.slab.mask().equals(fits)).toBe(true);
      checkOutput(
        await mlp.forward(x, { mask: fits, strategy: 'paired' }),
        layerTwin(twin, 'relu', x, fits),
        'after',
      );
    }
    expect(gpuBytes(ctx.device)).toBe(held);
    // The other strategies need no slots.
    for (const strategy of ['dense', 'indexed', 'auto'] as const) {
      checkOutput(await mlp.forward(x, { mask: over, strategy }), layerTwin(twin, 'relu', x, over), strategy);
    }
    mlp.destroy();
  });

  it('has typed errors for steps that are wrong, and changes nothing then', async () => {
    const { device } = ctx;
    const config: Config = { rows: 40, hidden: 20 };
    const { weights, twin } = makeLayer(config);
    const mlp = await SparseMLP.create(device, { ...weights, ...config });
    const mask = Bitmask.fromIds([1, 2, 3], 40);
    const x = randoms(randomSource(8), 20, 1);
    await mlp.forward(x, { mask, strategy: 'paired' });
    for (const length of [0, 19, 21, 30]) {
      await expect(mlp.forward(new Float32Array(length)), `x of ${length}`).rejects.toThrow(ShapeError);
    }
    for (const strategy of STRATEGIES) {
      for (const size of [39, 41]) {
        await expect(mlp.forward(x, { mask: Bitmask.full(size), strategy })).rejects.toThrow(ShapeError);
      }
    }
    const unknown = mlp.forward(x, { strategy: 'packed' as Strategy });
    await expect(unknown).rejects.toThrow(OptionError);
    await expect(unknown).rejects.toThrow(/"packed".*dense, indexed, repack, paired, auto/);
    expect(() => checkStrategy('')).toThrow(OptionError);
    expect(STRATEGIES.map(checkStrategy)).toEqual(STRATEGIES);

    const pass = device.createCommandEncoder().beginComputePass();
    const buffer = (bytes: number) => device.createBuffer({ size: bytes, usage: 0x80 | 0x8 });
    // batch 1: x of 32 values, y of 20; batch 3: x of 8 · 32, y of 3 · 20.
    const cases: [number, number, number][] = [
      [1, 124, 80],
      [1, 128, 76],
      [3, 1020, 240],
      [3, 1024, 236],
      [9, 1024, 720],
      [0, 1024, 240],
      [-1, 1024, 240],
      [1.5, 1024, 240],
      [Number.NaN, 1024, 240],
    ];
    for (const [batch, xBytes, yBytes] of cases) {
      const [xBuffer, yBuffer] = [buffer(xBytes), buffer(yBytes)];
      for (const strategy of STRATEGIES) {
        const encode = () =>
          mlp.encode(pass, { x: xBuffer, y: yBuffer, batch, mask: Bitmask.fromIds([5], 40), strategy });
        expect(encode, `batch ${batch}, x ${xBytes}, y ${yBytes}`).toThrow(ShapeError);
      }
      for (const one of [xBuffer, yBuffer]) one.destroy();
    }
    pass.end();
    expect(mlp.slab.mask().equals(mask)).toBe(true);
    checkOutput(
      await mlp.forward(x, { mask, strategy: 'paired' }),
      layerTwin(twin, 'silu', x, mask),
      'after',
    );
    mlp.destroy();
  });

  it('has typed errors for layers that are wrong, and holds nothing then', async () => {
    const { device } = ctx;
    const good: SparseMLPWeights & SparseMLPOptions = { ...makeLayer({ rows: 10, hidden: 8 }).weights };
    const f32 = (length: number) => new Float32Array(length);
    const cases: [string, Partial<SparseMLPWeights & SparseMLPOptions>, typeof PairslabError][] = [
      ['activation', { activation: 'swish' as Activation }, OptionError],
      ['inherited name', { activation: 'toString' as Activation }, OptionError],
      ['no threshold', { activation: { fatrelu: Number.NaN } }, OptionError],
      ['no name', { activation: {} as Activation }, OptionError],
      ['dtype', { dtype: 'q5' as 'f16' }, OptionError],
      ['NaN to quantise', { dtype: 'q8', down: f32(80).fill(Number.NaN, 79) }, NonFiniteError],
      ['hidden 0', { hidden: 0 }, ShapeError],
      ['hidden of other matrices', { hidden: 7 }, ShapeError],
      ['half hidden', { hidden: 2.5 }, ShapeError],
      ['gate of other rows', { gate: f32(88) }, ShapeError],
      ['up of other rows', { up: f32(72) }, ShapeError],
      ['up empty', { up: f32(0) }, ShapeError],
      ['down of other rows', { down: f32(72) }, ShapeError],
      ['down too short', { down: f32(79) }, ShapeError],
      ['gateBias without gate', { gate: undefined, gateBias: f32(10) }, OptionError],
      ['gateBias too short', { gateBias: f32(9) }, ShapeError],
      ['upBias of hidden', { upBias: f32(8) }, ShapeError],
      ['upBias empty', { upBias: f32(0) }, ShapeError],
      ['downBias of rows', { downBias: f32(10) }, ShapeError],
      ['pendingUpdates 0', { pendingUpdates: 0 }, OptionError],
      ['pendingUpdates not whole', { pendingUpdates: 1.5 }, OptionError],
      ['a row wider than a shard', { maxShardBytes: 60 }, PairslabError],
    ];
    const before = gpuBytes(device);
    for (const [what, change, error] of cases) {
      await expect(SparseMLP.create(device, { ...good, ...change }), what).rejects.toThrow(error);
      expect(gpuBytes(device), what).toBe(before);
    }
    const late: Partial<SparseMLPOptions>[] = [
      { capacity: 11 },
      { capacity: 0 },
      { slab: { rowsPerWorkgroup: 0 } },
      { slabDtype: 'q8' as 'f16' },
    ];
    for (const change of late) {
      const mlp = await SparseMLP.create(device, { ...good, ...change });
      await expect(mlp.forward(f32(8), { strategy: 'paired' })).rejects.toThrow(OptionError);
      mlp.destroy();
      expect(gpuBytes(device)).toBe(before);
    }
  });

  it('keeps what forward needs, and no more than one set of it for batches of like size', async () => {
    const { device } = ctx;
    const config: Config = { rows: 60, hidden: 20 };
    const mlp = await SparseMLP.create(device, { ...makeLayer(config).weights, ...config });
    const create = vi.spyOn(device, 'createBuffer');
    try {
      const run = (batch: number) => mlp.forward(new Float32Array(batch * 20), { strategy: 'indexed' });
      for (const batch of [1, 12]) await run(batch);
      create.mockClear();
      for (const batch of [1, 12, 1, 12, 12]) await run(batch);
      expect(create).not.toHaveBeenCalled();
      // Another batch, as many tiles: but for the step's one small uniform nothing is new.
      await run(9);
      expect(create).toHaveBeenCalledTimes(1);
    } finally {
      create.mockRestore();
      mlp.destroy();
    }
  });

  it('runs forwards at once, each with its own result', async () => {
    const { device } = ctx;
    const before = gpuBytes(device);
    const config: Config = { rows: 60, hidden: 20 };
    const { weights, twin } = makeLayer(config);
    const mlp = await SparseMLP.create(device, { ...weights, ...config });
    const random = randomSource(9);
    const steps = Array.from({ length: 12 }, (_, i) => ({
      x: randoms(random, [1, 3, 9][i % 3] * 20, 1),
      mask: topK(randoms(random, 60, 1), 5 + i),
      strategy: STRATEGIES[i % 5],
    }));
    for (const round of [0, 1]) {
      const results = await Promise.all(steps.map(({ x, ...step }) => mlp.forward(x, step)));
      for (const [i, y] of results.entries()) {
        const { x, mask, strategy } = steps[i];
        checkOutput(y, layerTwin(twin, 'silu', x, mask), `round ${round}, call ${i}, ${strategy}`);
      }
    }
    // A call that is refused gives its buffers back to the next.
    const held = gpuBytes(device);
    await expect(mlp.forward(steps[0].x, { mask: Bitmask.empty(59) })).rejects.toThrow(ShapeError);
    expect(gpuBytes(device)).toBe(held);
    // One that runs still when the layer goes keeps what it needs until it ends.
    const last = mlp.forward(steps[0].x, { mask: steps[0].mask, strategy: 'indexed' });
    mlp.destroy();
    checkOutput(await last, layerTwin(twin, 'silu', steps[0].x, steps[0].mask), 'the last');
    expect(gpuBytes(device)).toBe(before);
  });

  it('works a change out once, whether it chose the strategy or was told', async () => {
    const config: Config = { rows: 60, hidden: 20 };
    const { weights, twin } = makeLayer(config);
    const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config });
    try {
      const [first, next] = [Bitmask.fromIds([1, 2, 3], 60), Bitmask.fromIds([2, 3, 4], 60)];
      const x = randoms(randomSource(5), 20, 1);
      const copies = { launch: 0, rates: [[1, 0]] } as const;
      const reads = (rate: number) => [[1, rate]] as const;
      const read = { launch: 0, dense: reads(9), indexed: reads(9), again: reads(9), packed: reads(1) };
      const size = { dtype: 'f32', rowBytes: 240, rows: 60, wait: 0 } as const;
      setTuning(ctx.device, {
        entries: [],
        costs: [{ ...size, read, readBatched: read, move: copies, select: copies }],
      });
      mlp.slab.update(first);
      const worked = vi.spyOn(SlotMap.prototype, 'mask');
      checkOutput(await mlp.forward(x, { mask: next }), layerTwin(twin, 'silu', x, next), 'auto');
      expect(mlp.slab.rowIds().sort()).toEqual(Uint32Array.of(2, 3, 4));
      expect(worked).toHaveBeenCalledTimes(1);
      worked.mockRestore();
    } finally {
      setTuning(ctx.device, null);
      mlp.destroy();
    }
  });

  it.each([
    { rows: 100, hidden: 64, biases: ALL },
    { rows: 77, hidden: 20, plain: true, activation: 'relu', biases: ['up'], dtype: 'q8' },
    { rows: 37, hidden: 13, maxShardBytes: 1300, dtype: 'f16', activation: 'relu2', storage: 'texture' },
  ] as const satisfies readonly Config[])(
    'computes each element of a batch with its own mask (%o)',
    async (config: Config) => {
      const { rows, hidden, activation = 'silu' } = config;
      const { weights, twin } = makeLayer(config, 31);
      const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config });
      const random = randomSource(32);
      // Overlapping, apart, none, all: and in one the union is not all rows.
      const kinds = [
        topK(randoms(random, rows, 1), 9),
        topK(randoms(random, rows, 1), 12),
        Bitmask.empty(rows),
        Bitmask.fromIds([rows - 1], rows),
        topK(randoms(random, rows, 1), rows >> 1),
        Bitmask.full(rows),
      ];
      for (const batch of [1, 4, 11]) {
        const mask = Array.from({ length: batch }, (_, b) => kinds[batch === 4 ? b : b % kinds.length]);
        const x = randoms(random, batch * hidden, 1);
        const each = mask.map((one, b) =>
          layerTwin(twin, activation, x.subarray(b * hidden, (b + 1) * hidden), one),
        );
        const wanted = {
          y: Float64Array.from(each.flatMap(({ y }) => [...y])),
          size: Float64Array.from(each.flatMap(({ size }) => [...size])),
        };
        for (const strategy of STRATEGIES) {
          checkOutput(await mlp.forward(x, { mask, strategy }), wanted, `batch ${batch}, ${strategy}`);
        }
        const union = mask.reduce((all, one) => all.union(one));
        expect(mlp.explain({ mask, batch }).step.active).toBe(union.count());
        expect(mlp.slab.mask().equals(union)).toBe(true);
      }
      mlp.destroy();
    },
  );

  it('refuses masks that are not one for each element, and more steps than can be pending', async () => {
    const { device } = ctx;
    const config: Config = { rows: 40, hidden: 20, pendingUpdates: 1, slab: { pendingUpdates: 9 } };
    const { weights } = makeLayer(config);
    const mlp = await SparseMLP.create(device, { ...weights, ...config });
    try {
      const x = new Float32Array(2 * 20);
      const one = Bitmask.fromIds([3], 40);
      for (const strategy of STRATEGIES) {
        for (const mask of [[], [one], [one, one, one], [one, Bitmask.full(41)]]) {
          await expect(mlp.forward(x, { mask, strategy }), `${mask.length} masks`).rejects.toThrow(
            ShapeError,
          );
        }
      }
      expect(() => mlp.explain({ mask: [one], batch: 2 })).toThrow(ShapeError);
      const [xs, y] = [storageBuffer(device, 'x', 8 * mlp.inputStride * 4), storageBuffer(device, 'y', 160)];
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      const step = { x: xs, y, batch: 2, strategy: 'paired' } as const;
      mlp.encode(pass, { ...step, mask: [one, one] });
      const held = mlp.slab.mask();
      expect(() => mlp.encode(pass, { ...step, mask: [one, Bitmask.full(40)] })).toThrow(OptionError);
      expect(mlp.slab.mask().equals(held)).toBe(true);
      pass.end();
      device.queue.submit([encoder.finish()]);
      mlp.submitted();
      for (const buffer of [xs, y]) destroyBuffer(device, buffer);
    } finally {
      mlp.destroy();
    }
  });

  it('counts its bytes and gives them all back', async () => {
    const { device } = ctx;
    const before = gpuBytes(device);
    const config: Config = {
      rows: 60,
      hidden: 20,
      biases: ALL,
      dtype: 'f16',
      maxShardBytes: 1600,
      label: 'mine',
    };
    const mlp = await SparseMLP.create(device, { ...makeLayer(config).weights, ...config });
    for (const strategy of STRATEGIES) {
      for (const batch of [1, 4, 20]) {
        await mlp.forward(new Float32Array(batch * 20), { strategy, mask: Bitmask.fromIds([batch], 60) });
      }
    }
    expect(mlp.bytes).toBe(gpuBytes(device) - before);
    mlp.destroy();
    expect(gpuBytes(device)).toBe(before);
    mlp.destroy();
    expect(gpuBytes(device)).toBe(before);
  });
});
