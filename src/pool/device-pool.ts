import { DeviceLimitError, OptionError, ShapeError } from '../errors.js';
import { BufferGroup, checkBindingSize, upload } from '../gpu/buffers.js';
import {
  checkStoredDtype,
  isQuantized,
  type MatrixData,
  type Part,
  packRows,
  rowBytes,
  type StoredDtype,
  valueVectors,
} from '../gpu/layout.js';
import { type QuantizationError, QuantizationMeter } from '../quantize.js';

/** A field given as values: [N, cols], or [cols, N] when `transposed`. */
export interface FieldData extends MatrixData {
  cols: number;
  transposed?: boolean;
  /** Stored as this instead of the pool's dtype. */
  storeAs?: StoredDtype;
}

/** A field whose rows are several matrices side by side, e.g. [gate | up]: each part padded to 16 bytes. */
export interface FieldParts {
  parts: readonly Part[];
  storeAs?: StoredDtype;
}

/**
 * A field that is on the device already: rows of `cols` values as gpu/layout.ts describes them, values then scales,
 * whole in one buffer that stays the caller's.
 */
export interface FieldBuffer {
  buffer: GPUBuffer;
  cols: number;
  storeAs: StoredDtype;
}

export type FieldSpec = FieldData | FieldParts | FieldBuffer;

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
export interface Field {
  readonly name: string;
  readonly dtype: StoredDtype;
  /** Columns of each part (one part unless given as `parts`). */
  readonly parts: readonly number[];
  /** Bytes of a stored row: all parts, each padded to 16. */
  readonly rowBytes: number;
  readonly shards: readonly Shard[];
  /** What storing each part as q8 or q4 cost; empty for the other dtypes and for buffers taken as they are. */
  readonly quantization: readonly MatrixQuantization[];
}

/** The error of one matrix that was quantised on the way in. */
export interface MatrixQuantization extends QuantizationError {
  readonly name: string;
  readonly dtype: StoredDtype;
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
    return new DevicePool(device, fields, options);
  }

  private constructor(device: GPUDevice, specs: Readonly<Record<string, FieldSpec>>, options: PoolOptions) {
    const dtype = checkStoredDtype(options.dtype ?? 'f32');
    const label = options.label ?? 'pool';
    const names = Object.keys(specs);
    if (names.length === 0) throw new OptionError(`${label} needs at least one field.`);
    const rows = countRows(label, specs, options.rows);
    const { maxShardBytes = Number.POSITIVE_INFINITY } = options;
    if (!(maxShardBytes > 0)) {
      throw new OptionError(`maxShardBytes must be above 0; it is ${maxShardBytes}.`, { maxShardBytes });
    }
    const limit = Math.min(
      maxShardBytes,
      device.limits.maxStorageBufferBindingSize,
      device.limits.maxBufferSize,
    );
    const plans = names.map((name) => planField(label, name, specs[name], dtype));
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

  private store({ name, dtype, parts, rowBytes, source, adopt }: FieldPlan, shardRows: number): Field {
    const { device, rows, label } = this;
    const meters = source.map(() => new QuantizationMeter());
    const shards: Shard[] = [];
    for (let base = 0; base < rows; base += shardRows) {
      const count = Math.min(shardRows, rows - base);
      const buffer = adopt ?? this.memory.storage(`${label} ${name} ${base}`, count * rowBytes);
      if (!adopt) upload(device, buffer, 0, packRows(source, rows, base, base + count, dtype, meters));
      shards.push({ buffer, base, rows: count });
    }
    const quantization = isQuantized(dtype)
      ? meters.map((meter, p) => ({ name: source[p].name as string, dtype, ...meter.result }))
      : [];
    return { name, dtype, parts, rowBytes, shards, quantization };
  }

  /** @throws OptionError when there is no such field. */
  field(name: string): Field {
    const field = this.fields.get(name);
    if (field) return field;
    throw new OptionError(
      `${this.label} has no field "${name}"; it has ${[...this.fields.keys()].join(', ')}.`,
      { name },
    );
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

interface FieldPlan {
  name: string;
  dtype: StoredDtype;
  parts: number[];
  rowBytes: number;
  source: readonly Part[];
  adopt?: GPUBuffer;
}

function planField(label: string, name: string, spec: FieldSpec, poolDtype: StoredDtype): FieldPlan {
  const dtype = checkStoredDtype(spec.storeAs ?? poolDtype);
  const given: readonly Part[] = 'parts' in spec ? spec.parts : 'buffer' in spec ? [] : [spec];
  const source = given.map((part, p) => ({
    ...part,
    name: part.name ?? `${label} ${name}${given.length > 1 ? ` part ${p}` : ''}`,
  }));
  const parts = 'buffer' in spec ? [spec.cols] : source.map((part) => part.cols);
  if (parts.length === 0) throw new OptionError(`field ${name} has no parts.`, { name });
  for (const cols of parts) checkCount(`columns of field ${name}`, cols);
  for (const { data, dtype: given = 'f16' } of source) {
    if (data instanceof Uint16Array && given !== 'f16' && given !== 'bf16') {
      throw new OptionError(`field ${name}: a Uint16Array holds f16 or bf16, not "${given}".`, {
        dtype: given,
      });
    }
  }
  // Room for one value more in the last vector: it would have to hold zeros.
  if ('buffer' in spec && valueVectors(spec.cols + 1, dtype) === valueVectors(spec.cols, dtype)) {
    throw new ShapeError(
      `field ${name}: a buffer is taken as it is, so the values of a row must fill vectors of 16 bytes.`,
      {
        cols: spec.cols,
        dtype,
      },
    );
  }
  const bytes = parts.reduce((sum, cols) => sum + rowBytes(cols, dtype), 0);
  return { name, dtype, parts, rowBytes: bytes, source, adopt: 'buffer' in spec ? spec.buffer : undefined };
}

function checkCount(what: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new ShapeError(`${what} must be 1 or more; it is ${value}.`, { value });
}

function countRows(label: string, specs: Readonly<Record<string, FieldSpec>>, given?: number): number {
  let rows = given;
  for (const [name, spec] of Object.entries(specs)) {
    if ('buffer' in spec) continue;
    for (const { data, cols } of 'parts' in spec ? spec.parts : [spec]) {
      checkCount(`columns of field ${name}`, cols);
      const count = data.length / cols;
      if (!Number.isInteger(count) || count === 0 || (rows !== undefined && rows !== count)) {
        const expected = rows === undefined ? 'a whole number of rows, at least one' : `${rows} rows`;
        throw new ShapeError(
          `${label} ${name}: ${data.length} values at ${cols} columns are ${count} rows; expected ${expected}.`,
          { name, length: data.length, cols, rows },
        );
      }
      rows = count;
    }
  }
  if (rows === undefined) throw new OptionError(`${label}: give \`rows\` when every field is a GPU buffer.`);
  checkCount(`rows of ${label}`, rows);
  return rows;
}
