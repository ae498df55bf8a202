/** mlp_active, attention from residual stream to residual stream, and logits, by the ops that layers run, where adapters have them. */
import { expect, it } from 'vitest';
import { attention as attentionTwin } from '../../shaders/attention.js';
import { linear as linearTwin } from '../../shaders/linear.js';
import { logits as logitsTwin } from '../../shaders/logits.js';
import { mlpActive as mlpTwin } from '../../shaders/mlp_active.js';
import { rmsNorm as normTwin } from '../../shaders/rms_norm.js';
import { rope as ropeTwin } from '../../shaders/rope.js';
import { BufferGroup } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { FusedAttention } from '../../src/llama/fused-attention.js';
import { FusedHead } from '../../src/llama/fused-head.js';
import { NO_TOKEN } from '../../src/llama/kernels.js';
import { FusedMlp, runsOf, wholeRows } from '../../src/mlp/fused-mlp.js';
import type { Stream } from '../../src/mlp/stream.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { type AdapterContext, describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { Expected, sizes, TOLERANCE } from './compare.js';
import { type Lab, useLab } from './lab.js';
import { randomValues, source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const EPS = 1e-3;
const TOKENS = 5;
const frequenciesOf = (half: number) => Float64Array.from({ length: half }, (_, d) => 10_000 ** (-d / half));

/** A residual stream in parts, what it is together, and its norm. */
function streamOf(lab: Lab, random: () => number, cols: number, count: number) {
  const parts = randomValues(random, count * cols);
  const residual = new Float64Array(cols);
  parts.forEach((value, i) => {
    residual[i % cols] += value;
  });
  const weight = randomValues(random, cols);
  const from: Stream = { buffer: lab.buffer(parts), count };
  const norm = { weight: lab.buffer(weight), values: weight, columns: cols, eps: EPS };
  return { from, norm, residual, x: normTwin(residual, weight, EPS) };
}

/** Runs the op twice (what it leaves for itself must not matter), and adds up the parts that it left. */
async function streamAfter(
  lab: Lab,
  op: { encode(pass: GPUComputePassEncoder, from: Stream): Stream },
  from: Stream,
  cols: number,
): Promise<Float64Array> {
  const encoder = lab.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  op.encode(pass, from);
  const { buffer, count } = op.encode(pass, from);
  pass.end();
  lab.device.queue.submit([encoder.finish()]);
  const words = await lab.read(buffer);
  const floats = new Float32Array(words.buffer);
  const sum = new Float64Array(cols);
  for (let i = 0; i < count * cols; i++) sum[i % cols] += floats[i];
  new Expected(words.length - count * cols).check(words.slice(count * cols));
  return sum;
}

/** A matrix in a pool, and its values as they are stored. */
function matrix(
  device: GPUDevice,
  data: Float32Array,
  cols: number,
  dtype: StoredDtype,
  storage: RowStorage,
) {
  const pool = DevicePool.from(device, { weight: { data, cols } }, { dtype, storage });
  return { pool, rows: pool.field('weight'), values: stored(data, cols, dtype) };
}

/** Skips, with the reason, what such an adapter does not have. */
function serving(
  ctx: AdapterContext,
  dtype: StoredDtype,
  cols: number,
  storage: RowStorage,
  skip: (reason: string) => void,
): void {
  const { software, subgroup } = traitsOf(ctx.device);
  if (!software) skip(`${ctx.adapter.name} is no software adapter: layers are not fused there`);
  if (!wholeRows(traitsOf(ctx.device), dtype, cols, storage))
    skip(
      `${ctx.adapter.name} has subgroups of ${subgroup}, whose lanes do not hold ${cols} values of ${dtype}`,
    );
}

/** `size`: the sizes of what each value sums up, those of what that sums up itself multiplied in. */
function close(got: Float64Array, want: Float64Array, size: ArrayLike<number>, dtype: StoredDtype): void {
  got.forEach((value, i) => {
    // Written so that NaN fails.
    if (!(Math.abs(value - want[i]) <= 3 * TOLERANCE[dtype] * (size[i] + 1e-3)))
      throw new Error(`value ${i} is ${value}; the twin has ${want[i]}, of sizes that sum up to ${size[i]}`);
  });
}

/** Values of a matrix whose products with an x of about 1 stay about 1. */
const small = (random: () => number, rows: number, cols: number): Float32Array =>
  randomValues(random, rows * cols).map((value) => (2 * value) / Math.sqrt(cols));

const mlps = pairwise(
  {
    dtype: STORED_DTYPES,
    storage: ['buffer', 'texture'],
    cols: [32, 64, 128, 256],
    N: [3, 75, 300],
    activation: ['relu', 'silu', 'fatrelu'],
    threshold: [0, 0.5, 1e9],
    parts: [1, 3],
  } as const,
  source(31),
);

describeAdapters('mlp_active', (ctx) => {
  mlps.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        const { dtype, cols, N, activation, threshold, parts } = one;
        serving(ctx, dtype, cols, one.storage, skip);
        const random = source(seed);
        const memory = new BufferGroup(ctx.device);
        const { from, norm, residual, x } = streamOf(lab, random, cols, parts);
        const [gate, up, down] = [0, 1, 2].map(() =>
          matrix(ctx.device, small(random, N, cols), cols, dtype, one.storage),
        );
        const downBias = randomValues(random, cols);
        const runs = runsOf(N);
        const fat = 0.25;
        const op = FusedMlp.make(memory, {
          gate: gate.rows,
          up: up.rows,
          down: down.rows,
          downBias: lab.buffer(downBias),
          activation: { slot: activation, fat },
          threshold,
          norm,
          stride: cols,
          out: lab.poisoned(runs * cols + 5),
        });
        if (!op) throw new Error('these rows can be fused');
        const got = await streamAfter(lab, op, from, cols);
        const input = { x, K: cols, activation, fat, threshold, runs, downBias };
        const want = mlpTwin({ ...input, gate: gate.values, up: up.values, down: down.values, residual });
        const [gateSize, upSize] = [gate, up].map(({ values }) =>
          linearTwin({ W: sizes(values), x: sizes(x), K: cols }),
        );
        const size = Float64Array.from(residual, (value, k) => Math.abs(value) + Math.abs(downBias[k]));
        for (let i = 0; i < N * cols; i++) {
          const row = Math.floor(i / cols);
          size[i % cols] += gateSize[row] * upSize[row] * Math.abs(down.values[i]);
        }
        close(got, want.stream, size, dtype);
        const counts = new Uint32Array(await readBuffer(ctx.device, op.counts.buffer)).slice(
          0,
          op.counts.words,
        );
        expect([...counts]).toEqual(want.counts);
        for (const { pool } of [gate, up, down]) pool.destroy();
        memory.destroy();
      }),
    );
  });
});

const attentions = pairwise(
  {
    dtype: ['f32', 'f16', 'bf16'],
    storage: ['buffer', 'texture'],
    cols: [32, 64, 256],
    heads: ['2/2', '4/2', '3/1', '8/2'],
    dim: [8, 32, 64],
    position: [0, 1, 70],
    bias: [false, true],
    /** 0: the token's row of the embedding. */
    parts: [1, 4, 0],
  } as const,
  source(32),
);

describeAdapters('attention from residual stream to residual stream', (ctx) => {
  attentions.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        const { dtype, cols, dim, position, bias, parts } = one;
        const [heads, kvHeads] = one.heads.split('/').map(Number);
        serving(ctx, dtype, cols, one.storage, skip);
        serving(ctx, dtype, (heads / kvHeads) * dim, one.storage, skip);
        const random = source(seed + 50);
        const memory = new BufferGroup(ctx.device);
        let tokens: GPUBuffer | undefined;
        const { from, norm, residual, x } = streamOf(lab, random, cols, Math.max(1, parts));
        const table = matrix(ctx.device, randomValues(random, TOKENS * cols), cols, dtype, one.storage);
        if (parts === 0) {
          // Of a token that is none, the last row.
          const token = seed % 2 ? 1 : TOKENS - 1;
          residual.set(table.values.slice(token * cols, (token + 1) * cols));
          x.set(normTwin(residual, norm.values, EPS));
          tokens = lab.buffer(Uint32Array.of(seed % 2 ? token : NO_TOKEN));
        }
        const rows = (heads + 2 * kvHeads) * dim;
        const qkv = matrix(ctx.device, small(random, rows, cols), cols, dtype, one.storage);
        const wide = heads * dim;
        const output = matrix(ctx.device, small(random, cols, wide), wide, dtype, one.storage);
        const biases = bias ? randomValues(random, rows) : undefined;
        const biasPool =
          biases &&
          DevicePool.from(
            ctx.device,
            {
              weight: {
                data: Float32Array.from({ length: 4 * rows }, (_, i) => (i % 4 ? Number.NaN : biases[i / 4])),
                cols: 4,
              },
            },
            { dtype: 'f32', storage: one.storage },
          );
        const frequencies = frequenciesOf(dim / 2);
        const turns = new Float32Array((position + 1) * dim).fill(Number.NaN);
        frequencies.forEach((frequency, d) => {
          turns[position * dim + 2 * d] = Math.cos(position * frequency);
          turns[position * dim + 2 * d + 1] = Math.sin(position * frequency);
        });
        const past = [0, 1].map(() => randomValues(random, position * kvHeads * dim));
        // This token's own place and the one after it are poisoned.
        const [keys, values] = past.map((data) =>
          lab.buffer(Float32Array.from([...data, ...new Array<number>(2 * kvHeads * dim).fill(Number.NaN)])),
        );
        const op = FusedAttention.make(memory, {
          shape: { heads, kvHeads, headDim: dim },
          qkv: qkv.rows,
          qkvBias: biasPool?.field('weight'),
          output: output.rows,
          norm,
          embedding: tokens && { rows: table.rows, tokens },
          step: lab.uniform([1, position]),
          turns: lab.buffer(turns),
          keys,
          values,
          stride: cols,
          out: lab.poisoned(kvHeads * cols + 5),
        });
        if (!op) throw new Error('these heads can be fused');
        const got = await streamAfter(lab, op, from, cols);
        const projected = linearTwin({ W: qkv.values, x, K: cols, bias: biases });
        const turned = ropeTwin(projected, position, frequencies);
        const newKeys = turned.slice(wide, wide + kvHeads * dim);
        const newValues = projected.slice(wide + kvHeads * dim);
        const scale = Math.fround(1 / Math.sqrt(dim));
        const input = { heads, kvHeads, dim, position, scale, q: turned.slice(0, wide) };
        const allKeys = [...past[0], ...newKeys];
        const mixed = attentionTwin({ ...input, keys: allKeys, values: [...past[1], ...newValues] });
        const want = linearTwin({ W: output.values, x: mixed, K: wide, add: residual });
        const projectedSize = linearTwin({
          W: sizes(qkv.values),
          x: sizes(x),
          K: cols,
          bias: biases && sizes(biases),
        });
        // What a score is off by, its weight is off by as a factor.
        const scoreSize = scale * dim * Math.max(...projectedSize.slice(0, wide + kvHeads * dim)) ** 2;
        const mixedSize = attentionTwin({
          ...input,
          keys: allKeys,
          values: [...past[1].map(Math.abs), ...projectedSize.slice(wide + kvHeads * dim)],
        }).map((value) => value * (1 + scoreSize));
        const size = linearTwin({ W: sizes(output.values), x: mixedSize, K: wide, add: sizes(residual) });
        close(got, want, size, dtype);
        const off = TOLERANCE[dtype] * Math.max(...projectedSize);
        const [gotKeys, gotValues] = await Promise.all(
          [keys, values].map(async (buffer) => new Float32Array((await lab.read(buffer)).buffer)),
        );
        for (let c = 0; c < kvHeads * dim; c++) {
          const at = position * kvHeads * dim + c;
          expect(Math.abs(gotKeys[at] - newKeys[c])).toBeLessThan(off);
          expect(Math.abs(gotValues[at] - newValues[c])).toBeLessThan(off);
        }
        expect(gotKeys[(position + 1) * kvHeads * dim], 'beyond this position').toBeNaN();
        for (const pool of [qkv.pool, output.pool, table.pool, biasPool]) pool?.destroy();
        memory.destroy();
      }),
    );
  });
});

const heads = pairwise(
  {
    dtype: STORED_DTYPES,
    storage: ['buffer', 'texture'],
    cols: [32, 64, 256],
    N: [3, 75, 1000],
    parts: [1, 3],
  } as const,
  source(33),
);

describeAdapters('logits', (ctx) => {
  heads.forEach((one, seed) => {
    it(nameOf(one), ({ skip }) =>
      useLab(ctx.device, async (lab) => {
        const { dtype, cols, N, parts } = one;
        serving(ctx, dtype, cols, one.storage, skip);
        const random = source(seed + 90);
        const memory = new BufferGroup(ctx.device);
        const { from, norm, residual, x } = streamOf(lab, random, cols, parts);
        const { pool, rows, values } = matrix(ctx.device, small(random, N, cols), cols, dtype, one.storage);
        const out = lab.poisoned(N + 5);
        const op = FusedHead.make(memory, { rows, norm, stride: cols, out });
        if (!op) throw new Error('these rows can be fused');
        const encoder = ctx.device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        for (let twice = 0; twice < 2; twice++) op.encode(pass, from);
        pass.end();
        ctx.device.queue.submit([encoder.finish()]);
        const words = await lab.read(out);
        new Expected(5).check(words.slice(N));
        const want = logitsTwin({ W: values, residual, weight: norm.values, eps: EPS });
        const size = linearTwin({ W: sizes(values), x: sizes(x), K: cols });
        close(Float64Array.from(new Float32Array(words.buffer, 0, N)), want, size, dtype);
        pool.destroy();
        memory.destroy();
      }),
    );
  });
});
