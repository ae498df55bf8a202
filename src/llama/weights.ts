import type { StorageChoice } from '../gpu/storage.js';
import { DeviceLimitError, OptionError } from '../errors.js';
import { roundUp } from '../gpu/buffers.js';
import { checkStoredDtype, isQuantized, rowBytes, type StoredDtype } from '../gpu/layout.js';
import { loadTuningOnce } from '../gpu/saved-tuning.js';
import type { ActivationChoice } from '../mlp/activation.js';
import type { DevicePool } from '../pool/device-pool.js';
import type { OffDevicePool } from '../pool/pool.js';
import type { StoredPoolOptions } from '../pool/stored-pool.js';
import type { QuantizationError } from '../quantize.js';
import { type Budget, budgetRows, type RowSet, splitByUse, splitEvenly } from '../residency/budget.js';
import { type Checkpoint, requireTensors } from './checkpoint.js';
import type { LlamaConfig } from './config.js';
import { headQuads } from './kernels.js';
import { Loader } from './loader.js';

/** One decoder layer's weights on the device. Pools have a field `weight`, and `bias` where the model has one. */
export interface LayerWeights {
  inputNorm: GPUBuffer;
  /** [q | k | v] rows. */
  qkv: DevicePool;
  output: DevicePool;
  mlpNorm: GPUBuffer;
  gate: DevicePool;
  /** The sparse part: fields `up`, `down` and, with biases, `bias`. Not on the device where weights have `slots`. */
  mlp: DevicePool | OffDevicePool;
  downBias: GPUBuffer;
}

/** A model's weights on the device. */
export interface LlamaWeights {
  config: LlamaConfig;
  /** Of gate, up and down; the other matrices are stored as `otherDtype` of it. */
  dtype: StoredDtype;
  /** What storing matrices as q8 or q4 cost, by the tensor's name; empty for the other dtypes. */
  quantization: Readonly<Record<string, QuantizationError>>;
  activation: ActivationChoice;
  embedding: DevicePool;
  layers: LayerWeights[];
  finalNorm: GPUBuffer;
  /** The embedding itself when tied. */
  head: DevicePool;
  /** [context, headDim / 2] of (cos, sin). */
  turns: GPUBuffer;
  context: number;
  /**
   * Under a budget: C, how many rows of each layer's `mlp` a session may have on the device. Besides them it has 20 bytes
   * a slot for lists and moves, and the ring through which rows come: as large as the slots of a layer, at most 4 MiB.
   * Null: all rows are there, in `mlp` itself.
   */
  slots: readonly number[] | null;
  /** GPU bytes; a session's are counted by themselves. */
  bytes: number;
  /** Where the weights are. */
  readonly device: GPUDevice;
  /**
   * Reads the weights again, from the checkpoint (which must still be open) to `device`; sessions on them are rebuilt after
   * it, and do it where it is not done yet. Rows that a budget keeps off the device stay where they are. Calls for one
   * device at a time share the work.
   * @throws what `loadWeights` throws. The weights can then only be rebuilt.
   */
  rebuild(device: GPUDevice, onProgress?: LoadOptions['onProgress']): Promise<void>;
  destroy(): void;
}

export interface LoadOptions {
  /**
   * How weights are stored on the device. Default f32, or what the model was converted to. Arithmetic is f32, unless a session is asked for f16. q8 and q4 are for gate, up and
   * down; the embedding, the head and attention are f16 then.
   */
  dtype?: StoredDtype;
  /** What kernels read the matrices from; see `PoolOptions`. Default auto. */
  storage?: StorageChoice;
  /** Positions to make room for. Default: the model's own maximum, at most 4096. */
  context?: number;
  /**
   * Of all layers' up and down rows (`mlpRows`), with up's biases, what may be on the device at a time; the other
   * weights are there as ever. Without it, all.
   */
  budget?: Budget;
  /** Under a budget: slots go to layers by how often their rows were used, `least` at least; else all get as many. */
  use?: { readonly counts: readonly ArrayLike<number>[]; readonly least?: number };
  /**
   * Under a budget, where those rows are: in host memory (default), or left in the file of a model that was converted, on
   * disk or on a server; it must stay open then.
   */
  pool?: PoolHome;
  /** How the rows of a model that was converted are read: a cache for those that come from afar, sizes of reads. */
  stored?: StoredPoolOptions;
  /** Called after each tensor. */
  onProgress?: (done: number, total: number, name: string) => void;
}

/** Where rows are that need not be on the device. */
export type PoolHome = 'host' | 'file';
export const POOL_HOMES: readonly PoolHome[] = ['host', 'file'];

/** How matrices other than gate, up and down are stored where those are `dtype`. */
export function otherDtype(dtype: StoredDtype): StoredDtype {
  return isQuantized(dtype) ? 'f16' : dtype;
}

/** The context a model is loaded with. @throws OptionError when `wanted` is not an integer of 1 or more. */
export function chooseContext(config: LlamaConfig, wanted?: number): number {
  if (wanted !== undefined && (!Number.isInteger(wanted) || wanted < 1)) {
    throw new OptionError(`context must be an integer of 1 or more; it is ${wanted}.`, { context: wanted });
  }
  return Math.min(config.maxPositions, wanted ?? 4096);
}

/**
 * What a checkpoint's gate, up and down are stored as on the device.
 * @throws OptionError for an unknown dtype, or another one than a converted model has.
 */
export function chooseDtype({ bundle, name }: Checkpoint, wanted?: StoredDtype): StoredDtype {
  const dtype = checkStoredDtype(wanted ?? bundle?.dtype ?? 'f32');
  if (!bundle || dtype === bundle.dtype) return dtype;
  throw new OptionError(
    `${name} was converted to ${bundle.dtype}; as ${dtype} only the model that it was made from can be loaded.`,
    { dtype, converted: bundle.dtype },
  );
}

/** The rows of a model's layers that need not all be on the device: up and down, with up's bias where there is one. */
export function mlpRows(
  { hiddenSize, intermediateSize, layers, mlpBias }: LlamaConfig,
  dtype: StoredDtype,
): RowSet {
  // A bias is four f32, of which one counts: see `biasField`.
  return { layers, rows: intermediateSize, rowBytes: 2 * rowBytes(hiddenSize, dtype) + (mlpBias ? 16 : 0) };
}

/**
 * GPU bytes of a model's weights, rotary table and key/value cache, by part. With a budget, of the MLPs the gates are on
 * the device and of up and down as many rows as the budget holds; row maps, staging and activations come on top.
 *
 * @throws OptionError when the budget does not hold a row of each layer.
 */
export function estimateBytes(
  config: LlamaConfig,
  dtype: StoredDtype,
  context: number,
  budget?: Budget,
): Record<string, number> {
  const { hiddenSize: h, intermediateSize: n, vocabSize, layers, heads, kvHeads, headDim } = config;
  const rows = mlpRows(config, dtype);
  const mlp: Record<string, number> = budget
    ? { gate: layers * n * rowBytes(h, dtype), slabs: budgetRows(budget, rows) * rows.rowBytes }
    : { mlp: layers * 3 * n * rowBytes(h, dtype) };
  const wide = heads * headDim;
  const other = otherDtype(dtype);
  const attention = (wide + 2 * kvHeads * headDim) * rowBytes(h, other) + h * rowBytes(wide, other);
  return {
    embedding: vocabSize * rowBytes(h, other) * (config.tieWordEmbeddings ? 1 : 2),
    attention: layers * attention,
    ...mlp,
    norms: (2 * layers + 1) * roundUp(h, 4) * 4,
    rotary: context * headDim * 4,
    cache: layers * 2 * context * kvHeads * headQuads(headDim) * 16,
  };
}

/**
 * Refuses a model that cannot fit, before anything is allocated.
 * @throws DeviceLimitError with the buffer's bytes and the limit.
 */
export function checkFits(device: GPUDevice, config: LlamaConfig, dtype: StoredDtype, context: number): void {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  const single: Record<string, number> = {
    'one row of a weight': Math.max(
      rowBytes(config.hiddenSize, dtype),
      rowBytes(config.hiddenSize, otherDtype(dtype)),
      rowBytes(config.heads * config.headDim, otherDtype(dtype)),
    ),
    'the key cache of a layer': context * config.kvHeads * headQuads(config.headDim) * 16,
    'the rotary table': context * config.headDim * 4,
    'the logits': config.vocabSize * 4,
  };
  for (const [what, bytes] of Object.entries(single)) {
    if (bytes > limit) {
      throw new DeviceLimitError(
        `${what} needs ${bytes} bytes in one binding; this device allows ${limit}. ` +
          'Use a shorter context, or an adapter with larger limits.',
        { what, bytes, limit },
      );
    }
  }
}

/**
 * Uploads a checkpoint, one tensor at a time.
 * @throws ModelFormatError when tensors are missing or of another shape, DeviceLimitError when the device cannot hold
 * them: both before anything is allocated, or with the first matrix that it has no memory for; DeviceLostError; OptionError for an unknown dtype or a context below 1; NonFiniteError, naming
 * the tensor, for values that q8 or q4 cannot hold.
 */
export async function loadWeights(
  device: GPUDevice,
  checkpoint: Checkpoint,
  options: LoadOptions = {},
): Promise<LlamaWeights> {
  const { config } = checkpoint;
  const dtype = chooseDtype(checkpoint, options.dtype);
  const context = chooseContext(config, options.context);
  checkPool(checkpoint, options);
  const slots = options.budget ? splitSlots(options.budget, mlpRows(config, dtype), options.use) : null;
  requireTensors(checkpoint);
  checkFits(device, config, dtype, context);
  await loadTuningOnce(device);
  const loader = new Loader(device, checkpoint, { dtype, other: otherDtype(dtype) }, options);
  try {
    return await loader.load(context, slots);
  } catch (error) {
    loader.destroy();
    throw error;
  }
}

const splitSlots = (budget: Budget, rows: RowSet, use: LoadOptions['use']): number[] =>
  use ? splitByUse(budget, rows, use.counts, use.least) : splitEvenly(budget, rows);

/** @throws OptionError where rows cannot be left in a file. */
function checkPool({ bundle, name }: Checkpoint, { budget, pool = 'host' }: LoadOptions): void {
  if (!POOL_HOMES.includes(pool))
    throw new OptionError(`pool is "${String(pool)}"; it must be host or file.`, { pool });
  if (pool === 'host') return;
  if (!budget)
    throw new OptionError('pool file needs a budget: without one all rows are on the device.', { pool });
  if (!bundle) {
    throw new OptionError(
      `${name} has no rows that can be read one by one: write it anew with \`pairslab convert\`, or use pool host.`,
      { pool },
    );
  }
}
