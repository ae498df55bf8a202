import * as tf from '@tensorflow/tfjs-core';
import { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import { attend, type BlockWeights, openBlock } from '../../../docs/examples/tfjs.js';
import { Bitmask, DevicePool, gpuBytes, Slab, SparseMLP } from '../../../src/index.js';
import { flush, slabTensor, TfMLP, tfDevice } from '../../../src/tfjs/index.js';
import { blockWeights } from './graphs.mjs';
import { type HostCopy, hostCopies } from './host-copies.js';
import { refusal } from './refusal.js';
import { errorOf, valuesFrom } from './values.js';

const SHAPE = { hidden: 64, rows: 160, vocabulary: 96 };

export const beforeBackend = () => refusal(() => tfDevice({ backend: () => ({}) }));

export async function start() {
  const adapter = (await navigator.gpu.requestAdapter()) as GPUAdapter;
  const device = await adapter.requestDevice();
  tf.registerBackend('webgpu', () => new WebGPUBackend(device, adapter.info));
  await tf.setBackend('webgpu');
}

function weightsOf(seed: number) {
  const { hidden, vocabulary } = SHAPE;
  const made: Record<string, Float32Array> = blockWeights(SHAPE, valuesFrom(seed));
  const square = (name: 'q' | 'k' | 'v' | 'o') => tf.tensor2d(made[name], [hidden, hidden]);
  const weights: BlockWeights = {
    q: square('q'),
    k: square('k'),
    v: square('v'),
    o: square('o'),
    head: tf.tensor2d(made.head, [hidden, vocabulary]),
  };
  const { gate, up, down } = made;
  return { weights, mlp: { hidden, gate, up, down, downRows: true } };
}

/** The block of the example beside the same in tfjs alone, for several lengths and masks. */
export async function block(lengths: readonly number[]) {
  const { hidden, rows } = SHAPE;
  const device = tfDevice(tf);
  const { weights, mlp } = weightsOf(3);
  const ours = await openBlock(weights, mlp);
  const [gate, up, down] = [mlp.gate, mlp.up, mlp.down].map((data) => tf.tensor2d(data, [rows, hidden]));
  const whole = (x: tf.Tensor2D, flags: tf.Tensor1D) =>
    tf.tidy(() => {
      const { residual, normed } = attend(x, weights);
      const g = tf.matMul(normed, gate, false, true);
      const a = tf.mul(tf.mul(g, tf.sigmoid(g)), tf.matMul(normed, up, false, true));
      const y = tf.matMul(tf.mul(a, flags) as tf.Tensor2D, down);
      return tf.matMul(tf.add(residual, y) as tf.Tensor2D, weights.head);
    });
  const some = Bitmask.fromIds(
    Array.from({ length: rows }, (_, i) => i).filter((i) => i % 3 !== 1),
    rows,
  );
  const values = valuesFrom(8);
  const found = [];
  for (const length of lengths) {
    const x = tf.tensor2d(values(length * hidden), [length, hidden]);
    for (const mask of [undefined, some]) {
      const read = async (tensor: tf.Tensor) => {
        const data = await tensor.data();
        tensor.dispose();
        return data as Float32Array;
      };
      const flags = tf.tensor1d(Float32Array.from({ length: rows }, (_, i) => Number(!mask || mask.has(i))));
      const expected = await read(whole(x, flags));
      flags.dispose();
      const none = tf.zeros([rows]) as tf.Tensor1D;
      const share = errorOf(await read(whole(x, none)), expected);
      none.dispose();
      const first = await read(ours.run(x, mask));
      const copied = ours.mlp.copies;
      const tensors = tf.memory().numTensors;
      const bytes = gpuBytes(device);
      let logits = x;
      // Recorded and submitted, but not read: nothing is to come to the host.
      const copies = await hostCopies(async () => {
        logits = ours.run(x, mask);
        flush(tf);
      });
      const again = await read(logits);
      found.push({
        length,
        masked: mask !== undefined,
        error: Math.max(errorOf(first, expected), errorOf(again, expected)),
        share,
        copies,
        deviceCopies: ours.mlp.copies - copied,
        grown: gpuBytes(device) - bytes + (tf.memory().numTensors - tensors),
      });
    }
    x.dispose();
  }
  ours.close();
  tf.dispose([gate, up, down, ...Object.values(weights)]);
  return { found, left: gpuBytes(device), tensors: tf.memory().numTensors };
}

/** tf.matMul on a slab's rows, with updates between that tfjs must not see too early. */
export async function slabRows() {
  const [pool, cols] = [40, 48];
  const device = tfDevice(tf);
  const values = valuesFrom(6);
  const table = values(pool * cols);
  const slab = new Slab(DevicePool.from(device, { embedding: { data: table, cols } }), { capacity: 16 });
  const empty = await refusal(() => slabTensor(tf, slab.view('embedding')));
  const results: { y: tf.Tensor; expected: number[] }[] = [];
  const copies: HostCopy[] = [];
  for (const ids of [[3, 9, 11, 39], [9, 11, 12, 13, 14, 20, 39], [0]]) {
    // What was asked for below is not submitted yet, and this update overwrites the rows it reads.
    flush(tf);
    slab.update(Bitmask.fromIds(ids, pool));
    const values1 = values(cols);
    const x = tf.tensor2d(values1, [1, cols]);
    copies.push(
      ...(await hostCopies(async () => {
        const y = tf.tidy(() =>
          tf.matMul(x, slabTensor(tf, slab.view('embedding')) as tf.Tensor2D, false, true),
        );
        const expected = [...slab.rowIds()].map((id) =>
          values1.reduce((sum, value, c) => sum + value * table[id * cols + c], 0),
        );
        results.push({ y, expected });
      })),
    );
    x.dispose();
  }
  const errors: number[] = [];
  for (const { y, expected } of results) {
    errors.push(errorOf((await y.data()) as Float32Array, expected));
    y.dispose();
  }
  const small = DevicePool.from(device, {
    odd: { data: values(30), cols: 10 },
    even: { data: values(12), cols: 4 },
  });
  const padded = new Slab(small, { dtype: { even: 'f16' } });
  padded.update(Bitmask.full(3));
  const odd = await refusal(() => slabTensor(tf, padded.view('odd')));
  const half = await refusal(() => slabTensor(tf, padded.view('even')));
  for (const one of [slab, padded, slab.pool, small]) (one as Slab).destroy();
  return { errors, copies, empty, odd, half, left: gpuBytes(device), tensors: tf.memory().numTensors };
}

export async function refusals() {
  const { hidden } = SHAPE;
  const device = tfDevice(tf);
  const { weights, mlp } = weightsOf(7);
  const layer = await SparseMLP.create(device, mlp);
  const ours = new TfMLP(tf, layer);
  const other = (await (await navigator.gpu.requestAdapter())?.requestDevice()) as GPUDevice;
  const foreign = await SparseMLP.create(other, mlp);
  const before = tf.memory().numTensors;
  const found = {
    device: await refusal(() => new TfMLP(tf, foreign)),
    type: await refusal(() => tf.tidy(() => ours.run(tf.zeros([1, hidden], 'int32')))),
    shape: await refusal(() => tf.tidy(() => ours.run(tf.zeros([2, hidden / 2])))),
    mask: await refusal(() => tf.tidy(() => ours.run(tf.zeros([2, hidden]), { mask: Bitmask.full(7) }))),
  };
  const kept = tf.memory().numTensors - before;
  foreign.destroy();
  other.destroy();
  ours.destroy();
  layer.destroy();
  tf.dispose(Object.values(weights));
  return { ...found, kept, left: gpuBytes(device) };
}
