import { OptionError, ShapeError } from '../errors.js';
import { checkStoredDtype, rowBytes, type StoredDtype } from '../gpu/layout.js';
import { chooseStorage, type RowStorage, type StorageChoice } from '../gpu/storage.js';
import type { TunedFor } from '../gpu/tuning.js';
import { ATTENTION_KERNEL, attentionTunedFor } from '../llama/attention-variants.js';
import { COPY_KERNEL, copyTunedFor } from '../slab/variants.js';

/** The kernels that have variants to choose among. */
export const TUNED_KERNELS = [
  'linear',
  'gate_up',
  'gate_up_active',
  'down',
  COPY_KERNEL,
  ATTENTION_KERNEL,
] as const;
export type TunedKernel = (typeof TUNED_KERNELS)[number];

/** What to tune for: a layer of `rows` rows of `hidden` values. */
export interface TuneShape {
  /** Columns of the matrices. */
  hidden: number;
  rows: number;
  dtype: StoredDtype;
  /** What the rows are read from; see `PoolOptions`. Default auto: what is known to be faster on the device. */
  storage?: StorageChoice;
  /**
   * Where rows are read from textures, the kernels that are tuned for a slab's rows besides, which are in buffers always:
   * for single tokens, since batches hardly run packed. Default: gate_up and down, as far as they are among the kernels.
   */
  packed?: readonly TunedKernel[];
  /** Only single tokens (false) or only batches (true). Default: both. */
  batched?: boolean;
  /** Rows that a step uses. Default: a quarter. */
  active?: number;
  /** Default: all that run over a layer's rows, or, where there are `heads`, attention. */
  kernels?: readonly TunedKernel[];
  /** Whether to measure the cost model's figures for it. Default: where `down` is among the kernels. */
  costs?: boolean;
  /** For attention: heads of `hidden` dimensions over `rows` cached positions. */
  heads?: { readonly heads: number; readonly kvHeads: number };
}

const ROW_KERNELS = TUNED_KERNELS.filter((kernel) => kernel !== ATTENTION_KERNEL);
/** What a shape is tuned for. */
const kernelsOf = ({ kernels, heads }: TuneShape): readonly TunedKernel[] =>
  kernels ?? (heads ? [ATTENTION_KERNEL] : ROW_KERNELS);

/** Kernels that read stored rows, wherever those are. */
const READERS: readonly TunedKernel[] = ['linear', 'gate_up', 'gate_up_active', 'down'];
/** What packed steps of an MLP run. */
const PACKED: readonly TunedKernel[] = ['gate_up', 'down'];
const packedOf = (shape: TuneShape): readonly TunedKernel[] =>
  shape.packed ?? PACKED.filter((kernel) => kernelsOf(shape).includes(kernel));

/** Whether the cost model's figures are measured for a shape. */
export const measuresCosts = (shape: TuneShape): boolean => shape.costs ?? kernelsOf(shape).includes('down');

/** One kernel to be timed for one shape: what becomes one entry of a tuning. */
export interface TuneTask {
  readonly for: TunedFor & { readonly kernel: TunedKernel };
  /** Columns of the matrices in values; a row copy is filed under its words instead. */
  readonly hidden: number;
  readonly rows: number;
  readonly dtype: StoredDtype;
  /** Share of the rows that are active, above 0 and at most 1. */
  readonly active: number;
  readonly heads?: TuneShape['heads'];
}

/**
 * Of short rows each byte costs more, since finding one takes as long as finding a long one. Measured on lavapipe with a
 * layer of 8192 x 128, f32, over densities of 5 to 50 %, writes/m of 0.05 to 0.5 and 1 or 8 uses: what `auto` takes by the
 * costs of the two above is 18 % behind the best on average and 72 % at worst, with these besides 3 % and 27 %.
 */
const SHORT_ROWS = { hidden: 256, rows: 8192 };

/** What is tuned for when nothing is said. Other shapes take what was found for the one nearest in columns. */
export function defaultShapes(dtype: StoredDtype = 'f32'): TuneShape[] {
  return [
    { hidden: 768, rows: 3072, dtype },
    { hidden: 2048, rows: 8192, dtype },
    { ...SHORT_ROWS, dtype, kernels: [], costs: true },
    ...attentionShapes({ heads: 32, kvHeads: 8, headDim: 64 }),
  ];
}

/** Cached positions that attention is tuned at: what lies between takes the nearest. */
const CONTEXTS = [128, 1024, 4096];

/** A single token's attention at short and at long contexts, up to the model's, and a batch's. */
function attentionShapes(
  { heads, kvHeads, headDim }: Pick<ModelSizes, 'heads' | 'kvHeads' | 'headDim'>,
  most = Number.POSITIVE_INFINITY,
): TuneShape[] {
  const shape = (rows: number, batched: boolean): TuneShape => ({
    hidden: headDim,
    rows,
    dtype: 'f32',
    batched,
    heads: { heads, kvHeads },
  });
  const contexts = CONTEXTS.filter((rows, i) => i === 0 || rows <= most);
  return [...contexts.map((rows) => shape(rows, false)), shape(CONTEXTS[0], true)];
}

/** The sizes of a LLaMA that its kernels' shapes follow from. */
export interface ModelSizes {
  hiddenSize: number;
  intermediateSize: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** The longest context. */
  maxPositions?: number;
}

/** The shapes that a model's layers run; their MLPs keep gate apart, so `gate_up` is not among them. */
export function modelShapes(sizes: ModelSizes, dtype: StoredDtype): TuneShape[] {
  const { hiddenSize: hidden, intermediateSize: rows, heads, kvHeads, headDim } = sizes;
  // Block dtypes are for MLPs; the rest of such a model is f16.
  const rest = dtype === 'q8' || dtype === 'q4' ? 'f16' : dtype;
  const wide = heads * headDim;
  const shapes: TuneShape[] = [
    { hidden, rows: wide + 2 * kvHeads * headDim, dtype: rest, kernels: ['linear'] },
    // A slab has up and down, by the gates that are there.
    { hidden, rows, dtype, kernels: ['gate_up_active', 'down', COPY_KERNEL], packed: ['linear', 'down'] },
  ];
  if (wide !== hidden) shapes.push({ hidden: wide, rows: hidden, dtype: rest, kernels: ['linear'] });
  if (rest !== dtype) shapes.push({ hidden, rows, dtype, kernels: ['linear'] });
  return [...shapes, ...attentionShapes(sizes, sizes.maxPositions)];
}

export const describeShape = ({
  hidden,
  rows,
  dtype,
}: Pick<TuneShape, 'hidden' | 'rows' | 'dtype'>): string => `${hidden}x${rows} ${dtype}`;

/**
 * One task for each kernel, dtype, batch kind, number of columns and storage, in the order of the shapes; those for rows
 * of slabs beside textures come last, where time runs out first.
 * @throws OptionError or ShapeError naming the shape that no variant covers; nothing has run then.
 */
export function tasksOf(device: GPUDevice, shapes: readonly TuneShape[]): TuneTask[] {
  if (shapes.length === 0) throw new OptionError('autotune needs at least one shape.');
  const tasks = new Map<string, TuneTask>();
  const packed: TuneTask[] = [];
  for (const shape of shapes) {
    checkShape(device, shape);
    const { hidden, rows, dtype, heads } = shape;
    const storage = chooseStorage(device, shape.storage ?? 'auto');
    const kernels = kernelsOf(shape);
    const active = (shape.active ?? Math.ceil(rows / 4)) / rows;
    for (const kernel of TUNED_KERNELS.filter((name) => kernels.includes(name))) {
      // Only one token at a time finds its own mask, and a copy has no batch.
      const single = kernel === 'gate_up_active' || kernel === COPY_KERNEL;
      for (const batched of single ? [false] : [false, true]) {
        if ((shape.batched ?? batched) !== batched) continue;
        const tuned =
          kernel === COPY_KERNEL
            ? copyTunedFor(rowBytes(hidden, dtype) / 4)
            : kernel === ATTENTION_KERNEL
              ? attentionTunedFor(hidden, rows, batched)
              : { kernel, dtype, batched, cols: hidden, ...inTexture(READERS.includes(kernel), storage) };
        const key = taskKey(tuned);
        if (!tasks.has(key)) tasks.set(key, { for: tuned, hidden, rows, dtype, active, heads });
      }
    }
    if (storage === 'texture' && !shape.batched) {
      for (const kernel of packedOf(shape))
        packed.push({ for: { kernel, dtype, batched: false, cols: hidden }, hidden, rows, dtype, active });
    }
  }
  for (const task of packed) {
    const key = taskKey(task.for);
    if (!tasks.has(key)) tasks.set(key, task);
  }
  return [...tasks.values()];
}

/** What is read from buffers says nothing of it. */
const inTexture = (reads: boolean, storage: RowStorage): Pick<TunedFor, 'storage'> =>
  reads && storage === 'texture' ? { storage } : {};

/** Equal for what one entry of a tuning is for. */
export const taskKey = ({ kernel, dtype, batched, cols, storage = 'buffer' }: TunedFor): string =>
  `${kernel} ${dtype} ${batched} ${cols} ${storage}`;

function checkShape(device: GPUDevice, shape: TuneShape): void {
  const { hidden, rows, active, kernels = [], packed = [] } = shape;
  const name = `shape ${describeShape(shape)}`;
  const details = { hidden, rows, dtype: shape.dtype };
  const counts = Object.entries({ hidden, rows, ...(active === undefined ? {} : { active }) });
  for (const [field, value] of counts) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new ShapeError(`${name}: ${field} must be an integer of 1 or more; it is ${value}.`, details);
  }
  if (active !== undefined && active > rows)
    throw new ShapeError(`${name}: ${active} active rows are more than there are.`, { ...details, active });
  const unknown = [...kernels, ...packed].find((kernel) => !TUNED_KERNELS.includes(kernel));
  if (unknown !== undefined)
    throw new OptionError(`${name}: kernel "${unknown}" is not one of ${TUNED_KERNELS.join(', ')}.`, {
      ...details,
      kernel: unknown,
    });
  const { heads } = shape;
  if (
    kernelsOf(shape).includes(ATTENTION_KERNEL) &&
    (!heads || heads.heads % heads.kvHeads !== 0 || hidden % 2 !== 0)
  )
    throw new ShapeError(
      `${name}: attention needs heads of an even number of dimensions, in whole groups; it is given ${JSON.stringify(heads)}.`,
      { ...details, heads },
    );
  try {
    checkStoredDtype(shape.dtype);
  } catch (cause) {
    throw new OptionError(`${name}: no variant covers it: ${(cause as Error).message}`, details);
  }
  // A gate_up row is two; batched activations have 16 rows of f32.
  const bytes = Math.max(2 * rowBytes(hidden, shape.dtype), 64 * hidden);
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  if (bytes > limit)
    throw new ShapeError(
      `${name}: no variant covers it: one row needs ${bytes} bytes in one binding; this device allows ${limit}.`,
      { ...details, bytes, limit },
    );
}
