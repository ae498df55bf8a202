import { storageBuffer, destroyBuffer, upload } from '../../src/gpu/buffers.js';
import { finished, Readback, readBuffer } from '../../src/gpu/readback.js';
import { STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import { chooseStorage, type RowStorage, type StorageChoice } from '../../src/gpu/storage.js';
import { Bitmask } from '../../src/mask/index.js';
import { fusedUpdate } from '../../src/mlp/fused-update.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import type { Strategy } from '../../src/mlp/strategy.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { Slab } from '../../src/slab/slab.js';
import { useSoftwareKernels } from '../../src/software-kernels.js';
import { version } from '../../package.json';
import { type Formulation, type Opened, OURS, type Runtime } from './contest.js';
import { ACTIVE, GATHERED, HIDDEN, N, type Task } from './work.js';

/** pairslab as the peers' suite runs it: one layer a dtype, shared by the formulations. */
export function pairslabRuntime(device: GPUDevice, choice: StorageChoice): Runtime {
  // A page's device knows nothing of them yet.
  useSoftwareKernels(device);
  const storage = chooseStorage(device, choice);
  const layers = new Map<string, Promise<SparseMLP>>();
  const layer = ({ weights }: Task, dtype: StoredDtype, storage: RowStorage): Promise<SparseMLP> => {
    const key = `${dtype} ${storage}`;
    let made = layers.get(key);
    if (!made) {
      made = SparseMLP.create(device, {
        hidden: HIDDEN,
        ...weights,
        downRows: true,
        capacity: ACTIVE,
        dtype,
        storage,
        fused: fusedUpdate,
        label: 'bench mlp',
      });
      layers.set(key, made);
    }
    return made;
  };
  return {
    name: OURS,
    version,
    formulations(task) {
      if (task.kind === 'gather') return gathers(device, task, storage);
      const dtype: StoredDtype = task.kind === 'int4' ? 'q4' : 'f32';
      const strategies: Strategy[] = task.inputs[0].ids
        ? ['indexed', 'paired', 'repack', 'dense']
        : ['dense'];
      // Batches of quantised rows are read a word at a time, for which textures are no faster.
      const storages = new Set<RowStorage>(task.kind === 'int4' ? [storage, 'buffer'] : [storage]);
      return [...storages].flatMap((storage) =>
        strategies.flatMap((strategy) => [
          {
            name: `${strategy}, forward${fromOf(storage, storages)}`,
            storage,
            open: async () => forward(await layer(task, dtype, storage), task, strategy),
          },
          {
            name: `${strategy}, own buffers${fromOf(storage, storages)}`,
            storage,
            open: async () => encoded(await layer(task, dtype, storage), task, strategy),
          },
        ]),
      );
    },
    async close() {
      for (const made of layers.values()) (await made).destroy();
      layers.clear();
    },
  };
}

/** Said where there is another. */
const fromOf = (storage: RowStorage, all: ReadonlySet<RowStorage>): string =>
  all.size > 1 ? `, from a ${storage}` : '';

/** Whether a layer's rows can be stored as `dtype`. */
export const canStore = (dtype: string): boolean => (STORED_DTYPES as readonly string[]).includes(dtype);

function masksOf({ inputs }: Task): (Bitmask | undefined)[] {
  return inputs.map(({ ids }) => (ids ? Bitmask.fromIds(ids, N) : undefined));
}

/** Out of a table in a buffer, as the peers have it, and where textures are read faster, out of one in a texture too. */
function gathers(device: GPUDevice, task: Task, fastest: RowStorage): Formulation[] {
  const open = async (storage: RowStorage, update: (slab: Slab, i: number) => void): Promise<Opened> => {
    const pool = DevicePool.from(device, { table: { data: task.weights.up, cols: HIDDEN } }, { storage });
    const slab = new Slab(pool, { capacity: GATHERED });
    return {
      async step(i) {
        update(slab, i);
        await finished(device);
        return null;
      },
      async packed() {
        const { buffer, shape } = slab.view('table');
        return new Float32Array(await readBuffer(device, buffer, 0, 4 * shape[0] * shape[1]));
      },
      close() {
        slab.destroy();
        pool.destroy();
      },
    };
  };
  const masks = masksOf(task) as Bitmask[];
  const updates: Readonly<Record<string, (slab: Slab, i: number) => void>> = {
    repackByIds: (slab, i) => slab.repackByIds(task.inputs[i].ids as Int32Array),
    repackByMask: (slab, i) => slab.repackByMask(masks[i]),
  };
  const storages: RowStorage[] = fastest === 'buffer' ? ['buffer'] : ['buffer', 'texture'];
  return storages.flatMap((storage) =>
    Object.entries(updates).map(([name, update]) => ({
      name: storage === 'buffer' ? name : `${name}, from a texture`,
      storage,
      open: () => open(storage, update),
    })),
  );
}

/** The short way: x from the host, y to the host. */
function forward(mlp: SparseMLP, task: Task, strategy: Strategy): Opened {
  const masks = masksOf(task);
  return {
    step: (i) => mlp.forward(task.inputs[i].x, { mask: masks[i], strategy }),
    close() {},
  };
}

/** With buffers and readback that stay. */
function encoded(mlp: SparseMLP, task: Task, strategy: Strategy): Opened {
  const { device } = mlp;
  const { batch, inputs } = task;
  const masks = masksOf(task);
  const bytes = 4 * batch * HIDDEN;
  const x = storageBuffer(device, 'bench x', bytes);
  const y = storageBuffer(device, 'bench y', bytes);
  const readback = new Readback(device, bytes);
  return {
    async step(i) {
      upload(device, x, 0, inputs[i].x as Float32Array<ArrayBuffer>);
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      mlp.encode(pass, { x, y, batch, mask: masks[i], strategy });
      pass.end();
      readback.encodeCopy(encoder, y, 0, 0, bytes);
      device.queue.submit([encoder.finish()]);
      mlp.submitted();
      return new Float32Array(await readback.read(bytes));
    },
    close() {
      readback.destroy();
      destroyBuffer(device, x);
      destroyBuffer(device, y);
    },
  };
}
