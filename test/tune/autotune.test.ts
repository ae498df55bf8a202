import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { OptionError, ShapeError } from '../../src/errors.js';
import { gpuBytes } from '../../src/gpu/buffers.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { fasterStorage } from '../../src/gpu/texels.js';
import { setTuning, type TunedEntry, type Tuning, tuningOf } from '../../src/gpu/tuning.js';
import { attentionVariant, attentionVariants } from '../../src/llama/attention-variants.js';
import { Bitmask } from '../../src/mask/index.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { downVariants, type RowKind, rowVariants } from '../../src/mlp/variants.js';
import { type NodeDevice, requestDevice } from '../../src/node/device.js';
import { copyVariant, copyVariants } from '../../src/slab/variants.js';
import { type AutotuneOptions, autotune } from '../../src/tune/autotune.js';
import { defaultShapes, measuresCosts, modelShapes, type TuneShape, tasksOf } from '../../src/tune/shapes.js';
import { useSoftwareKernels } from '../../src/software-kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { checkOutput, layerTwin } from '../support/layer-twin.js';
import { randomSource } from '../support/make-model.js';
import { smallDevice } from '../support/small-device.js';

const HIDDEN = 36;
const ROWS = 90;
const shape: TuneShape = { hidden: HIDDEN, rows: ROWS, dtype: 'f32', storage: 'buffer' };
const quick: AutotuneOptions = { repeats: 1, costs: false };

/** The declared table of an entry's kernel. */
function declared(
  device: GPUDevice,
  { kernel, dtype, batched, cols, storage }: TunedEntry,
): readonly object[] {
  const traits = traitsOf(device);
  if (kernel === 'copy_rows') return copyVariants(traits);
  if (kernel === 'down') return downVariants(traits, dtype, batched, cols, storage);
  return rowVariants(traits, kernel as RowKind, dtype, batched, cols, storage);
}

function checkDeclared(device: GPUDevice, { entries }: Tuning): void {
  for (const entry of entries) expect(declared(device, entry), entry.kernel).toContainEqual(entry.variant);
}

/** One layer under the device's tuning, its rows where the device reads them faster, packed and not, against the CPU twin. */
async function checkLayer(device: GPUDevice): Promise<void> {
  const random = randomSource(3);
  const values = (length: number, scale: number) =>
    Float32Array.from({ length }, () => (2 * random() - 1) * scale);
  const weights = {
    hidden: HIDDEN,
    gate: values(ROWS * HIDDEN, 0.3),
    up: values(ROWS * HIDDEN, 0.3),
    down: values(ROWS * HIDDEN, 1),
  };
  const mlp = await SparseMLP.create(device, { ...weights, storage: 'auto' });
  const ids = Array.from({ length: ROWS }, (_, i) => i).filter((i) => i % 3 !== 1);
  const mask = Bitmask.fromIds(ids, ROWS);
  for (const batch of [1, 9]) {
    const x = values(batch * HIDDEN, 1);
    const want = layerTwin(weights, 'silu', x, ids);
    for (const strategy of ['dense', 'indexed', 'paired'] as const)
      checkOutput(await mlp.forward(x, { mask, strategy }), want, `${strategy}, batch ${batch}`);
  }
  mlp.destroy();
}

describeAdapters('autotune', (ctx) => {
  it('takes costs of short rows too, for which no kernel is tuned', () => {
    const shapes = defaultShapes('q8');
    expect(shapes.filter(measuresCosts).map(({ hidden }) => hidden)).toEqual([768, 2048, 256]);
    expect(tasksOf(ctx.device, shapes).some((task) => task.hidden === 256)).toBe(false);
    expect(measuresCosts({ ...shape, costs: false })).toBe(false);
    const apart = modelShapes(
      { hiddenSize: 64, intermediateSize: 96, heads: 2, kvHeads: 1, headDim: 32 },
      'f32',
    );
    expect(apart.filter(measuresCosts)).toHaveLength(1);
  });

  it('chooses among the declared variants, and the layers that take them are right', async () => {
    const { device } = ctx;
    const held = gpuBytes(device);
    const seen: [number, number][] = [];
    const layer: TuneShape = { ...shape, storage: 'auto', kernels: ['gate_up', 'down', 'copy_rows'] };
    const faster = fasterStorage(device);
    const result = await autotune(device, [layer], {
      ...quick,
      onProgress: (done, total) => seen.push([done, total]),
    });
    const named = result.entries.map(
      ({ kernel, batched, storage = 'buffer' }) => `${kernel} ${batched} ${storage}`,
    );
    expect(named).toEqual([
      `gate_up false ${faster}`,
      `gate_up true ${faster}`,
      `down false ${faster}`,
      `down true ${faster}`,
      'copy_rows false buffer',
      ...(faster === 'texture' ? ['gate_up false buffer', 'down false buffer'] : []),
    ]);
    expect(result.notes).toEqual([]);
    expect(result.timer).toBe(
      ctx.has('timestamp-query') ? 'timestamp-query' : 'wall clock less an empty submit',
    );
    checkDeclared(device, result);
    for (const { variant, default: standard, speedup } of result.entries) {
      if (JSON.stringify(variant) === JSON.stringify(standard)) expect(speedup).toBe(1);
      else expect(speedup).toBeGreaterThan(1.05);
    }
    expect(tuningOf(device)).toBe(result);
    expect(gpuBytes(device), 'what it used is given back').toBe(held);
    const [lastDone, lastTotal] = seen.at(-1) ?? [];
    expect(lastDone).toBe(lastTotal);
    for (const [done, total] of seen) expect(done).toBeLessThanOrEqual(total);
    await checkLayer(device);
    setTuning(device, null);
  });

  it('gives right results with the last variant of every table, too', async () => {
    const { device } = ctx;
    const entries = (['linear', 'gate_up', 'down', 'copy_rows'] as const).flatMap((kernel) =>
      [false, true].flatMap((batched) =>
        (['buffer', 'texture'] as const).map((storage) => {
          const entry = { kernel, dtype: 'f32', batched, cols: HIDDEN, storage, variant: {} } as const;
          return { ...entry, variant: declared(device, entry).at(-1) as TunedEntry['variant'] };
        }),
      ),
    );
    setTuning(device, { entries });
    expect(copyVariant(device, HIDDEN)).toEqual(copyVariants(traitsOf(device)).at(-1));
    await checkLayer(device);
    setTuning(device, null);
  });

  it('gives right results with every variant of down, over rows in order and over lists', async () => {
    const { device } = ctx;
    const storage = fasterStorage(device);
    const entry = { kernel: 'down', dtype: 'f32', batched: false, cols: HIDDEN, storage } as const;
    for (const variant of declared(device, { ...entry, variant: {} })) {
      setTuning(device, { entries: [{ ...entry, variant: variant as TunedEntry['variant'] }] });
      await checkLayer(device);
    }
    setTuning(device, null);
  });

  it.each([false, true])('leaves out no variant of attention for its result, batched %s', async (batched) => {
    // rope turns the queries where they lie: a variant is not to find those that another one turned.
    const heads = { heads: 4, kvHeads: 2 };
    const attended: TuneShape = { hidden: 16, rows: 1024, dtype: 'f32', batched, heads };
    const { notes } = await autotune(ctx.device, [attended], { budgetMs: 20_000 });
    setTuning(ctx.device, null);
    expect(notes.filter((note) => note.includes('result'))).toEqual([]);
  });

  it('tunes attention for heads and positions', async () => {
    const { device } = ctx;
    const heads = { heads: 4, kvHeads: 2 };
    const attended: TuneShape = { hidden: 16, rows: 40, dtype: 'f32', batched: false, heads };
    const result = await autotune(device, [attended], quick);
    expect(result.notes).toEqual([]);
    expect(result.entries.map(({ kernel, cols }) => `${kernel} ${cols}`)).toEqual(['attention 640']);
    const declared = attentionVariants(traitsOf(device), { ...heads, headDim: 16 }, 40, false);
    expect(declared).toContainEqual(result.entries[0].variant);
    expect(attentionVariant(device, { ...heads, headDim: 16 }, 40, false)).toEqual(result.entries[0].variant);
    setTuning(device, null);
  });

  it('keeps what was tuned for other shapes, and with `again: false` what was for these', async () => {
    const { device } = ctx;
    const only = (hidden: number): TuneShape => ({ ...shape, hidden, kernels: ['down'], batched: false });
    const first = await autotune(device, [only(36)], quick);
    const second = await autotune(device, [only(36), only(40)], { ...quick, again: false });
    expect(second.entries.map(({ cols }) => cols)).toEqual([36, 40]);
    expect(second.entries[0]).toEqual(first.entries[0]);
    const third = await autotune(device, [only(36)], quick);
    expect(third.entries.map(({ cols }) => cols)).toEqual([40, 36]);
    setTuning(device, null);
  });

  it('spends little more than its budget, and says what it left', async () => {
    const result = await autotune(ctx.device, [{ ...shape, batched: false }], { ...quick, budgetMs: 0 });
    expect(result.notes.length).toBeGreaterThan(0);
    // A kernel says nothing where its default came out best of those that were tried.
    expect(result.notes.join()).toMatch(/linear 36x90 f32: no time/);
    setTuning(ctx.device, null);
  });

  it('stops at a signal and leaves the tuning that there was', async () => {
    const { device } = ctx;
    const old: Tuning = { entries: [] };
    setTuning(device, old);
    const held = gpuBytes(device);
    const controller = new AbortController();
    const reason = new Error('enough');
    const stopped = autotune(device, [shape], {
      ...quick,
      signal: controller.signal,
      onProgress: (done) => done === 3 && controller.abort(reason),
    });
    await expect(stopped).rejects.toBe(reason);
    await expect(autotune(device, [shape], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(tuningOf(device)).toBe(old);
    expect(gpuBytes(device)).toBe(held);
    setTuning(device, null);
  });

  it('leaves out a variant whose results are not those of the default, however fast it is', async () => {
    const { device } = smallDevice(ctx.device);
    const create = ctx.device.createShaderModule.bind(ctx.device);
    let made = 0;
    const halving = vi.spyOn(ctx.device, 'createShaderModule').mockImplementation((wanted) => {
      // Not the first, which is the default's.
      if (!wanted.label?.startsWith('pairslab down') || made++ === 0) return create(wanted);
      const code = wanted.code.replace('sum: vec4<f32>) {', 'whole: vec4<f32>) {\n  let sum = 0.5 * whole;');
      expect(code).not.toBe(wanted.code);
      return create({ ...wanted, code });
    });
    const result = await autotune(device, [{ ...shape, kernels: ['down'], batched: false }], quick);
    halving.mockRestore();
    const others = downVariants(traitsOf(device), 'f32', false, HIDDEN).length - 1;
    expect(made).toBeGreaterThan(1);
    expect(result.notes.length).toBeGreaterThan(0);
    expect(result.notes.length).toBeLessThanOrEqual(others);
    for (const note of result.notes)
      expect(note).toMatch(/^down 36x90 f32: left out .*: value \d+ of its result is .*, the default's /);
    expect(result.entries[0].variant).toEqual(result.entries[0].default);
  });

  it('leaves out a variant that the adapter refuses, with a note', async () => {
    const { device } = smallDevice(ctx.device);
    const create = ctx.device.createComputePipeline.bind(ctx.device);
    const second = downVariants(traitsOf(device), 'f32', false, HIDDEN)[1].WORKGROUP;
    const refusing = vi.spyOn(ctx.device, 'createComputePipeline').mockImplementation((wanted) => {
      if (wanted.label?.startsWith('pairslab down')) made++;
      // Not the first, which is the default's.
      return create(made > 1 ? { ...wanted, compute: { ...wanted.compute, entryPoint: 'nowhere' } } : wanted);
    });
    let made = 0;
    const result = await autotune(device, [{ ...shape, kernels: ['down'], batched: false }], quick);
    refusing.mockRestore();
    expect(result.notes.length).toBeGreaterThan(0);
    expect(result.notes[0]).toMatch(new RegExp(`down 36x90 f32: left out .*${second}`));
    expect(result.entries).toHaveLength(1);
    expect(result.entries[0].variant).toEqual(result.entries[0].default);
  });

  it('says which shape no variant runs', async () => {
    const { device } = smallDevice(ctx.device);
    const create = ctx.device.createComputePipeline.bind(ctx.device);
    const refusing = vi
      .spyOn(ctx.device, 'createComputePipeline')
      .mockImplementation((wanted) =>
        create({ ...wanted, compute: { ...wanted.compute, entryPoint: 'nowhere' } }),
      );
    const failed = autotune(device, [{ ...shape, kernels: ['down'], batched: false }], quick);
    await expect(failed).rejects.toThrow(ShapeError);
    await expect(failed).rejects.toThrow(/shape 36x90 f32: no variant of down covers it: .*nowhere/);
    refusing.mockRestore();
    expect(tuningOf(device)).toBeNull();
  });

  it.each<[string, Partial<TuneShape>, RegExp]>([
    ['no columns', { hidden: 0 }, /shape 0x90 f32: hidden must be an integer of 1 or more; it is 0/],
    ['half a row', { rows: 1.5 }, /shape 36x1.5 f32: rows must be/],
    ['NaN', { rows: Number.NaN }, /shape 36xNaN f32: rows/],
    ['more active rows than rows', { active: 91 }, /91 active rows/],
    [
      'a row beyond a binding',
      { hidden: 2 ** 40 },
      /shape 1099511627776x90 f32: no variant covers it: one row/,
    ],
    ['an unknown dtype', { dtype: 'f64' as 'f32' }, /shape 36x90 f64: no variant covers it: .*f64/],
    [
      'attention without heads',
      { kernels: ['attention'] },
      /shape 36x90 f32: attention needs heads .* undefined/,
    ],
    [
      'heads that share keys unevenly',
      { heads: { heads: 6, kvHeads: 4 } },
      /shape 36x90 f32: attention needs heads .*"kvHeads":4/,
    ],
    [
      'an unknown storage',
      { storage: 'image' as 'auto' },
      /storage "image" cannot be: use buffer, auto, or texture/,
    ],
    ['an unknown packed kernel', { packed: ['conv' as 'down'] }, /kernel "conv" is not one of linear/],
    ['an unknown kernel', { kernels: ['conv' as 'down'] }, /kernel "conv" is not one of linear/],
  ])('refuses %s before anything runs', async (_, change, message) => {
    const failed = autotune(ctx.device, [shape, { ...shape, ...change }], quick);
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toSatisfy((e) => e instanceof ShapeError || e instanceof OptionError);
  });
});

describeAdapters('autotune without features', (ctx) => {
  let bare: NodeDevice;
  const errors: string[] = [];
  beforeAll(async () => {
    const log = (message: string) => errors.push(message);
    bare = await requestDevice({ adapter: ctx.adapter.name, features: [], tuning: false, log });
  });
  afterAll(() => bare.destroy());

  it('works by wall clock and with lanes alone', async () => {
    const { device } = bare;
    expect(traitsOf(device)).toMatchObject({ subgroup: 0, f16: false, timestamps: false });
    const single: TuneShape = { ...shape, dtype: 'f16', batched: false };
    const result = await autotune(
      device,
      [{ ...single, kernels: ['linear', 'gate_up_active', 'down'] }],
      quick,
    );
    expect(result.timer).toBe('wall clock less an empty submit');
    expect(result.entries).toHaveLength(3);
    expect(result.entries.map(({ variant }) => variant.team)).not.toContain('subgroup');
    checkDeclared(device, result);
    await checkLayer(device);
    expect(errors).toEqual([]);
  });
});

describe('tasks of a model', () => {
  const sizes = { hiddenSize: 64, intermediateSize: 192, heads: 4, kvHeads: 2, headDim: 32 };
  const device = {
    limits: { maxStorageBufferBindingSize: 2 ** 27, maxBufferSize: 2 ** 28, maxTextureDimension2D: 8192 },
    features: new Set(),
  } as unknown as GPUDevice;
  const lavapipe = { ...device, adapterInfo: { description: 'llvmpipe' } } as unknown as GPUDevice;
  for (const one of [device, lavapipe]) useSoftwareKernels(one);
  const namesOf = (on: GPUDevice, shapes: readonly TuneShape[]) =>
    tasksOf(on, shapes).map(
      ({ for: { kernel, dtype: stored, batched, cols, storage }, rows }) =>
        `${kernel} ${stored}${batched ? ' batched' : ''} ${cols}: ${rows}${storage ? ` ${storage}` : ''}`,
    );
  const named = (dtype: 'f16' | 'q8') => namesOf(device, modelShapes(sizes, dtype));

  it('are the matrices it has, each once', () => {
    expect(named('f16')).toEqual([
      'linear f16 64: 256',
      'linear f16 batched 64: 256',
      'gate_up_active f16 64: 192',
      'down f16 64: 192',
      'down f16 batched 64: 192',
      'copy_rows f32 32: 192',
      'linear f16 128: 64',
      'linear f16 batched 128: 64',
      'attention f32 4096: 128',
      'attention f32 32768: 1024',
      'attention f32 131072: 4096',
      'attention f32 batched 4096: 128',
    ]);
    const short = tasksOf(device, modelShapes({ ...sizes, maxPositions: 256 }, 'f16'));
    expect(short.map((task) => task.for.cols).sort((a, b) => a - b)).toEqual([
      32, 64, 64, 64, 64, 64, 128, 128, 4096, 4096,
    ]);
  });

  it('store what is not an MLP as f16 where MLPs are quantised', () => {
    expect(named('q8')).toContain('linear f16 64: 256');
    expect(named('q8')).toContain('linear q8 64: 192');
    expect(named('q8')).toContain('down q8 batched 64: 192');
  });

  it('are over textures where those are read faster, and last over what its slabs have, in buffers', () => {
    const names = namesOf(lavapipe, modelShapes({ ...sizes, maxPositions: 100 }, 'q8'));
    expect(names).toEqual([
      'linear f16 64: 256 texture',
      'linear f16 batched 64: 256 texture',
      'gate_up_active q8 64: 192 texture',
      'down q8 64: 192 texture',
      'down q8 batched 64: 192 texture',
      'copy_rows f32 20: 192',
      'linear f16 128: 64 texture',
      'linear f16 batched 128: 64 texture',
      'linear q8 64: 192 texture',
      'linear q8 batched 64: 192 texture',
      'attention f32 4096: 128',
      'attention f32 batched 4096: 128',
      'linear q8 64: 192',
      'down q8 64: 192',
    ]);
  });

  it('are what is asked for: a layer in either storage, or both', () => {
    const layer: TuneShape = { ...shape, kernels: ['linear', 'gate_up', 'copy_rows'], batched: false };
    const texture = ['linear f32 36: 90 texture', 'gate_up f32 36: 90 texture', 'copy_rows f32 36: 90'];
    const buffer = ['linear f32 36: 90', 'gate_up f32 36: 90', 'copy_rows f32 36: 90'];
    expect(namesOf(lavapipe, [layer])).toEqual(buffer);
    expect(namesOf(device, [{ ...layer, storage: 'texture' }])).toEqual([...texture, 'gate_up f32 36: 90']);
    expect(namesOf(device, [{ ...layer, storage: 'texture', packed: [] }])).toEqual(texture);
    expect(namesOf(device, [{ ...layer, storage: 'texture', batched: true }])).toEqual([
      'linear f32 batched 36: 90 texture',
      'gate_up f32 batched 36: 90 texture',
    ]);
    const both = namesOf(device, [{ ...layer, storage: 'texture' }, layer]);
    expect(both).toEqual([...texture, ...buffer.slice(0, 2)]);
    expect(namesOf(lavapipe, [{ ...layer, storage: 'auto', packed: [] }])).toEqual(texture);
  });

  it('need a shape', () => {
    expect(() => tasksOf(device, [])).toThrow(OptionError);
  });
});
