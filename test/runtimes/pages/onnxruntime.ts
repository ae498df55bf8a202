import * as ort from 'onnxruntime-web/webgpu';
import { openBlock } from '../../../docs/examples/onnxruntime.js';
import { Bitmask, DevicePool, gpuBytes, Slab, SparseMLP, type StepMask } from '../../../src/index.js';
import { OrtMLP, ortDevice, slabTensor } from '../../../src/onnxruntime/index.js';
import { blockGraphs, blockWeights, rowsGraph } from './graphs.mjs';
import { hostCopies } from './host-copies.js';
import { refusal } from './refusal.js';
import { errorOf, valuesFrom } from './values.js';

ort.env.logLevel = 'error';
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = '/onnxruntime/';

const SHAPE = { hidden: 64, rows: 160, heads: 4, vocabulary: 96 };

const onHost = (values: Float32Array, dims: number[]) => new ort.Tensor('float32', values, dims);

/** Before any session. */
export const beforeSessions = () => refusal(() => ortDevice({ env: { webgpu: {} } } as never));

/** The block of the example beside the same in one ONNX graph, for several lengths and masks. */
export async function block(lengths: readonly number[]) {
  const { hidden, rows } = SHAPE;
  const values = valuesFrom(3);
  const weights = blockWeights(SHAPE, values);
  const graphs = blockGraphs(SHAPE, weights);
  const ours = await openBlock(graphs, { hidden, ...weights, downRows: true });
  const device = await ortDevice(ort);
  const whole = await ort.InferenceSession.create(graphs.whole, { executionProviders: ['webgpu'] });
  const some = Bitmask.fromIds(
    Array.from({ length: rows }, (_, i) => i).filter((i) => i % 3 !== 1),
    rows,
  );
  const found = [];
  for (const length of lengths) {
    for (const mask of [undefined, some]) {
      const x = values(length * hidden);
      const flags = Float32Array.from({ length: rows }, (_, i) => Number(!mask || mask.has(i)));
      const all = await whole.run({
        x: onHost(x, [1, length, hidden]),
        mask: onHost(flags, [1, 1, rows]),
      });
      const expected = (await all.logits.getData()) as Float32Array;
      const run = async (): Promise<Float32Array> => {
        const logits = await ours.run(onHost(x, [1, length, hidden]), mask);
        const data = (await logits.getData()) as Float32Array;
        logits.dispose();
        return data;
      };
      const first = await run();
      const copied = ours.mlp.copies;
      // Again, now that every kernel is compiled and every buffer made.
      const bytes = gpuBytes(device);
      let again = first;
      const copies = await hostCopies(async () => {
        again = await run();
      });
      // The comparison must see the MLP: with no row at all it is off.
      const none = onHost(new Float32Array(rows), [1, 1, rows]);
      const without = await whole.run({ x: onHost(x, [1, length, hidden]), mask: none });
      found.push({
        share: errorOf((await without.logits.getData()) as Float32Array, expected),
        length,
        masked: mask !== undefined,
        error: Math.max(errorOf(first, expected), errorOf(again, expected)),
        copies,
        deviceCopies: ours.mlp.copies - copied,
        grown: gpuBytes(device) - bytes,
      });
    }
  }
  await whole.release();
  await ours.close();
  return { found, left: gpuBytes(device) };
}

/** What goes between host and device while pairslab's step runs between two sessions: x from ORT, y to ORT. */
export async function between(masked: boolean) {
  const { hidden, rows } = SHAPE;
  const weights = blockWeights(SHAPE, valuesFrom(4));
  const graphs = blockGraphs(SHAPE, weights);
  const create = (graph: Uint8Array) =>
    ort.InferenceSession.create(graph, {
      executionProviders: ['webgpu'],
      preferredOutputLocation: 'gpu-buffer',
    });
  const attention = await create(graphs.attention);
  const head = await create(graphs.head);
  const device = await ortDevice(ort);
  const layer = await SparseMLP.create(device, { hidden, ...weights, downRows: true });
  const mlp = await OrtMLP.create(ort, layer);
  const mask: StepMask | undefined = masked ? Bitmask.fromIds([1, 5, 8, 100], rows) : undefined;
  const x = valuesFrom(5)(16 * hidden);
  let step: Awaited<ReturnType<typeof hostCopies>> = [];
  let after: typeof step = [];
  for (let round = 0; round < 2; round++) {
    const { residual, normed } = await attention.run({ x: onHost(x, [1, 16, hidden]) });
    let y = normed;
    step = await hostCopies(async () => {
      y = mlp.run(normed, { mask, strategy: masked ? 'indexed' : 'dense' });
    });
    after = await hostCopies(async () => {
      (await head.run({ residual, y })).logits.dispose();
    });
    for (const tensor of [residual, normed, y]) tensor.dispose();
  }
  await attention.release();
  await head.release();
  mlp.destroy();
  layer.destroy();
  return { step, after, tensorBytes: 16 * hidden * 4 };
}

/** ORT multiplies by a slab's rows where they lie, before and after an update. */
export async function slabRows() {
  const cols = 48;
  const pool = 40;
  const values = valuesFrom(6);
  const table = values(pool * cols);
  const session = await ort.InferenceSession.create(rowsGraph(cols), { executionProviders: ['webgpu'] });
  const device = await ortDevice(ort);
  const source = DevicePool.from(device, { embedding: { data: table, cols } });
  const slab = new Slab(source, { capacity: 16 });
  const empty = await refusal(() => slabTensor(ort, slab.view('embedding')));
  const errors: number[] = [];
  const updates: number[] = [];
  for (const ids of [[3, 9, 11, 39], [9, 11, 12, 13, 14, 20, 39], [0]]) {
    const { writes } = slab.update(Bitmask.fromIds(ids, pool));
    updates.push(writes);
    const x = values(cols);
    const weight = slabTensor(ort, slab.view('embedding'));
    const { y } = await session.run({ x: onHost(x, [1, cols]), weight });
    const expected = [...slab.rowIds()].map((id) =>
      x.reduce((sum, value, c) => sum + value * table[id * cols + c], 0),
    );
    errors.push(errorOf((await y.getData()) as Float32Array, expected));
    weight.dispose();
  }
  const padded = new Slab(DevicePool.from(device, { odd: { data: values(30), cols: 10 } }));
  padded.update(Bitmask.full(3));
  const odd = await refusal(() => slabTensor(ort, padded.view('odd')));
  const stays = slab.view('embedding').buffer.mapState;
  for (const one of [slab, source, padded, padded.pool as DevicePool]) one.destroy();
  await session.release();
  return { errors, updates, empty, odd, stays, left: gpuBytes(device) };
}

/** What OrtMLP refuses, and that a tensor outlives it. */
export async function refusals() {
  const { hidden } = SHAPE;
  const weights = blockWeights(SHAPE, valuesFrom(7));
  // Without a session there is no device.
  const session = await ort.InferenceSession.create(rowsGraph(8), { executionProviders: ['webgpu'] });
  const device = await ortDevice(ort);
  const layer = await SparseMLP.create(device, { hidden, ...weights, downRows: true });
  const mlp = await OrtMLP.create(ort, layer);
  const other = await (await navigator.gpu.requestAdapter())?.requestDevice();
  const foreign = await SparseMLP.create(other as GPUDevice, { hidden, ...weights, downRows: true });
  const tensor = (dims: number[], dataType: 'float32' | 'int32' = 'float32') => {
    const size = Math.max(
      16,
      dims.reduce((a, b) => a * b, 4),
    );
    const buffer = device.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
    return ort.Tensor.fromGpuBuffer(buffer, { dataType, dims, dispose: () => buffer.destroy() });
  };
  const found = {
    device: await refusal(() => OrtMLP.create(ort, foreign)),
    place: await refusal(() => mlp.run(onHost(new Float32Array(hidden), [1, hidden]))),
    type: await refusal(() => mlp.run(tensor([1, hidden], 'int32'))),
    dims: await refusal(() => mlp.run(tensor([2, hidden / 2]))),
    mask: await refusal(() => mlp.run(tensor([1, hidden]), { mask: Bitmask.full(7) })),
  };
  const held = mlp.run(tensor([1, hidden]));
  const values = (await held.getData(false)) as Float32Array;
  foreign.destroy();
  other?.destroy();
  mlp.destroy();
  layer.destroy();
  const before = gpuBytes(device);
  held.dispose();
  const after = gpuBytes(device);
  await session.release();
  return {
    ...found,
    values: values.length,
    zero: values.every((v) => v === 0),
    before,
    after,
  };
}
