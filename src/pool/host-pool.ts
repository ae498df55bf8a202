import { OptionError, ShapeError } from '../errors.js';
import { checkStoredDtype, packRows, type StoredDtype } from '../gpu/layout.js';
import { QuantizationMeter } from '../quantize.js';
import {
  countRows,
  type FieldLayout,
  type FieldSpec,
  fieldOf,
  type MatrixQuantization,
  planField,
  quantizationOf,
} from './fields.js';
import { bundleBytes, bundleOffsets, checkRead, type OffDevicePool, type ReadOptions } from './pool.js';

export interface HostPoolOptions {
  /** How rows are stored. Default f32. */
  dtype?: StoredDtype;
  label?: string;
}

/** All N rows of a layer in host memory, bundled. It needs no device, so it outlives one that is lost. */
export class HostPool implements OffDevicePool {
  readonly rows: number;
  readonly fields: ReadonlyMap<string, FieldLayout>;
  readonly rowBytes: number;
  readonly label: string;
  /** [N, rowBytes]. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** What storing matrices as q8 or q4 cost, one entry a matrix, in the order of the fields. */
  readonly quantization: readonly MatrixQuantization[];

  /**
   * From values, stored and quantised as `DevicePool.from` does.
   * @throws what that throws for the same values; OptionError for a field that is a GPU buffer.
   */
  static from(fields: Readonly<Record<string, FieldSpec>>, options: HostPoolOptions = {}): HostPool {
    const { label = 'host pool' } = options;
    const dtype = checkStoredDtype(options.dtype ?? 'f32');
    const plans = Object.entries(fields).map(([name, spec]) => planField(label, name, spec, dtype));
    if (plans.length === 0) throw new OptionError(`${label} needs at least one field.`);
    for (const { name, adopt } of plans)
      if (adopt) throw new OptionError(`${label} ${name}: a GPU buffer cannot be a field of a host pool.`);
    const rows = countRows(label, fields);
    const bundle = bundleBytes(plans);
    const bytes = new Uint8Array(rows * bundle);
    const quantization: MatrixQuantization[] = [];
    let start = 0;
    for (const plan of plans) {
      const meters = plan.source.map(() => new QuantizationMeter());
      const { rowBytes } = plan;
      const packed = packRows(plan.source, rows, 0, rows, plan.dtype, meters);
      for (let r = 0; r < rows; r++)
        bytes.set(packed.subarray(r * rowBytes, (r + 1) * rowBytes), r * bundle + start);
      start += rowBytes;
      quantization.push(...quantizationOf(plan, meters));
    }
    const layouts = plans.map(({ name, dtype, parts, rowBytes }) => ({ name, dtype, parts, rowBytes }));
    return new HostPool(layouts, bytes, label, quantization);
  }

  /**
   * Takes bundled rows as they are, [N, rowBytes], without a copy.
   * @throws ShapeError when the bytes are not a whole number of rows, at least one.
   */
  constructor(
    fields: readonly FieldLayout[],
    bytes: Uint8Array<ArrayBuffer>,
    label = 'host pool',
    quantization: readonly MatrixQuantization[] = [],
  ) {
    this.label = label;
    this.fields = new Map(fields.map((field) => [field.name, field]));
    this.rowBytes = bundleBytes(fields);
    this.rows = bytes.length / this.rowBytes;
    this.bytes = bytes;
    this.quantization = quantization;
    if (!Number.isInteger(this.rows) || this.rows < 1) {
      throw new ShapeError(
        `${label}: ${bytes.length} bytes are not a whole number of rows of ${this.rowBytes} bytes.`,
        {
          bytes: bytes.length,
          rowBytes: this.rowBytes,
        },
      );
    }
  }

  field(name: string): FieldLayout {
    return fieldOf(this, name);
  }

  readNow(ids: Uint32Array, into: Uint8Array<ArrayBuffer>, begin = 0, end = ids.length): void {
    const { bytes, rowBytes } = this;
    const wanted = begin === 0 && end === ids.length ? ids : ids.subarray(begin, end);
    checkRead(this, wanted, into);
    for (let i = 0; i < wanted.length; i++)
      into.set(bytes.subarray(wanted[i] * rowBytes, (wanted[i] + 1) * rowBytes), i * rowBytes);
  }

  async read(ids: Uint32Array, into: Uint8Array<ArrayBuffer>, options: ReadOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    this.readNow(ids, into);
    options.onProgress?.(ids.length, ids.length);
  }

  /** Rows `[begin, end)` of one field, [rows, field.rowBytes], as a pool on the device keeps them. */
  fieldRows(name: string, begin = 0, end = this.rows): Uint8Array<ArrayBuffer> {
    const { rowBytes } = this.field(name);
    const start = bundleOffsets(this.fields.values()).get(name) as number;
    const out = new Uint8Array((end - begin) * rowBytes);
    for (let r = begin; r < end; r++) {
      const at = r * this.rowBytes + start;
      out.set(this.bytes.subarray(at, at + rowBytes), (r - begin) * rowBytes);
    }
    return out;
  }
}
