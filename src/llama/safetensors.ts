/**
 * The safetensors container, read with every claim of its header checked against the file's size before anything
 * large is allocated.
 *
 * Format: https://github.com/huggingface/safetensors#format: 8 bytes little-endian header length, a JSON header
 * {name: {dtype, shape, data_offsets: [begin, end)}}, then the data, which the tensors cover without hole or overlap.
 */
import { decodeBf16, decodeF16 } from '../dtype.js';
import { ModelFormatError } from '../errors.js';
import { type ByteSource, isObject, parseJson, readExactly, show } from '../io/byte-source.js';

/** The reference implementation's limit on the header, in bytes. */
const HEADER_LIMIT = 100_000_000;

/** Bits per element of every dtype the format knows. Only the floats of 16 and 32 bits can be read as weights, U32 as words. */
const DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ...['F4'].map((d) => [d, 4] as const),
  ...['F6_E2M3', 'F6_E3M2'].map((d) => [d, 6] as const),
  ...['BOOL', 'U8', 'I8', 'F8_E5M2', 'F8_E4M3', 'F8_E8M0'].map((d) => [d, 8] as const),
  ...['I16', 'U16', 'F16', 'BF16'].map((d) => [d, 16] as const),
  ...['I32', 'U32', 'F32'].map((d) => [d, 32] as const),
  ...['I64', 'U64', 'F64', 'C64'].map((d) => [d, 64] as const),
]);

/** One tensor of the file. */
export interface TensorInfo {
  readonly name: string;
  /** 'F32', 'F16', 'BF16', or another dtype of the format, which cannot be read here. */
  readonly dtype: string;
  /** Row-major; empty for a scalar. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file (not of the data, as in the header). */
  readonly begin: number;
  /** One past the last byte, counted from the start of the file. */
  readonly end: number;
}

/** A tensor's elements as stored: f32 values, or the bit patterns of 16-bit floats. */
export type TensorData =
  | { dtype: 'F32'; shape: readonly number[]; data: Float32Array<ArrayBuffer> }
  | { dtype: 'F16' | 'BF16'; shape: readonly number[]; data: Uint16Array<ArrayBuffer> };

/** Widens (or hands through) to f32; exact. */
export function toF32(tensor: TensorData): Float32Array<ArrayBuffer> {
  if (tensor.dtype === 'F32') return tensor.data;
  return tensor.dtype === 'F16' ? decodeF16(tensor.data) : decodeBf16(tensor.data);
}

/** An opened safetensors file: its header, checked, and access to one tensor at a time. */
export class Safetensors {
  readonly source: ByteSource;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;

  constructor(
    source: ByteSource,
    tensors: ReadonlyMap<string, TensorInfo>,
    metadata: ReadonlyMap<string, string>,
  ) {
    this.source = source;
    this.tensors = tensors;
    this.metadata = metadata;
  }

  /** @throws ModelFormatError when there is no such tensor, it is not F32, F16 or BF16, or the file is cut short. */
  async read(name: string): Promise<TensorData> {
    const info = this.tensors.get(name);
    if (!info) fail(this.source, `has no tensor ${show(name)}.`, { tensor: name });
    const { dtype, shape, begin, end } = info;
    if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
      fail(this.source, `tensor ${show(name)} is ${dtype}; only F32, F16 and BF16 can be read.`, {
        tensor: name,
        dtype,
      });
    }
    let bytes = await readExactly(this.source, begin, end - begin);
    // A typed array needs an aligned start; a source may hand out a view into something larger.
    if (bytes.byteOffset % 4 !== 0) bytes = bytes.slice();
    // The format is little-endian, and so is every platform with WebGPU.
    if (dtype === 'F32') {
      return { dtype, shape, data: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4) };
    }
    return { dtype, shape, data: new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2) };
  }

  /** A tensor of U32. @throws ModelFormatError when there is none of that name and dtype, or the file is cut short. */
  async readWords(name: string): Promise<Uint32Array<ArrayBuffer>> {
    const info = this.tensors.get(name);
    if (info?.dtype !== 'U32') {
      fail(this.source, `has no tensor ${show(name)} of U32.`, { tensor: name, dtype: info?.dtype });
    }
    // A copy starts where it must for words.
    const bytes = (await readExactly(this.source, info.begin, info.end - info.begin)).slice();
    return new Uint32Array(bytes.buffer);
  }

  /** As `read`, widened to f32. */
  async readF32(name: string): Promise<Float32Array<ArrayBuffer>> {
    return toF32(await this.read(name));
  }
}

function fail(source: ByteSource, message: string, details: Record<string, unknown> = {}): never {
  throw new ModelFormatError(`${source.name}: ${message}`, { file: source.name, ...details });
}

/**
 * Opens a safetensors file: reads and checks its header, no tensor data.
 * @throws ModelFormatError for any file that the format does not allow; the message has the tensor and the numbers.
 */
export async function openSafetensors(source: ByteSource): Promise<Safetensors> {
  if (source.size < 8) fail(source, `has ${source.size} bytes; a safetensors file has at least 8.`);
  const prefix = await readExactly(source, 0, 8);
  // Up to 2^64 - 1; as a float it may be off by some hundreds, which no limit below is near.
  const headerLength = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
  const numbers = { headerLength, size: source.size, limit: HEADER_LIMIT };
  if (headerLength === 0) fail(source, 'says that its header has 0 bytes.', numbers);
  if (headerLength > HEADER_LIMIT) {
    fail(
      source,
      `says that its header has ${headerLength} bytes; at most ${HEADER_LIMIT} are allowed.`,
      numbers,
    );
  }
  if (8 + headerLength > source.size) {
    fail(source, `says that its header has ${headerLength} bytes, but the file has ${source.size}.`, numbers);
  }
  const header = await readExactly(source, 8, headerLength);
  if (header[0] !== 0x7b) fail(source, `header must begin with "{", not with byte ${header[0]}.`);
  const { text, value } = parseJson(header, `${source.name}: header`);
  if (!isObject(value)) fail(source, `header must be a JSON object, not ${show(value)}.`);
  const twice = duplicateKey(text);
  if (twice !== null) fail(source, `header has the key ${show(twice)} twice.`, { key: twice });

  const dataStart = 8 + headerLength;
  const tensors = new Map<string, TensorInfo>();
  let metadata = new Map<string, string>();
  // Object.entries sees own keys only, and a Map takes any name: "__proto__" is a name like any other.
  for (const [name, entry] of Object.entries(value)) {
    if (name === '__metadata__') metadata = checkMetadata(source, entry);
    else tensors.set(name, checkEntry(source, name, entry, dataStart));
  }
  checkCover(source, tensors, dataStart);
  return new Safetensors(source, tensors, metadata);
}

function checkMetadata(source: ByteSource, entry: unknown): Map<string, string> {
  if (!isObject(entry)) fail(source, `__metadata__ must be an object, not ${show(entry)}.`);
  const out = new Map<string, string>();
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== 'string') {
      fail(source, `__metadata__ ${show(key)} must be a string, not ${show(value)}.`, { key });
    }
    out.set(key, value);
  }
  return out;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function checkEntry(source: ByteSource, name: string, entry: unknown, dataStart: number): TensorInfo {
  const at = `tensor ${show(name)}`;
  if (!isObject(entry)) fail(source, `${at} must be an object, not ${show(entry)}.`, { tensor: name });
  const field = (key: string): unknown => (Object.hasOwn(entry, key) ? entry[key] : undefined);
  const dtype = field('dtype');
  const shape = field('shape');
  const offsets = field('data_offsets');
  const bits = typeof dtype === 'string' ? DTYPE_BITS.get(dtype) : undefined;
  if (typeof dtype !== 'string' || bits === undefined) {
    fail(source, `${at}: dtype ${show(dtype)} is not one the format knows.`, { tensor: name, dtype });
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    fail(source, `${at}: shape ${show(shape)} must be a list of whole numbers.`, { tensor: name, shape });
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    fail(source, `${at}: data_offsets ${show(offsets)} must be two whole numbers.`, {
      tensor: name,
      offsets,
    });
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end)
    fail(source, `${at} begins at ${begin}, behind its end ${end}.`, { tensor: name, offsets });
  if (end > source.size - dataStart) {
    const available = source.size - dataStart;
    fail(source, `${at} ends at byte ${end} of the data, which has ${available} bytes.`, {
      tensor: name,
      offsets,
      available,
    });
  }
  // No check for overflow is needed: a product too large for a float's integers exceeds any file as well.
  const wanted = (shape.reduce((product: number, n: number) => product * n, 1) * bits) / 8;
  if (wanted !== end - begin) {
    fail(source, `${at}: ${dtype} ${show(shape)} takes ${wanted} bytes, data_offsets span ${end - begin}.`, {
      tensor: name,
      shape,
      wanted,
      spanned: end - begin,
    });
  }
  return { name, dtype, shape: shape as number[], begin: dataStart + begin, end: dataStart + end };
}

/** The format wants the data covered exactly: a hole could hide anything, an overlap could make two tensors one. */
function checkCover(source: ByteSource, tensors: ReadonlyMap<string, TensorInfo>, dataStart: number): void {
  let covered = dataStart;
  for (const { name, begin, end } of [...tensors.values()].sort(
    (a, b) => a.begin - b.begin || a.end - b.end,
  )) {
    if (begin !== covered) {
      const what = begin < covered ? 'overlaps the tensor before it' : 'leaves a hole before it';
      fail(
        source,
        `tensor ${show(name)} ${what}: it begins at byte ${begin}, the data up to ${covered} is taken.`,
        {
          tensor: name,
          begin,
          covered,
        },
      );
    }
    covered = end;
  }
  if (covered !== source.size) {
    fail(source, `${source.size - covered} bytes at the end belong to no tensor.`, {
      covered,
      size: source.size,
    });
  }
}

/** The first key that one object of a valid JSON text has twice (JSON.parse keeps the last), or null. */
function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '{') open.push(new Set());
    else if (c === '[') open.push(null);
    else if (c === '}' || c === ']') open.pop();
    if (c !== '"') continue;
    const start = i++;
    while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
    let next = i + 1;
    while (' \t\r\n'.includes(text[next])) next++;
    if (text[next] !== ':') continue;
    const key = JSON.parse(text.slice(start, i + 1)) as string;
    const keys = open[open.length - 1];
    if (keys?.has(key)) return key;
    keys?.add(key);
  }
  return null;
}

/** A tensor of a file that is to be written. */
export interface TensorEntry {
  readonly name: string;
  /** The format's name, such as 'F16'. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

/**
 * What comes before the data in a file of these tensors, whose data follow one another in this order: the header and
 * its length, padded with spaces so that the data start at a multiple of 8.
 */
export function safetensorsHeader(
  tensors: readonly TensorEntry[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  // Without a prototype, so that a tensor may be called "__proto__".
  const header = Object.create(null) as Record<string, unknown>;
  if (metadata) header.__metadata__ = metadata;
  let end = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    const begin = end;
    end += bytes;
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8;
  const out = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.set(json, 8);
  return out;
}
