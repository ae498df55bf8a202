/** jax-js, under jit and eagerly. Its functions consume what they are given; `.ref` keeps an array for later. */
import { defaultDevice, getWebGPUDevice, init, jit, nn, numpy as np } from '@jax-js/jax';
import { transposed } from './transpose.mjs';

/** @type {import('./contest.ts').PeerModule['open']} */
export async function open({ versions }) {
  const devices = await init('webgpu');
  if (!devices.includes('webgpu')) throw new Error(`jax-js has no WebGPU here, only ${devices.join(', ')}`);
  defaultDevice('webgpu');
  const device = getWebGPUDevice();
  /** Weights on the device, by name; kept for the tasks that follow. */
  const kept = new Map();
  const keep = async (name, make) => {
    if (!kept.has(name)) kept.set(name, await make().blockUntilReady());
    return kept.get(name);
  };
  const matrix = (weights, name, hidden) =>
    keep(name, () => np.array(weights[name], { shape: [weights[name].length / hidden, hidden] }));
  const columnsOf = (weights, name, hidden) =>
    keep(`${name} transposed`, () =>
      np.array(transposed(weights[name], hidden), { shape: [hidden, weights[name].length / hidden] }),
    );
  const idsOf = ({ ids }) => np.array(ids, { dtype: np.int32 });
  const ways = [
    ['jit', (f) => jit(f)],
    ['eager', (f) => f],
  ];

  function gathers({ weights, inputs }) {
    const openWith = async (wrap, onDevice) => {
      const table = await matrix(weights, 'up', 1024);
      const take = wrap((values, ids) => np.take(values, ids, 0));
      const ids = onDevice ? await Promise.all(inputs.map((input) => idsOf(input).blockUntilReady())) : null;
      let last = null;
      return {
        async step(i) {
          last?.dispose();
          last = await take(table.ref, ids ? ids[i].ref : idsOf(inputs[i])).blockUntilReady();
          return null;
        },
        packed: () => last.ref.data(),
        close() {
          last?.dispose();
          for (const array of ids ?? []) array.dispose();
          if (take.dispose) take.dispose();
        },
      };
    };
    return ways.flatMap(([way, wrap]) => [
      { name: `take, ids from the host, ${way}`, open: () => openWith(wrap, false) },
      { name: `take, ids on the device, ${way}`, open: () => openWith(wrap, true) },
    ]);
  }

  function mlps({ batch, weights, inputs }) {
    const hidden = inputs[0].x.length / batch;
    const n = weights.up.length / hidden;
    const rows = (x, gate, up, down) => {
      const g = np.matmul(x.ref, np.transpose(gate));
      const u = np.matmul(x, np.transpose(up));
      return np.matmul(nn.silu(g).mul(u), down);
    };
    const columns = (x, gate, up, down) => {
      const g = np.matmul(x.ref, gate);
      const u = np.matmul(x, up);
      return np.matmul(nn.silu(g).mul(u), down);
    };
    const downColumns = (x, gate, up, down) => {
      const g = np.matmul(x.ref, np.transpose(gate));
      const u = np.matmul(x, np.transpose(up));
      return np.matmul(nn.silu(g).mul(u), np.transpose(down));
    };
    const all = [
      { name: 'all rows', layout: [false, false, false], make: rows },
      { name: 'all rows, gate and up transposed', layout: [true, true, false], make: columns },
      { name: 'all rows, down transposed', layout: [false, false, true], make: downColumns },
    ];
    const some = [
      {
        name: 'take rows, matmul',
        layout: [false, false, false],
        extra: idsOf,
        make: (x, gate, up, down, ids) =>
          rows(x, np.take(gate, ids.ref, 0), np.take(up, ids.ref, 0), np.take(down, ids, 0)),
      },
      {
        name: 'take columns of gate and up, rows of down, matmul',
        layout: [true, true, false],
        extra: idsOf,
        make: (x, gate, up, down, ids) =>
          columns(x, np.take(gate, ids.ref, 1), np.take(up, ids.ref, 1), np.take(down, ids, 0)),
      },
      {
        name: 'all rows, masked',
        rare: true,
        layout: [false, false, false],
        extra: ({ ids }) => {
          const mask = new Float32Array(n);
          for (const id of ids) mask[id] = 1;
          return np.array(mask, { shape: [1, n] });
        },
        make: (x, gate, up, down, mask) => {
          const g = np.matmul(x.ref, np.transpose(gate));
          const u = np.matmul(x, np.transpose(up));
          return np.matmul(nn.silu(g).mul(u).mul(mask), down);
        },
      },
    ];
    const openWith = async (wrap, { layout, make, extra }) => {
      const parts = [];
      for (const [p, name] of ['gate', 'up', 'down'].entries())
        parts.push(await (layout[p] ? columnsOf : matrix)(weights, name, hidden));
      const f = wrap(make);
      const extras = extra ? await Promise.all(inputs.map((input) => extra(input).blockUntilReady())) : null;
      return {
        step(i) {
          const x = np.array(inputs[i].x, { shape: [batch, hidden] });
          const more = extras ? [extras[i].ref] : [];
          return f(x, ...parts.map((part) => part.ref), ...more).data();
        },
        close() {
          for (const array of extras ?? []) array.dispose();
          if (f.dispose) f.dispose();
        },
      };
    };
    return ways.flatMap(([way, wrap]) =>
      (inputs[0].ids ? some : all).map((one) => ({
        name: `${one.name}, ${way}`,
        rare: one.rare || (batch > 1 && way === 'eager'),
        open: () => openWith(wrap, one),
      })),
    );
  }

  return {
    name: 'jax-js',
    version: versions['@jax-js/jax'],
    formulations: (task) => (task.kind === 'gather' ? gathers(task) : task.kind === 'mlp' ? mlps(task) : []),
    close() {
      for (const array of kept.values()) array.dispose();
      device.destroy();
    },
  };
}
