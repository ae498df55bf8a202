import { ModelFormatError } from '../errors.js';
import { rowBytes, STORED_DTYPES, type StoredDtype } from '../gpu/layout.js';
import {
  type ByteSource,
  isObject,
  type JsonObject,
  type ModelFolder,
  readJsonObject,
  show,
} from '../io/byte-source.js';
import { crc32c } from '../io/crc32c.js';
import type { QuantizationError } from '../quantize.js';
import type { FieldLayout } from './fields.js';
import type { HostPool } from './host-pool.js';
import { bundleBytes } from './pool.js';
import { StoredPool, type StoredPoolOptions, type StoredRows } from './stored-pool.js';

/** The index of a folder of bundled rows, and the file it describes. The format: FORMAT.md. */
export const BUNDLE_INDEX = 'rows.json';
export const BUNDLE_ROWS = 'rows.bin';
const FORMAT = 'pairslab rows';
const VERSION = 1;
/** Every pool starts at a multiple of this. */
export const POOL_ALIGN = 16;

/** An index of a model of 100 layers of 32,768 rows has 40 MB. */
const INDEX_LIMIT = 256 << 20;
const MOST_FIELDS = 16;
const MOST_ROWS = 2 ** 31 - 1;
const MOST_COLUMNS = 2 ** 24;

/** Pools whose bundled rows stand in one file. */
export class RowBundle {
  /** How the matrices are stored; biases are f32. */
  readonly dtype: StoredDtype;
  readonly source: ByteSource;
  readonly pools: ReadonlyMap<string, StoredRows>;
  /** What storing them so cost, by the matrix's name. */
  readonly quantization: Readonly<Record<string, QuantizationError>>;

  constructor(
    dtype: StoredDtype,
    source: ByteSource,
    pools: ReadonlyMap<string, StoredRows>,
    quantization: Readonly<Record<string, QuantizationError>> = {},
  ) {
    this.dtype = dtype;
    this.source = source;
    this.pools = pools;
    this.quantization = quantization;
  }

  /** @throws ModelFormatError when there is no such pool or the file is too short for it. */
  pool(name: string, options: StoredPoolOptions = {}): StoredPool {
    const stored = this.pools.get(name);
    if (stored) return new StoredPool(this.source, stored, { label: name, ...options });
    throw new ModelFormatError(`${this.source.name} has no pool ${show(name)}.`, { pool: name });
  }
}

/** One pool as the index has it. */
export interface IndexedPool {
  readonly name: string;
  readonly stored: StoredRows;
}

/** The checksums of a pool's blocks. */
export function blockChecksums(host: HostPool, blockRows: number): Uint32Array<ArrayBuffer> {
  const bytes = blockRows * host.rowBytes;
  return Uint32Array.from({ length: Math.ceil(host.rows / blockRows) }, (_, b) =>
    crc32c(host.bytes.subarray(b * bytes, (b + 1) * bytes)),
  );
}

/** The index of a bundle, to be written as JSON. `size` is that of the rows' file. */
export function bundleIndex(
  dtype: StoredDtype,
  size: number,
  pools: readonly IndexedPool[],
  quantization: Readonly<Record<string, QuantizationError>>,
): object {
  return {
    format: FORMAT,
    version: VERSION,
    dtype,
    file: BUNDLE_ROWS,
    size,
    checksum: 'crc32c',
    pools: Object.fromEntries(
      pools.map(({ name, stored: { fields, rows, offset, blockRows, checksums } }) => [
        name,
        {
          offset,
          rows,
          rowBytes: bundleBytes(fields),
          fields: fields.map((field) => ({ name: field.name, dtype: field.dtype, cols: field.parts })),
          blockRows,
          checksums: encodeWords(checksums),
        },
      ]),
    ),
    quantization,
  };
}

/**
 * Opens the bundle of a folder; null where there is none. Reads the index only.
 * @throws ModelFormatError for an index that is truncated, inconsistent or hostile, or that does not fit its file.
 */
export async function openBundle(folder: ModelFolder): Promise<RowBundle | null> {
  const index = await folder.open(BUNDLE_INDEX);
  if (!index) return null;
  const json = await readJsonObject(index, INDEX_LIMIT);
  const at = (what: string): Where => ({ file: index.name, what });
  const top = at('the index');
  const format = text(top, json, 'format');
  const version = own(json, 'version');
  if (format !== FORMAT || version !== VERSION) {
    fail(
      top,
      `is ${show(format)}, version ${show(version)}; only "${FORMAT}", version ${VERSION}, can be read`,
    );
  }
  if (own(json, 'checksum') !== 'crc32c')
    fail(top, `has checksums ${show(own(json, 'checksum'))}; only crc32c can be read`);
  const dtype = storedDtype(top, json);
  // A name out of a file that may be hostile, which a folder may turn into a path: only the one that is ever written.
  if (own(json, 'file') !== BUNDLE_ROWS)
    fail(top, `names the file ${show(own(json, 'file'))}; it must be ${BUNDLE_ROWS}`);
  const size = count(top, json, 'size', 0, Number.MAX_SAFE_INTEGER);
  const source = await folder.open(BUNDLE_ROWS);
  if (!source) fail(top, `needs ${BUNDLE_ROWS}, which is missing`);
  if (source.size !== size) fail(top, `says that ${BUNDLE_ROWS} has ${size} bytes; it has ${source.size}`);
  const entries = own(json, 'pools');
  if (!isObject(entries)) fail(top, `has pools ${show(entries)}; they must be an object`);
  const pools = new Map<string, StoredRows>();
  for (const [name, entry] of Object.entries(entries))
    pools.set(name, parsePool(at(`pool ${show(name)}`), entry, size));
  return new RowBundle(dtype, source, pools, parseQuantization(top, json));
}

interface Where {
  readonly file: string;
  readonly what: string;
}

function fail({ file, what }: Where, why: string): never {
  throw new ModelFormatError(`${file}: ${what} ${why}.`, { file, what });
}

const own = (json: JsonObject, key: string): unknown => (Object.hasOwn(json, key) ? json[key] : undefined);

function text(at: Where, json: JsonObject, key: string): string {
  const value = own(json, key);
  if (typeof value === 'string' && value !== '' && value.length <= 256) return value;
  return fail(at, `has ${key} ${show(value)}; it must be a text`);
}

function count(at: Where, json: JsonObject, key: string, least: number, most: number): number {
  const value = own(json, key);
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most)
    return value as number;
  return fail(at, `has ${key} ${show(value)}; it must be an integer from ${least} to ${most}`);
}

function storedDtype(at: Where, json: JsonObject): StoredDtype {
  const dtype = own(json, 'dtype');
  if ((STORED_DTYPES as readonly unknown[]).includes(dtype)) return dtype as StoredDtype;
  return fail(at, `has dtype ${show(dtype)}; it must be one of ${STORED_DTYPES.join(', ')}`);
}

function parsePool(at: Where, entry: unknown, size: number): StoredRows {
  if (!isObject(entry)) fail(at, `is ${show(entry)}; it must be an object`);
  const rows = count(at, entry, 'rows', 1, MOST_ROWS);
  const offset = count(at, entry, 'offset', 0, size);
  if (offset % POOL_ALIGN !== 0) fail(at, `begins at byte ${offset}, no multiple of ${POOL_ALIGN}`);
  const blockRows = count(at, entry, 'blockRows', 1, MOST_ROWS);
  const list = own(entry, 'fields');
  if (!Array.isArray(list) || list.length === 0 || list.length > MOST_FIELDS)
    fail(at, `has fields ${show(list)}; they must be a list of 1 to ${MOST_FIELDS}`);
  const fields = list.map((field) => parseField(at, field));
  if (new Set(fields.map(({ name }) => name)).size < fields.length) fail(at, 'has two fields of one name');
  const bytes = bundleBytes(fields);
  const said = own(entry, 'rowBytes');
  if (said !== bytes) fail(at, `says that a row has ${show(said)} bytes; its fields have ${bytes}`);
  if (offset + rows * bytes > size)
    fail(at, `ends at byte ${offset + rows * bytes}; the file has ${size} bytes`);
  const blocks = Math.ceil(rows / blockRows);
  const checksums = decodeWords(own(entry, 'checksums'), blocks);
  if (!checksums) fail(at, `must have ${blocks} checksums, as base64 of u32`);
  return { fields, rows, offset, blockRows, checksums };
}

function parseField(at: Where, field: unknown): FieldLayout {
  if (!isObject(field)) fail(at, `has a field ${show(field)}; it must be an object`);
  const name = text(at, field, 'name');
  const dtype = storedDtype(at, field);
  const cols = own(field, 'cols');
  const sane = (c: unknown) => Number.isInteger(c) && (c as number) >= 1 && (c as number) <= MOST_COLUMNS;
  if (!Array.isArray(cols) || cols.length === 0 || cols.length > MOST_FIELDS || !cols.every(sane))
    fail(at, `has a field ${show(name)} of columns ${show(cols)}; they must be a list of counts`);
  const parts = cols as number[];
  return { name, dtype, parts, rowBytes: parts.reduce((sum, c) => sum + rowBytes(c, dtype), 0) };
}

function parseQuantization(at: Where, json: JsonObject): Record<string, QuantizationError> {
  const given = own(json, 'quantization');
  if (!isObject(given)) return fail(at, `has quantization ${show(given)}; it must be an object`);
  // fromEntries defines own properties: "__proto__" is a name like any other.
  return Object.fromEntries(
    Object.entries(given).map(([name, error]) => {
      const numbers = isObject(error) ? [own(error, 'rmsRelative'), own(error, 'maxAbsolute')] : [];
      if (numbers.length === 0 || !numbers.every((n) => typeof n === 'number' && n >= 0))
        fail(at, `has for ${show(name)} no figures of what quantising cost`);
      return [name, { rmsRelative: numbers[0] as number, maxAbsolute: numbers[1] as number }];
    }),
  );
}

/** base64 of the words' bytes, little-endian as every platform with WebGPU. */
function encodeWords(words: Uint32Array): string {
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** null unless `value` is base64 of so many words. */
function decodeWords(value: unknown, words: number): Uint32Array<ArrayBuffer> | null {
  if (typeof value !== 'string' || value.length !== 4 * Math.ceil((4 * words) / 3)) return null;
  try {
    const binary = atob(value);
    if (binary.length !== 4 * words) return null;
    return new Uint32Array(Uint8Array.from(binary, (c) => c.charCodeAt(0)).buffer);
  } catch {
    return null;
  }
}
