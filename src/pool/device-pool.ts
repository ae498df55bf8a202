import { DeviceLimitError, OptionError, ShapeError } from '../errors.js';
import { allocate } from '../gpu/allocate.js';
import { BufferGroup, checkBindingSize, upload } from '../gpu/buffers.js';
import { chooseStorage, type RowStorage, type StorageChoice, softwareKernels } from '../gpu/storage.js';
import { checkStoredDtype, packRows, type StoredDtype } from '../gpu/layout.js';
import { QuantizationMeter } from '../quantize.js';
import {
  countRows,
  type FieldLayout,
  type FieldPlan,
  type FieldSpec,
  fieldOf,
  type MatrixQuantization,
  planField,
  quantizationOf,
} from './fields.js';
import type { HostPool } from './host-pool.js';

export interface PoolOptions {
  /** How rows are stored. Default f32. */
  dtype?: StoredDtype;
  /**
   * What kernels read the rows from. A texture is faster on some software adapters (lavapipe: 2 to 3 times); fused updates
   * and other runtimes want buffers. `auto`: what is known to be faster. Default buffer.
   */
  storage?: StorageChoice;
  /** Number of rows; needed only when every field is a GPU buffer. */
  rows?: number;
  /** Split the pool into shards of at most this many bytes a field. Default: the device's binding limit. */
  maxShardBytes?: number;
  label?: string;
  /**
   * Keep the arrays that the fields are given as, so that `rebuild` can upload them again: host memory as long as the pool
   * lives. Without it, or a `source`, the pool keeps nothing on the host.
   */
  keepSource?: boolean;
  /** Gives the fields again when the pool is rebuilt: read from a file, say, or buffers of the new device. */
  source?: () => PoolSource | Promise<PoolSource>;
}

/** What a pool is made of. */
export type PoolSource = Readonly<Record<string, FieldSpec>> | HostPool;

/** One buffer of a field, or one texture: rows [base, base + rows). */
export interface Shard {
  readonly memory: GPUBuffer | GPUTexture;
  readonly base: number;
  readonly rows: number;
}

/** How one field is stored. */
export interface Field extends FieldLayout {
  readonly storage: RowStorage;
  readonly shards: readonly Shard[];
  /** What storing each part as q8 or q4 cost; empty for the other dtypes and for buffers taken as they are. */
  readonly quantization: readonly MatrixQuantization[];
}

/** What a pool has on a device. */
interface PoolParts {
  readonly memory: BufferGroup;
  readonly fields: ReadonlyMap<string, Field>;
  destroy(): void;
}

/** All N rows of a layer on the device: fields that share the row index, sharded on common row boundaries. */
export class DevicePool {
  readonly rows: number;
  readonly label: string;
  private readonly options: PoolOptions;
  private readonly source: PoolOptions['source'];
  private parts: PoolParts;

  /**
   * Checks every shape against the device's limits, then allocates and uploads.
   * @throws ShapeError when fields disagree on N or lengths do not fit; OptionError for an unknown dtype or no fields;
   * DeviceLimitError when a row alone exceeds a binding; NonFiniteError, naming the matrix, for values that q8 or q4
   * cannot hold; DeviceLostError. Nothing stays allocated then.
   */
  static from(
    device: GPUDevice,
    fields: Readonly<Record<string, FieldSpec>>,
    options: PoolOptions = {},
  ): DevicePool {
    return new DevicePool(device, fields, options.label ?? 'pool', options);
  }

  /**
   * A pool of rows that are packed already, which are uploaded as they are.
   * @throws OptionError for a shard size that is none; DeviceLimitError when a row alone exceeds a binding;
   * DeviceLostError.
   */
  static fromHost(
    device: GPUDevice,
    host: HostPool,
    options: Pick<PoolOptions, 'storage' | 'maxShardBytes' | 'label' | 'keepSource' | 'source'> = {},
  ): DevicePool {
    return new DevicePool(device, host, options.label ?? host.label, options);
  }

  private constructor(device: GPUDevice, from: PoolSource, label: string, options: PoolOptions) {
    const { rows, plans } = planPool(from, label, options);
    this.rows = rows;
    this.label = label;
    this.options = options;
    this.source = options.source ?? (options.keepSource ? () => from : undefined);
    this.parts = this.store(device, plans);
  }

  /** Where the pool is. */
  get device(): GPUDevice {
    return this.parts.memory.device;
  }

  get fields(): ReadonlyMap<string, Field> {
    return this.parts.fields;
  }

  /**
   * Uploads the pool to `device`, from the arrays that it was asked to keep (`keepSource`) or from what its `source`
   * gives. Whatever reads the pool must be rebuilt after it.
   * @throws OptionError when it has neither; ShapeError when the source gives other rows or fields than it did; what
   * `from` and the source throw. The pool is then as it was.
   */
  async rebuild(device: GPUDevice): Promise<void> {
    if (!this.source) {
      throw new OptionError(
        `${this.label} kept nothing to be rebuilt from: make it with \`keepSource: true\`, or with a \`source\`.`,
      );
    }
    const { rows, plans } = planPool(await this.source(), this.label, this.options);
    if (rows !== this.rows || describe(plans) !== describe(this.fields.values())) {
      throw new ShapeError(
        `${this.label} had ${this.rows} rows of ${describe(this.fields.values())}; its source now gives ${rows} of ${describe(plans)}.`,
        { rows, expected: this.rows },
      );
    }
    const parts = await allocate(device, () => this.store(device, plans), this.label);
    this.parts.destroy();
    this.parts = parts;
  }

  private store(device: GPUDevice, plans: readonly FieldPlan[]): PoolParts {
    const { rows, label } = this;
    const storage = storageOf(device, plans, label, this.options);
    const shardRows = rowsOfShards(device, rows, plans, label, storage, this.options);
    const memory = new BufferGroup(device);
    const fields = new Map<string, Field>();
    try {
      for (const plan of plans)
        fields.set(plan.name, storeField(memory, plan, rows, shardRows, label, storage));
    } catch (error) {
      memory.destroy();
      throw error;
    }
    return { memory, fields, destroy: () => memory.destroy() };
  }

  /** @throws OptionError when there is no such field. */
  field(name: string): Field {
    return fieldOf(this, name);
  }

  /** What storing matrices as q8 or q4 cost, one entry a matrix, in the order of the fields. */
  get quantization(): readonly MatrixQuantization[] {
    return [...this.fields.values()].flatMap((field) => field.quantization);
  }

  /** Bytes of one stored row, all fields together. */
  get rowBytes(): number {
    let sum = 0;
    for (const field of this.fields.values()) sum += field.rowBytes;
    return sum;
  }

  /** What kernels read its rows from: the same for every field. */
  get storage(): RowStorage {
    const [{ storage }] = this.fields.values();
    return storage;
  }

  /** GPU bytes that the pool owns. */
  get bytes(): number {
    return this.parts.memory.bytes;
  }

  destroy(): void {
    this.parts.destroy();
  }
}

function planPool(
  from: PoolSource,
  label: string,
  options: PoolOptions,
): { rows: number; plans: readonly FieldPlan[] } {
  if (isHostPool(from)) {
    const packed = [...from.fields.values()].map((field) => ({
      ...field,
      source: [],
      packed: (begin: number, end: number) => from.fieldRows(field.name, begin, end),
    }));
    return { rows: from.rows, plans: packed };
  }
  const dtype = checkStoredDtype(options.dtype ?? 'f32');
  const names = Object.keys(from);
  if (names.length === 0) throw new OptionError(`${label} needs at least one field.`);
  const rows = countRows(label, from, options.rows);
  return { rows, plans: names.map((name) => planField(label, name, from[name], dtype)) };
}

/** By what it can do: an app without such a pool needs no code of it. No field is a function. */
const isHostPool = (from: PoolSource): from is HostPool => typeof from.fieldRows === 'function';

/** @throws OptionError for a storage that is none, and for a texture beside adopted buffers. */
function storageOf(
  device: GPUDevice,
  plans: readonly FieldPlan[],
  label: string,
  { storage = 'buffer' }: PoolOptions,
): RowStorage {
  const adopts = plans.some((plan) => plan.adopt);
  if (storage === 'auto' && adopts) return 'buffer';
  const chosen = chooseStorage(device, storage);
  if (chosen === 'texture' && adopts) {
    throw new OptionError(`${label} takes a buffer as it is, not as a texture.`, { storage });
  }
  return chosen;
}

/** @throws as `DevicePool.from`, for what cannot be on `device`. */
function rowsOfShards(
  device: GPUDevice,
  rows: number,
  plans: readonly FieldPlan[],
  label: string,
  storage: RowStorage,
  { maxShardBytes = Number.POSITIVE_INFINITY }: PoolOptions,
): number {
  if (!(maxShardBytes > 0)) {
    throw new OptionError(`maxShardBytes must be above 0; it is ${maxShardBytes}.`, { maxShardBytes });
  }
  const limit = Math.min(
    maxShardBytes,
    device.limits.maxStorageBufferBindingSize,
    device.limits.maxBufferSize,
    (storage === 'texture' && softwareKernels(device)?.most(device)) || Number.POSITIVE_INFINITY,
  );
  const widest = Math.max(...plans.map((plan) => plan.rowBytes));
  const whole = plans.some((plan) => plan.adopt);
  const shardRows = whole ? rows : Math.min(rows, Math.floor(limit / widest));
  if (shardRows < 1) {
    throw new DeviceLimitError(`one row of ${label} is ${widest} bytes; a ${storage} may have ${limit}.`, {
      widest,
      limit,
    });
  }
  for (const { name, adopt, rowBytes: bytes } of plans) {
    // Beside an adopted buffer, which is whole, no other field can be cut either.
    if (whole) checkBindingSize(device, `${label} ${name}`, rows * bytes);
    if (!adopt) continue;
    if (adopt.size < rows * bytes) {
      throw new ShapeError(
        `${label} ${name}: ${rows} rows need ${rows * bytes} bytes; the buffer has ${adopt.size}.`,
        {
          rows,
          bytes: adopt.size,
        },
      );
    }
  }
  return shardRows;
}

function storeField(
  memory: BufferGroup,
  plan: FieldPlan,
  rows: number,
  shardRows: number,
  label: string,
  storage: RowStorage,
): Field {
  const { name, dtype, parts, rowBytes, source, adopt } = plan;
  const pack = plan.packed ?? ((begin, end) => packRows(source, rows, begin, end, dtype, meters));
  const meters = source.map(() => new QuantizationMeter());
  const shards: Shard[] = [];
  const shard = (base: number, count: number): Shard['memory'] => {
    const called = `${label} ${name} ${base}`;
    const bytes = count * rowBytes;
    if (adopt) return adopt;
    const { device } = memory;
    const packed = pack(base, base + count);
    const textures = storage === 'texture' && softwareKernels(device);
    if (textures) {
      const texture = textures.create(memory, called, bytes);
      textures.upload(device, texture, packed);
      return texture;
    }
    const buffer = memory.storage(called, bytes);
    upload(device, buffer, 0, packed);
    return buffer;
  };
  for (let base = 0; base < rows; base += shardRows) {
    const count = Math.min(shardRows, rows - base);
    shards.push({ memory: shard(base, count), base, rows: count });
  }
  return { name, dtype, parts, rowBytes, storage, shards, quantization: quantizationOf(plan, meters) };
}

const describe = (fields: Iterable<FieldLayout>): string =>
  [...fields].map(({ name, dtype, parts }) => `${name} ${dtype} [${parts}]`).join(', ');
