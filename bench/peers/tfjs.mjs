/** TensorFlow.js on its WebGPU backend, eagerly: it has no other way. */
import * as tf from '@tensorflow/tfjs-core';
import { transposed } from './transpose.mjs';
import { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';

/** The limits that its own set-up asks for. */
const LIMITS = [
  'maxComputeWorkgroupStorageSize',
  'maxComputeWorkgroupsPerDimension',
  'maxStorageBufferBindingSize',
  'maxBufferSize',
  'maxComputeWorkgroupSizeX',
  'maxComputeInvocationsPerWorkgroup',
];

/** Its own set-up asks for a feature in a way that dawn.node refuses, so the device is made here. */
async function makeBackend() {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  const device = await adapter.requestDevice({
    label: 'tfjs',
    requiredFeatures: ['timestamp-query'].filter((feature) => adapter.features.has(feature)),
    requiredLimits: Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]])),
  });
  tf.removeBackend('webgpu');
  tf.registerBackend('webgpu', () => new WebGPUBackend(device, adapter.info));
  if (!(await tf.setBackend('webgpu'))) throw new Error('TensorFlow.js does not start on WebGPU');
  return { backend: tf.backend(), device };
}

/** @type {import('./contest.ts').PeerModule['open']} */
export async function open({ versions }) {
  const { backend, device } = await makeBackend();
  /** Weights on the device, by name; kept for the tasks that follow. */
  const kept = new Map();
  const keep = (name, make) => {
    if (!kept.has(name)) kept.set(name, tf.keep(tf.tidy(make)));
    return kept.get(name);
  };

  /** y on the host, of a function that makes it. */
  const toHost = async (make) => {
    const y = tf.tidy(make);
    try {
      return await y.data();
    } finally {
      y.dispose();
    }
  };

  function gathers({ weights, inputs }) {
    const openWith = (idsOf, dispose) => {
      let last = null;
      const table = keep('up', () => tf.tensor2d(weights.up, [weights.up.length / 1024, 1024]));
      return {
        async step(i) {
          last?.dispose();
          last = tf.tidy(() => tf.gather(table, idsOf(i), 0));
          // It batches what it is asked; nothing would start before a read.
          backend.endComputePassEncoder();
          backend.submitQueue();
          await device.queue.onSubmittedWorkDone();
          return null;
        },
        packed: () => last.data(),
        close() {
          last?.dispose();
          dispose?.();
        },
      };
    };
    return [
      {
        name: 'gather, ids from the host',
        open: async () => openWith((i) => tf.tensor1d(inputs[i].ids, 'int32')),
      },
      {
        name: 'gather, ids on the device',
        open: async () => {
          const ids = inputs.map((input) => tf.tensor1d(input.ids, 'int32'));
          return openWith(
            (i) => ids[i],
            () => tf.dispose(ids),
          );
        },
      },
    ];
  }

  function mlps({ batch, weights, inputs }) {
    const hidden = inputs[0].x.length / batch;
    const n = weights.up.length / hidden;
    const rows = (name) => keep(name, () => tf.tensor2d(weights[name], [n, hidden]));
    const columns = (name) =>
      keep(`${name} transposed`, () => tf.tensor2d(transposed(weights[name], hidden), [hidden, n]));
    const silu = (g) => tf.mul(g, tf.sigmoid(g));
    const openWith = (make, prepare = () => ({})) => {
      const xs = inputs.map(({ x }) => tf.tensor2d(x, [batch, hidden]));
      const extras = inputs.map(prepare);
      return {
        step: (i) => toHost(() => make(xs[i], extras[i])),
        close: () => tf.dispose([xs, extras]),
      };
    };
    const byRows = (x, gate, up, down) =>
      tf.matMul(tf.mul(silu(tf.matMul(x, gate, false, true)), tf.matMul(x, up, false, true)), down);
    const byColumns = (x, gate, up, down, transposed) =>
      tf.matMul(tf.mul(silu(tf.matMul(x, gate)), tf.matMul(x, up)), down, false, transposed);
    const ids = (input) => ({ ids: tf.tensor1d(input.ids, 'int32') });
    const g = (x) => tf.matMul(x, rows('gate'), false, true);
    const u = (x) => tf.matMul(x, rows('up'), false, true);
    const all = [
      {
        name: 'all rows',
        rare: batch > 1,
        make: (x) => byRows(x, rows('gate'), rows('up'), rows('down')),
      },
      {
        name: 'all rows, down transposed',
        rare: batch > 1,
        make: (x) => tf.matMul(tf.mul(silu(g(x)), u(x)), columns('down'), false, true),
      },
      {
        name: 'all rows, gate and up transposed',
        rare: batch === 1,
        make: (x) => byColumns(x, columns('gate'), columns('up'), rows('down'), false),
      },
      {
        name: 'all rows, all transposed',
        rare: batch === 1,
        make: (x) => byColumns(x, columns('gate'), columns('up'), columns('down'), true),
      },
    ];
    const some = [
      {
        name: 'gather rows, matMul',
        prepare: ids,
        make: (x, extra) =>
          byRows(x, ...['gate', 'up', 'down'].map((name) => tf.gather(rows(name), extra.ids, 0))),
      },
      {
        name: 'gather columns of gate and up, rows of down, matMul',
        prepare: ids,
        make: (x, extra) =>
          byColumns(
            x,
            tf.gather(columns('gate'), extra.ids, 1),
            tf.gather(columns('up'), extra.ids, 1),
            tf.gather(rows('down'), extra.ids, 0),
            false,
          ),
      },
      {
        name: 'gather rows of gate and up, columns of down, matMul',
        prepare: ids,
        make: (x, extra) => {
          const [gate, up] = ['gate', 'up'].map((name) => tf.gather(rows(name), extra.ids, 0));
          const a = tf.mul(silu(tf.matMul(x, gate, false, true)), tf.matMul(x, up, false, true));
          return tf.matMul(a, tf.gather(columns('down'), extra.ids, 1), false, true);
        },
      },
      {
        name: 'all rows, masked, down transposed',
        rare: true,
        prepare: (input) => {
          const mask = new Float32Array(n);
          for (const id of input.ids) mask[id] = 1;
          return { mask: tf.tensor2d(mask, [1, n]) };
        },
        make: (x, { mask }) =>
          tf.matMul(tf.mul(tf.mul(silu(g(x)), u(x)), mask), columns('down'), false, true),
      },
    ];
    return (inputs[0].ids ? some : all).map(({ name, rare, make, prepare }) => ({
      name,
      rare,
      open: async () => openWith(make, prepare),
    }));
  }

  return {
    name: 'tfjs',
    version: versions['@tensorflow/tfjs-backend-webgpu'],
    formulations: (task) => (task.kind === 'gather' ? gathers(task) : task.kind === 'mlp' ? mlps(task) : []),
    close() {
      tf.dispose([...kept.values()]);
      tf.removeBackend('webgpu');
    },
  };
}
