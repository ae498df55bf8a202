/** Rows that arrive in the slab are multiplied on their way: against the copy by a dispatch of its own. */
import { describe, expect, it } from 'vitest';
import { CapacityError, OptionError } from '../../src/errors.js';
import { upload } from '../../src/gpu/buffers.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { Bitmask } from '../../src/mask/index.js';
import { fusedUpdate } from '../../src/mlp/fused-update.js';
import { SparseMLP, type EncodeStep } from '../../src/mlp/sparse-mlp.js';
import { checkUpdateWay, UPDATE_WAYS, type UpdateWay } from '../../src/mlp/update-way.js';
import { type RecordedDispatch, RecordingPass } from '../../src/tune/recording.js';
import { checkSame, nextMask, readSlab } from '../slab/twin.js';
import { describeAdapters } from '../support/adapters.js';
import { checkOutput, layerTwin } from '../support/layer-twin.js';
import { type LayerConfig, makeLayer, randoms } from '../support/make-layer.js';
import { randomSource } from '../support/make-model.js';

const ROWS = 70;
const CAPACITY = 50;

/** All bits set: NaN in every dtype, and no row id. */
function poisonSlab({ device, slab }: SparseMLP): void {
  for (const buffer of [...slab.buffers.values()])
    upload(device, buffer, 0, new Uint8Array(buffer.size).fill(0xff));
}

/** The kernels that a step's encoding dispatches. */
function kernelsOf(
  mlp: SparseMLP,
  step: Pick<EncodeStep, 'mask' | 'strategy' | 'update' | 'batch'>,
): string[] {
  const { device, inputStride, hidden } = mlp;
  const [x, y] = [8 * inputStride, 8 * hidden].map((values) =>
    device.createBuffer({ size: values * 4, usage: 0x80 }),
  );
  const dispatches: RecordedDispatch[] = [];
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  try {
    mlp.encode(new RecordingPass(dispatches, pass), { ...step, x, y });
  } finally {
    pass.end();
    device.queue.submit([encoder.finish()]);
    mlp.submitted();
    for (const buffer of [x, y]) buffer.destroy();
  }
  return dispatches.map(({ bound }) => bound?.kernel.name ?? '').filter((name) => name !== 'sum_partials');
}

const FUSED = ['gate_up_arriving', 'down_arriving'];

const configs: LayerConfig[] = [
  { rows: ROWS, hidden: 77, capacity: CAPACITY, biases: ['down'] },
  { rows: ROWS, hidden: 20, capacity: CAPACITY, dtype: 'f16', activation: 'relu' },
  { rows: ROWS, hidden: 77, capacity: CAPACITY, dtype: 'q8' },
  { rows: ROWS, hidden: 300, capacity: CAPACITY, dtype: 'q4', activation: 'gelu' },
];

describe('ways to update', () => {
  it('are known by name', () => {
    for (const way of UPDATE_WAYS) expect(checkUpdateWay(way, fusedUpdate)).toBe(way);
    expect(() => checkUpdateWay('both', fusedUpdate)).toThrow(/"both".*copy, fused/);
  });
});

describeAdapters('update fused with the layer', (ctx) => {
  it.each(configs)(
    'leaves the slab that a copy leaves, bit for bit, over random transitions ($dtype, hidden $hidden)',
    async (config) => {
      const { device } = ctx;
      const { weights, twin } = makeLayer(config, 11);
      const layers: [UpdateWay, SparseMLP][] = [];
      for (const way of UPDATE_WAYS)
        layers.push([way, await SparseMLP.create(device, { ...weights, ...config, fused: fusedUpdate })]);
      for (const [, mlp] of layers) poisonSlab(mlp);
      const random = randomSource(12);
      let mask = Bitmask.empty(ROWS);
      let arrived = 0;
      for (let step = 0; step < 40; step++) {
        mask = nextMask(random, mask, CAPACITY);
        const strategy = step % 7 === 3 ? 'repack' : 'paired';
        const x = randoms(random, config.hidden, 1);
        const wanted = layerTwin(twin, config.activation ?? 'silu', x, mask);
        for (const [update, mlp] of layers) {
          const y = await mlp.forward(x, { mask, strategy, update });
          checkOutput(y, wanted, `step ${step}, ${strategy}, ${update}`);
        }
        const [[, copied], [, fused]] = layers;
        expect(fused.slab.rowIds()).toEqual(copied.slab.rowIds());
        checkSame(await readSlab(fused.slab), await readSlab(copied.slab));
        arrived += mask.count();
      }
      expect(arrived).toBeGreaterThan(200);
      for (const [, mlp] of layers) mlp.destroy();
    },
  );

  it('takes several steps in one pass', async () => {
    const { device } = ctx;
    const config: LayerConfig = { rows: ROWS, hidden: 20, capacity: CAPACITY, pendingUpdates: 8 };
    const { weights, twin } = makeLayer(config, 21);
    const mlp = await SparseMLP.create(device, { ...weights, ...config, fused: fusedUpdate });
    poisonSlab(mlp);
    const random = randomSource(22);
    const x = randoms(random, 20, 1);
    const input = device.createBuffer({ size: mlp.inputStride * 4, usage: 0x80 | 0x8 });
    device.queue.writeBuffer(input, 0, x);
    let mask = Bitmask.empty(ROWS);
    for (let round = 0; round < 3; round++) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      const steps = Array.from({ length: 8 }, (_, n) => {
        mask = nextMask(random, mask, CAPACITY);
        const y = device.createBuffer({ size: 80, usage: 0x80 | 0x4 });
        // Now and then by a copy, which must find what the fused ones left, and leave what they need.
        mlp.encode(pass, { x: input, y, mask, strategy: 'paired', update: n % 3 === 2 ? 'copy' : 'fused' });
        return { y, wanted: layerTwin(twin, 'silu', x, mask) };
      });
      pass.end();
      device.queue.submit([encoder.finish()]);
      mlp.submitted();
      for (const [n, { y, wanted }] of steps.entries()) {
        checkOutput(new Float32Array(await readBuffer(device, y)), wanted, `round ${round}, step ${n}`);
        y.destroy();
      }
    }
    input.destroy();
    mlp.destroy();
  });

  it('is taken where it can be, and only where rows arrive', async () => {
    const config: LayerConfig = { rows: ROWS, hidden: 20, capacity: CAPACITY };
    const mlp = await SparseMLP.create(ctx.device, {
      ...makeLayer(config).weights,
      ...config,
      fused: fusedUpdate,
    });
    const mask = Bitmask.fromIds([1, 5, 9], ROWS);
    const step = { mask, strategy: 'paired', update: 'fused' } as const;
    expect(kernelsOf(mlp, step)).toEqual(FUSED);
    expect(kernelsOf(mlp, step)).toEqual(['gate_up', 'down']);
    expect(kernelsOf(mlp, { ...step, strategy: 'repack' })).toEqual(FUSED);
    expect(kernelsOf(mlp, { ...step, mask: Bitmask.fromIds([1, 5], ROWS) })).toEqual(FUSED);
    mlp.slab.update(mask);
    // Without a wish: on software adapters where three quarters of the rows are new.
    const { software } = traitsOf(ctx.device);
    const ways = [
      [[1, 5, 9, 10], 'copy'],
      [[1, 20, 21, 22], software ? 'fused' : 'copy'],
    ] as const;
    for (const [ids, way] of ways) {
      const kernels = kernelsOf(mlp, { mask: Bitmask.fromIds(ids, ROWS), strategy: 'paired' });
      expect(kernels, `${ids}`).toEqual(way === 'fused' ? FUSED : ['copy_rows', 'gate_up', 'down']);
    }
    expect(kernelsOf(mlp, { ...step, update: 'copy' })).toEqual(['copy_rows', 'gate_up', 'down']);
    const next = Bitmask.fromIds([2, 5], ROWS);
    expect(kernelsOf(mlp, { ...step, mask: next, batch: 3 })).toEqual(['copy_rows', 'gate_up', 'down']);
    mlp.destroy();
  });

  it('is refused by a layer that was made without it, which copies', async () => {
    const config: LayerConfig = { rows: ROWS, hidden: 20, capacity: CAPACITY };
    const mlp = await SparseMLP.create(ctx.device, { ...makeLayer(config).weights, ...config });
    const step = { mask: Bitmask.fromIds([1, 5, 9], ROWS), strategy: 'paired' } as const;
    expect(() => kernelsOf(mlp, { ...step, update: 'fused' })).toThrow(OptionError);
    expect(() => kernelsOf(mlp, { ...step, update: 'fused' })).toThrow(/fused: fusedUpdate/);
    expect(mlp.slab.active).toBe(0);
    expect(kernelsOf(mlp, step)).toEqual(['copy_rows', 'gate_up', 'down']);
    mlp.destroy();
  });

  it.each<[string, Partial<LayerConfig>, number]>([
    ['row biases', { biases: ['up'] }, 1],
    ['a pool in shards', { maxShardBytes: 4000 }, 3],
    ['a slab that converts', { dtype: 'f16', slabDtype: 'f32' }, 3],
    ['no gate', { plain: true }, 1],
    ['a pool in textures', { storage: 'texture' }, 1],
  ])('leaves the rows to a copy: %s', async (_, change, copies) => {
    const config: LayerConfig = { rows: ROWS, hidden: 20, capacity: CAPACITY, ...change };
    const { weights, twin } = makeLayer(config, 31);
    const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config, fused: fusedUpdate });
    const mask = Bitmask.fromIds([1, 5, 68], ROWS);
    const kernels = kernelsOf(mlp, { mask, strategy: 'paired', update: 'fused' });
    expect(kernels.filter((name) => name === 'copy_rows')).toHaveLength(copies);
    expect(kernels).not.toContain('gate_up_arriving');
    const x = randoms(randomSource(32), 20, 1);
    const other = Bitmask.fromIds([0, 5, 30, 69], ROWS);
    const y = await mlp.forward(x, { mask: other, strategy: 'paired', update: 'fused' });
    checkOutput(y, layerTwin(twin, 'silu', x, other), 'by a copy');
    mlp.destroy();
  });

  it('changes nothing when a step is refused', async () => {
    const config: LayerConfig = { rows: ROWS, hidden: 20, capacity: 4, pendingUpdates: 1 };
    const { weights, twin } = makeLayer(config, 41);
    const mlp = await SparseMLP.create(ctx.device, { ...weights, ...config, fused: fusedUpdate });
    const x = randoms(randomSource(42), 20, 1);
    const held = Bitmask.fromIds([3, 8, 49], ROWS);
    await mlp.forward(x, { mask: held, strategy: 'paired', update: 'fused' });
    const before = await readSlab(mlp.slab);
    const fits = Bitmask.fromIds([3, 4], ROWS);
    const over = Bitmask.fromIds([1, 2, 3, 8, 49], ROWS);
    const step = { strategy: 'paired', update: 'fused' } as const;
    expect(() => kernelsOf(mlp, { ...step, mask: over })).toThrow(CapacityError);
    expect(() => kernelsOf(mlp, { ...step, mask: fits, update: 'both' as UpdateWay })).toThrow(OptionError);
    expect(mlp.slab.mask().equals(held)).toBe(true);
    checkSame(await readSlab(mlp.slab), before);
    const y = await mlp.forward(x, { ...step, mask: fits });
    checkOutput(y, layerTwin(twin, 'silu', x, fits), 'after');
    mlp.destroy();
  });
});
