/** onnxruntime-web's WebGPU provider. */
import * as ort from 'onnxruntime-web/webgpu';
import { gatherModel, int4Model, mlpModel, toInt4 } from './models.mjs';
import { transposed } from './transpose.mjs';

const GROUP = 32;
/** GPUBufferUsage by name: STORAGE, COPY_SRC and COPY_DST. */
const STORAGE = 0x80 | 0x04 | 0x08;

/** @type {import('./contest.ts').PeerModule['open']} */
export async function open({ versions, wasm }) {
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads = 1;
  if (wasm) ort.env.wasm.wasmPaths = wasm;
  const session = (model, options = {}) =>
    ort.InferenceSession.create(model, { executionProviders: [{ name: 'webgpu' }], ...options });
  const device = () => ort.env.webgpu.device;
  const idsTensor = ({ ids }) => new ort.Tensor('int32', ids, [ids.length]);

  /** A tensor on the device that stays. */
  const onDevice = async (type, data, dims) => {
    const gpu = await device();
    const buffer = gpu.createBuffer({ label: 'onnxruntime bench', size: 4 * data.length, usage: STORAGE });
    gpu.queue.writeBuffer(buffer, 0, data);
    return { buffer, tensor: ort.Tensor.fromGpuBuffer(buffer, { dataType: type, dims }) };
  };

  function gathers({ weights, inputs }) {
    const count = inputs[0].ids.length;
    const openWith = async (idsOnDevice, outputKept) => {
      const model = gatherModel(weights.up, [weights.up.length / 1024, 1024], count);
      const made = await session(model, { preferredOutputLocation: 'gpu-buffer' });
      const gpu = await device();
      const ids = idsOnDevice
        ? await Promise.all(inputs.map((input) => onDevice('int32', input.ids, [count])))
        : inputs.map((input) => ({ tensor: idsTensor(input) }));
      const y = outputKept ? await onDevice('float32', new Float32Array(count * 1024), [count, 1024]) : null;
      let last = null;
      return {
        async step(i) {
          if (last && !y) last.dispose();
          last = (await made.run({ ids: ids[i].tensor }, y ? { y: y.tensor } : ['y'])).y;
          await gpu.queue.onSubmittedWorkDone();
          return null;
        },
        packed: () => readBack(gpu, last.gpuBuffer, 4 * count * 1024),
        async close() {
          if (last && !y) last.dispose();
          await made.release();
          for (const { buffer } of [...ids, ...(y ? [y] : [])]) buffer?.destroy();
        },
      };
    };
    return [
      { name: 'Gather, ids from the host', open: () => openWith(false, false) },
      { name: 'Gather, ids from the host, output buffer kept', open: () => openWith(false, true) },
      { name: 'Gather, ids on the device', open: () => openWith(true, false) },
      { name: 'Gather, ids on the device, output buffer kept', open: () => openWith(true, true) },
    ];
  }

  /** x from the host, y to the host, both through onnxruntime. */
  async function plain(model, { batch, inputs }, extra) {
    const made = await session(model());
    const hidden = inputs[0].x.length / batch;
    const feeds = inputs.map((input) => ({
      x: new ort.Tensor('float32', input.x, [batch, hidden]),
      ...extra(input),
    }));
    return {
      step: async (i) => (await made.run(feeds[i])).y.data,
      close: () => made.release(),
    };
  }

  /** With buffers that stay, and what it records replayed. */
  async function captured(model, { batch, inputs }, extra) {
    const made = await session(model(), { enableGraphCapture: true, preferredOutputLocation: 'gpu-buffer' });
    const hidden = inputs[0].x.length / batch;
    const gpu = await device();
    const bytes = 4 * batch * hidden;
    const x = await onDevice('float32', inputs[0].x, [batch, hidden]);
    const y = await onDevice('float32', new Float32Array(batch * hidden), [batch, hidden]);
    const extras = inputs.map(extra);
    const more = {};
    for (const [name, tensor] of Object.entries(extras[0]))
      more[name] = await onDevice(tensor.type, tensor.data, tensor.dims);
    const feeds = Object.fromEntries(
      Object.entries({ x, ...more }).map(([name, { tensor }]) => [name, tensor]),
    );
    return {
      async step(i) {
        gpu.queue.writeBuffer(x.buffer, 0, inputs[i].x);
        for (const [name, { buffer }] of Object.entries(more))
          gpu.queue.writeBuffer(buffer, 0, extras[i][name].data);
        await made.run(feeds, { y: y.tensor });
        return readBack(gpu, y.buffer, bytes);
      },
      async close() {
        await made.release();
        for (const { buffer } of [x, y, ...Object.values(more)]) buffer.destroy();
      },
    };
  }

  function mlps(task) {
    const { batch, weights, inputs } = task;
    const hidden = inputs[0].x.length / batch;
    const n = weights.up.length / hidden;
    const columns = () => ({
      gate: transposed(weights.gate, hidden),
      up: transposed(weights.up, hidden),
      down: weights.down,
    });
    const shape = { n, hidden, batch };
    const none = () => ({});
    const ids = (input) => ({ ids: idsTensor(input) });
    const masks = ({ ids: rows }) => {
      const mask = new Float32Array(n);
      for (const row of rows) mask[row] = 1;
      return { mask: new ort.Tensor('float32', mask, [1, n]) };
    };
    const count = inputs[0].ids?.length;
    const all = [
      {
        name: 'all rows, Gemm',
        rare: batch === 1,
        model: () => mlpModel(weights, { ...shape, rows: true }),
        extra: none,
      },
      {
        name: 'all rows, MatMul with gate and up transposed',
        model: () => mlpModel(columns(), { ...shape, rows: false }),
        extra: none,
      },
    ];
    const some = [
      {
        name: 'Gather rows, Gemm',
        model: () => mlpModel(weights, { ...shape, rows: true, count }),
        extra: ids,
      },
      {
        name: 'Gather columns of gate and up, rows of down, MatMul',
        model: () => mlpModel(columns(), { ...shape, rows: false, count }),
        extra: ids,
      },
      {
        name: 'all rows, Gemm, masked',
        rare: true,
        model: () => mlpModel(weights, { ...shape, rows: true, mask: true }),
        extra: masks,
      },
      {
        name: 'all rows, MatMul, masked',
        rare: true,
        model: () => mlpModel(columns(), { ...shape, rows: false, mask: true }),
        extra: masks,
      },
    ];
    return both(count ? some : all, task);
  }

  /** Replaying saves what recording costs the CPU: nothing that shows where a step takes long. */
  function both(models, task) {
    return models.flatMap(({ name, tolerance, rare, model, extra }) => [
      { name, tolerance, rare, open: () => plain(model, task, extra) },
      {
        name: `${name}, graph capture`,
        tolerance,
        rare: rare || (task.batch > 1 && task.kind === 'mlp'),
        open: () => captured(model, task, extra),
      },
    ]);
  }

  function int4s(task) {
    const { batch, weights, inputs } = task;
    const hidden = inputs[0].x.length / batch;
    const n = weights.up.length / hidden;
    let packed;
    const pack = () => {
      packed ??= {
        gate: toInt4(weights.gate, GROUP),
        up: toInt4(weights.up, GROUP),
        down: toInt4(transposed(weights.down, hidden), GROUP),
      };
      return packed;
    };
    const model = (accuracy) => () => int4Model(pack(), { n, hidden, batch, group: GROUP, accuracy });
    const none = () => ({});
    return both(
      [
        { name: 'MatMulNBits, x as f32', model: model(1), extra: none },
        // x and a are rounded to 8 bits as well; the largest of 16,384 errors is about four times the usual one.
        { name: 'MatMulNBits, x as int8', rare: true, tolerance: 0.1, model: model(4), extra: none },
      ],
      task,
    );
  }

  return {
    name: 'onnxruntime-web',
    version: versions['onnxruntime-web'],
    formulations: (task) =>
      task.kind === 'gather' ? gathers(task) : task.kind === 'mlp' ? mlps(task) : int4s(task),
    close() {},
  };
}

async function readBack(gpu, source, bytes) {
  const staging = gpu.createBuffer({ label: 'onnxruntime bench read', size: bytes, usage: 0x01 | 0x08 });
  const encoder = gpu.createCommandEncoder();
  encoder.copyBufferToBuffer(source, 0, staging, 0, bytes);
  gpu.queue.submit([encoder.finish()]);
  await staging.mapAsync(1);
  const values = new Float32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  return values;
}
