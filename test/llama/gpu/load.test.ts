/** Loading: what is refused is refused before anything is allocated, and what was allocated is given back. */
import { describe, expect, it } from 'vitest';
import { DeviceLimitError, ModelFormatError, NonFiniteError, OptionError } from '../../../src/errors.js';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import { packRows, STORED_DTYPES, type StoredDtype } from '../../../src/gpu/layout.js';
import { decodeBytes } from '../../../src/llama/bytes.js';
import { Checkpoint, openCheckpoint, requiredTensors } from '../../../src/llama/checkpoint.js';
import type { TensorData } from '../../../src/llama/safetensors.js';
import {
  estimateBytes,
  type LoadOptions,
  loadWeights,
  mlpRows,
  otherDtype,
} from '../../../src/llama/weights.js';
import type { DevicePool } from '../../../src/pool/device-pool.js';
import { describeAdapters } from '../../support/adapters.js';
import {
  type MakeModelOptions,
  type MemoryFolder,
  makeModel,
  type TensorToWrite,
  writeSafetensors,
} from '../../support/make-model.js';
import { smallDevice } from '../../support/small-device.js';
import { readMemory } from '../../support/read-memory.js';

const UP = 'model.layers.1.mlp.up_proj.weight';

/** A made model whose tensors are changed before they are written. */
async function changed(change: (tensors: TensorToWrite[]) => TensorToWrite[]): Promise<MemoryFolder> {
  const folder = makeModel();
  const whole = await openCheckpoint(folder);
  const tensors: TensorToWrite[] = [];
  for (const [name, shape] of requiredTensors(whole.config)) {
    tensors.push({ name, dtype: 'F32', shape, data: await whole.readF32(name, shape) });
  }
  return folder.set('model.safetensors', writeSafetensors(change(tensors)));
}

const swap = (tensors: TensorToWrite[], name: string, other: Partial<TensorToWrite>) =>
  tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...other } : tensor));

describeAdapters('loading', (ctx) => {
  /** Expects `loadWeights` to fail having made no buffer. */
  async function refused(
    checkpoint: Checkpoint,
    options: LoadOptions,
    limits?: Record<string, number>,
  ): Promise<unknown> {
    const { device, buffersMade } = smallDevice(ctx.device, limits);
    const loading = loadWeights(device, checkpoint, options);
    const error: unknown = await loading.then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(Error);
    expect(buffersMade(), 'buffers made').toBe(0);
    expect(gpuBytes(device)).toBe(0);
    return error;
  }

  it.each<[string, (tensors: TensorToWrite[]) => TensorToWrite[], string, RegExp]>([
    [
      'missing',
      (all) => all.filter(({ name }) => name !== UP),
      'missing',
      /1 missing: model.layers.1.mlp.up_proj/,
    ],
    [
      'without a head',
      (all) => all.filter(({ name }) => name !== 'lm_head.weight'),
      'missing',
      /lm_head.weight/,
    ],
    [
      'of another shape',
      (all) => swap(all, UP, { shape: [16, 24] }),
      'wrong',
      /up_proj.weight \(F32 \[16, 24\], expected \[24, 16\]\)/,
    ],
    [
      'one norm too long',
      (all) => swap(all, 'model.norm.weight', { shape: [17], data: new Float32Array(17) }),
      'wrong',
      /\[17\]/,
    ],
    [
      'of another type',
      (all) => swap(all, UP, { dtype: 'I32', data: new Int32Array(24 * 16) }),
      'wrong',
      /I32 \[24, 16\], expected F32, F16 or BF16/,
    ],
    [
      'with a bias that the configuration does not mention',
      (all) => [
        ...all,
        { name: UP.replace('weight', 'bias'), dtype: 'F32', shape: [24], data: new Float32Array(24) },
      ],
      'unexpected',
      /not in the configuration: model.layers.1.mlp.up_proj.bias/,
    ],
  ])('a tensor %s: ModelFormatError, nothing allocated', async (_name, change, list, message) => {
    const error = await refused(await openCheckpoint(await changed(change)), {});
    expect(error).toBeInstanceOf(ModelFormatError);
    expect((error as ModelFormatError).message).toMatch(message);
    expect((error as ModelFormatError).details[list]).toHaveLength(1);
  });

  it.each<[string, MakeModelOptions, LoadOptions, Record<string, number>, RegExp]>([
    // 2^26 positions of 1 KiB: more than any device binds at once.
    [
      'cache',
      { headDim: 128, maxPositions: 2 ** 26 },
      { context: 2 ** 26 },
      {},
      /the key cache of a layer needs 68719476736/,
    ],
    [
      'rotary table',
      { heads: 8, hidden: 16, kvHeads: 1, headDim: 128, maxPositions: 2 ** 26 },
      { context: 2 ** 26 },
      {},
      /needs 34359738368 bytes in one binding/,
    ],
    ['row', { hidden: 80 }, {}, { maxStorageBufferBindingSize: 300 }, /one row of a weight needs 320 bytes/],
    [
      'logits',
      { vocab: 200 },
      { context: 4 },
      { maxStorageBufferBindingSize: 512 },
      /the logits needs 800 bytes/,
    ],
    ['buffer', { vocab: 200 }, { context: 4 }, { maxBufferSize: 512 }, /this device allows 512/],
  ])(
    'a %s too large for a binding: DeviceLimitError, nothing allocated',
    async (_n, model, options, limits, message) => {
      const error = await refused(await openCheckpoint(makeModel(model)), options, limits);
      expect(error).toBeInstanceOf(DeviceLimitError);
      expect((error as DeviceLimitError).message).toMatch(message);
      expect((error as DeviceLimitError).details.limit).toBeGreaterThan(0);
    },
  );

  it('takes the same model with a context that fits', async () => {
    const checkpoint = await openCheckpoint(makeModel({ headDim: 128, maxPositions: 2 ** 26 }));
    const weights = await loadWeights(ctx.device, checkpoint, { context: 8 });
    expect(weights.context).toBe(8);
    weights.destroy();
  });

  it('an unknown dtype: OptionError, nothing allocated', async () => {
    const checkpoint = await openCheckpoint(makeModel());
    expect(await refused(checkpoint, { dtype: 'q5' as StoredDtype })).toBeInstanceOf(OptionError);
  });

  it.each([0, -1, 1.5, Number.NaN])('a context of %d: OptionError, nothing allocated', async (context) => {
    expect(await refused(await openCheckpoint(makeModel()), { context })).toBeInstanceOf(OptionError);
  });

  it.each<[StoredDtype, MakeModelOptions]>([
    ['f32', {}],
    ['f16', { hidden: 20, intermediate: 37, heads: 2, headDim: 10 }],
    ['f32', { tied: true, dtype: 'bf16' }],
    ['bf16', { tied: true }],
    ['q8', { hidden: 20, intermediate: 37, heads: 2, headDim: 10 }],
    ['q4', { hidden: 48, intermediate: 70, dtype: 'f16' }],
  ])('counts what it holds, as estimated, and gives it back: %s %o', async (dtype, options) => {
    const checkpoint = await openCheckpoint(makeModel(options));
    const before = gpuBytes(ctx.device);
    // Textures are whole lines of 64 KiB each, which the estimate leaves out.
    const textures = await loadWeights(ctx.device, checkpoint, { dtype, context: 32, storage: 'texture' });
    expect(gpuBytes(ctx.device) - before).toBe(textures.bytes);
    textures.destroy();
    const weights = await loadWeights(ctx.device, checkpoint, { dtype, context: 32, storage: 'buffer' });
    expect(gpuBytes(ctx.device) - before).toBe(weights.bytes);
    const { cache, ...parts } = estimateBytes(checkpoint.config, dtype, 32);
    const estimated = Object.values(parts).reduce((a, b) => a + b, 0);
    // The estimate has no down biases and no rounding to 16 bytes.
    const { layers, hiddenSize } = checkpoint.config;
    expect(weights.bytes - estimated).toBeGreaterThanOrEqual(0);
    expect(weights.bytes - estimated).toBeLessThanOrEqual(layers * (4 * hiddenSize + 16) + 16);
    // Cached heads are padded to whole quads.
    const { kvHeads, headDim } = checkpoint.config;
    expect(cache).toBe(layers * 2 * 32 * kvHeads * Math.ceil(headDim / 4) * 16);
    // Under a budget the gates stay whole, and of up and down as many rows are there as it holds.
    const rows = mlpRows(checkpoint.config, dtype);
    expect(rows.rowBytes).toBe(weights.layers[0].mlp.rowBytes);
    const { gate, slabs, ...rest } = estimateBytes(checkpoint.config, dtype, 32, { share: 1 });
    expect({ ...rest, mlp: gate + slabs }).toEqual({ ...parts, cache });
    const held = estimateBytes(checkpoint.config, dtype, 32, { bytes: 11 * rows.rowBytes + 1 });
    expect(held.slabs).toBe(11 * rows.rowBytes);
    expect(() => estimateBytes(checkpoint.config, dtype, 32, { bytes: rows.rowBytes })).toThrow(OptionError);
    weights.destroy();
    expect(gpuBytes(ctx.device)).toBe(before);
    weights.destroy();
    expect(gpuBytes(ctx.device)).toBe(before);
  });

  it.each(
    (['f32', 'f16', 'bf16'] as const).flatMap((file) => STORED_DTYPES.map((dtype) => [file, dtype] as const)),
  )('stores %s files as %s, bit for bit as the values say', async (file, dtype) => {
    const sizes = { hidden: 40, intermediate: 37, layers: 1, mlpBias: true, attentionBias: true };
    const checkpoint = await openCheckpoint(makeModel({ ...sizes, dtype: file }));
    const weights = await loadWeights(ctx.device, checkpoint, { dtype, context: 8 });
    const { gate, mlp, output, qkv } = weights.layers[0];
    const at = 'model.layers.0.';
    const values = (name: string, shape: number[]) => checkpoint.readF32(`${at}${name}.weight`, shape);
    const check = async (pool: DevicePool, field: string, data: Float32Array, transposed: boolean) => {
      const { parts, rowBytes, shards, dtype: kept } = pool.field(field);
      expect(kept).toBe(pool === output ? otherDtype(dtype) : dtype);
      const want = packRows([{ data, cols: parts[0], transposed }], pool.rows, 0, pool.rows, kept);
      const got = await readMemory(ctx.device, shards[0].memory, pool.rows * rowBytes);
      expect(new Uint8Array(got)).toEqual(want);
    };
    await check(gate, 'weight', await values('mlp.gate_proj', [37, 40]), false);
    await check(mlp as DevicePool, 'up', await values('mlp.up_proj', [37, 40]), false);
    await check(mlp as DevicePool, 'down', await values('mlp.down_proj', [40, 37]), true);
    await check(output, 'weight', await values('self_attn.o_proj', [40, 40]), false);
    const others = [qkv, weights.embedding, weights.head].map((pool) => pool.field('weight').dtype);
    expect(new Set(others)).toEqual(new Set([dtype === 'q8' || dtype === 'q4' ? 'f16' : dtype]));
    for (const pool of [gate, mlp, output, qkv]) expect(pool.field('bias').dtype).toBe('f32');
    expect(mlpRows(checkpoint.config, dtype).rowBytes).toBe(mlp.rowBytes);

    // The error of the matrices that were quantised, each by its tensor's name.
    const names = ['gate', 'up', 'down'].map((name) => `${at}mlp.${name}_proj.weight`);
    const quantised = dtype === 'q8' || dtype === 'q4';
    expect(Object.keys(weights.quantization).sort()).toEqual(quantised ? names.sort() : []);
    for (const { rmsRelative, maxAbsolute } of Object.values(weights.quantization)) {
      // Uniform weights: q8 rows step by 1/127 of their largest, q4 groups by about 1/8, and rounding has 1/√12 of it.
      expect(rmsRelative).toBeGreaterThan(dtype === 'q8' ? 0.002 : 0.03);
      expect(rmsRelative).toBeLessThan(dtype === 'q8' ? 0.006 : 0.09);
      expect(maxAbsolute).toBeGreaterThan(0);
      expect(maxAbsolute).toBeLessThan(dtype === 'q8' ? 0.002 : 0.04);
    }
    weights.destroy();
  });

  it.each([
    ['q8', Number.NaN],
    ['q4', Number.POSITIVE_INFINITY],
  ] as const)(
    'a weight that %s cannot hold (%d): NonFiniteError by the tensor’s name, all given back',
    async (dtype, value) => {
      const data = Float32Array.from({ length: 24 * 16 }, (_, i) => (i === 5 * 16 + 3 ? value : 0.1));
      const checkpoint = await openCheckpoint(await changed((all) => swap(all, UP, { data })));
      const before = gpuBytes(ctx.device);
      const error: unknown = await loadWeights(ctx.device, checkpoint, { dtype }).catch((caught) => caught);
      expect(error).toBeInstanceOf(NonFiniteError);
      expect((error as NonFiniteError).message).toContain(
        `${UP} cannot be stored as ${dtype}: row 5, column 3`,
      );
      expect((error as NonFiniteError).details).toMatchObject({ name: UP, row: 5, column: 3 });
      expect(gpuBytes(ctx.device)).toBe(before);
      // The other dtypes keep what the file has.
      (await loadWeights(ctx.device, checkpoint, { dtype: 'bf16' })).destroy();
    },
  );

  it.each(['q8', 'q4'] as const)('counts the bytes that a token reads, stored as %s', async (dtype) => {
    const checkpoint = await openCheckpoint(makeModel({ hidden: 64, intermediate: 96, heads: 4, vocab: 50 }));
    const weights = await loadWeights(ctx.device, checkpoint, { dtype });
    // A row of 64 columns: 4 vectors and a scale's as q8, 2 and one of scales as q4.
    const row = dtype === 'q8' ? 80 : 48;
    const other = 2 * ((50 + 2 * (3 * 64 + 64)) * 64);
    expect(decodeBytes(weights, null)).toBe(other + 2 * 96 * 3 * row);
    expect(decodeBytes(weights, [10, 20])).toBe(other + 2 * 96 * row + 30 * 2 * row);
    weights.destroy();
  });

  it('tells each tensor once, up to the total', async () => {
    const told: [number, number][] = [];
    const names = new Set<string>();
    const checkpoint = await openCheckpoint(makeModel());
    const weights = await loadWeights(ctx.device, checkpoint, {
      onProgress: (done, total, name) => {
        told.push([done, total]);
        names.add(name);
      },
    });
    weights.destroy();
    const total = requiredTensors(checkpoint.config).size;
    expect(told).toEqual(Array.from({ length: total }, (_, i) => [i + 1, total]));
    expect(names.size).toBe(total);
  });

  describe('a file that breaks off while it is read', () => {
    class Breaking extends Checkpoint {
      readonly #from: Checkpoint;
      constructor(from: Checkpoint) {
        super(from.name, from.config, new Map());
        this.#from = from;
      }
      override has(name: string): boolean {
        return this.#from.has(name);
      }
      override info(name: string) {
        return this.#from.info(name);
      }
      override async read(name: string, shape: readonly number[]): Promise<TensorData> {
        if (name === UP) throw new ModelFormatError('the file ended');
        return this.#from.read(name, shape);
      }
    }

    it('gives back what was allocated', async () => {
      const before = gpuBytes(ctx.device);
      const loading = loadWeights(ctx.device, new Breaking(await openCheckpoint(makeModel())));
      await expect(loading).rejects.toThrow('the file ended');
      expect(gpuBytes(ctx.device)).toBe(before);
    });
  });
});
