import { RowError, ShapeError } from '../errors.js';
import type { FieldLayout } from './fields.js';

/** All N rows of a layer: fields that share the row index. Its home is the device, the host, or a store to read from. */
export interface Pool {
  /** N. */
  readonly rows: number;
  readonly fields: ReadonlyMap<string, FieldLayout>;
  /** Bytes of one stored row, all fields together. */
  readonly rowBytes: number;
  readonly label: string;
  /** @throws OptionError when there is no such field. */
  field(name: string): FieldLayout;
}

export interface ReadOptions {
  /** Ends the read; it then throws the signal's reason. */
  signal?: AbortSignal;
  /** Rows that have arrived, of those asked for. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * A pool whose rows are not on the device. They are *bundled*: the fields of one row side by side, in the order of
 * `fields`, each as gpu/layout.ts describes it, so that one read brings a row and one upload brings many.
 */
export interface OffDevicePool extends Pool {
  /**
   * Puts row `ids[i]` at `into[i * rowBytes]`, for every i. A read that fails may have written to `into`.
   * @throws RowError for an id that is not a row; ShapeError when `into` is too small; PoolError when rows cannot be
   * had; the signal's reason when it is aborted.
   */
  read(ids: Uint32Array, into: Uint8Array<ArrayBuffer>, options?: ReadOptions): Promise<void>;
  /**
   * The same at once, rows `ids[begin]` to before `ids[end]`, the first of them at `into[0]`. Only pools in host
   * memory have it.
   */
  readNow?(ids: Uint32Array, into: Uint8Array<ArrayBuffer>, begin?: number, end?: number): void;
}

/** For pools: throws RowError or ShapeError unless every id is a row and all of them fit `into`. */
export function checkRead(pool: Pool, ids: Uint32Array, into: Uint8Array, count = ids.length): void {
  if (into.byteLength < count * pool.rowBytes) {
    throw new ShapeError(
      `${count} rows of ${pool.label} are ${count * pool.rowBytes} bytes; there is room for ${into.byteLength}.`,
      { rows: count, bytes: into.byteLength },
    );
  }
  for (const id of ids) {
    if (id >= pool.rows) {
      throw new RowError(`row ${id} is not in [0, N) with N = ${pool.rows} in ${pool.label}`, {
        id,
        size: pool.rows,
      });
    }
  }
}

/** Where each field begins in a bundled row, in bytes, by name. */
export function bundleOffsets(fields: Iterable<FieldLayout>): Map<string, number> {
  const offsets = new Map<string, number>();
  let at = 0;
  for (const { name, rowBytes } of fields) {
    offsets.set(name, at);
    at += rowBytes;
  }
  return offsets;
}

export function bundleBytes(fields: Iterable<FieldLayout>): number {
  let sum = 0;
  for (const { rowBytes } of fields) sum += rowBytes;
  return sum;
}
