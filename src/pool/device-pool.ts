import { DeviceLimitError, OptionError, ShapeError } from '../errors.js';
import { BufferGroup, checkBindingSize, upload } from '../gpu/buffers.js';
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
  /** Number of rows; needed only when every field is a GPU buffer. */
  rows?: number;
  /** Split the pool into shards of at most this many bytes a field. Default: the device's binding limit. */
  maxShardBytes?: number;
  label?: string;
}

/** One buffer of a field: rows [base, base + rows). */
export interface Shard {
  readonly buffer: GPUBuffer;
  readonly base: number;
  readonly rows: number;
}

/** How one field is stored. */
export interface Field extends FieldLayout {
  readonly shards: readonly Shard[];
  /** What storing each part as q8 or q4 cost; empty for the other dtypes and for buffers taken as they are. */
  readonly quantization: readonly MatrixQuantization[];
}

/** All N rows of a layer on the device: fields that share the row index, sharded on common row boundaries. */
export class DevicePool {
  readonly device: GPUDevice;
  readonly rows: number;
  readonly fields: ReadonlyMap<string, Field>;
  readonly label: string;
  private readonly memory: BufferGroup;

  /**
   * Checks every shape against the device's limits, then allocates and uploads.
   * @throws ShapeError when fields disagree on N or lengths do not fit; OptionError for an unknown dtype or no fields;
   * DeviceLimitError when a row alone exceeds a binding; NonFiniteError, naming the matrix, for values that q8 or q4
   * cannot hold. Nothing stays allocated then.
   */
  static from(
    device: GPUDevice,
    fields: Readonly<Record<string, FieldSpec>>,
    options: PoolOptions = {},
  ): DevicePool {
    const dtype = checkStoredDtype(options.dtype ?? 'f32');
    const label = options.label ?? 'pool';
    const names = Object.keys(fields);
    if (names.length === 0) throw new OptionError(`${label} needs at least one field.`);
    const rows = countRows(label, fields, options.rows);
    const plans = names.map((name) => planField(label, name, fields[name], dtype));
    return new DevicePool(device, rows, plans, label, options);
  }

  /**
   * A pool of rows that are packed already, which are uploaded as they are.
   * @throws OptionError for a shard size that is none; DeviceLimitError when a row alone exceeds a binding.
   */
  static fromHost(
    device: GPUDevice,
    host: HostPool,
    options: Pick<PoolOptions, 'maxShardBytes' | 'label'> = {},
  ): DevicePool {
    const plans = [...host.fields.values()].map((field) => ({
      ...field,
      source: [],
      packed: (begin: number, end: number) => host.fieldRows(field.name, begin, end),
    }));
    return new DevicePool(device, host.rows, plans, options.label ?? host.label, options);
  }

  private constructor(
    device: GPUDevice,
    rows: number,
    plans: readonly FieldPlan[],
    label: string,
    options: PoolOptions,
  ) {
    const { maxShardBytes = Number.POSITIVE_INFINITY } = options;
    if (!(maxShardBytes > 0)) {
      throw new OptionError(`maxShardBytes must be above 0; it is ${maxShardBytes}.`, { maxShardBytes });
    }
    const limit = Math.min(
      maxShardBytes,
      device.limits.maxStorageBufferBindingSize,
      device.limits.maxBufferSize,
    );
    const widest = Math.max(...plans.map((plan) => plan.rowBytes));
    const whole = plans.some((plan) => plan.adopt);
    const shardRows = whole ? rows : Math.min(rows, Math.floor(limit / widest));
    if (shardRows < 1) {
      throw new DeviceLimitError(`one row of ${label} is ${widest} bytes; a binding may have ${limit}.`, {
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
    this.device = device;
    this.rows = rows;
    this.label = label;
    this.memory = new BufferGroup(device);
    const made = new Map<string, Field>();
    try {
      for (const plan of plans) made.set(plan.name, this.store(plan, shardRows));
    } catch (error) {
      this.memory.destroy();
      throw error;
    }
    this.fields = made;
  }

  private store(plan: FieldPlan, shardRows: number): Field {
    const { device, rows, label } = this;
    const { name, dtype, parts, rowBytes, source, adopt } = plan;
    const pack = plan.packed ?? ((begin, end) => packRows(source, rows, begin, end, dtype, meters));
    const meters = source.map(() => new QuantizationMeter());
    const shards: Shard[] = [];
    for (let base = 0; base < rows; base += shardRows) {
      const count = Math.min(shardRows, rows - base);
      const buffer = adopt ?? this.memory.storage(`${label} ${name} ${base}`, count * rowBytes);
      if (!adopt) upload(device, buffer, 0, pack(base, base + count));
      shards.push({ buffer, base, rows: count });
    }
    return { name, dtype, parts, rowBytes, shards, quantization: quantizationOf(plan, meters) };
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

  /** GPU bytes that the pool owns. */
  get bytes(): number {
    return this.memory.bytes;
  }

  destroy(): void {
    this.memory.destroy();
  }
}
