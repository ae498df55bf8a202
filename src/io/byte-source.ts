/**
 * Where a model's bytes come from: random access to a file, and a folder of such files. Nothing here trusts what it
 * reads; sizes are checked before anything is allocated.
 */
import { ModelFormatError } from '../errors.js';

export interface ByteReadOptions {
  /** Ends the read, which then throws the signal's reason. Sources that are quick anyway may look at it once. */
  signal?: AbortSignal;
}

/** Random access to the bytes of one file. */
export interface ByteSource {
  /** For messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * `length` bytes from byte `offset` on, in memory of their own.
   * @throws ModelFormatError when the range is not inside [0, size].
   */
  read(offset: number, length: number, options?: ByteReadOptions): Promise<Uint8Array<ArrayBuffer>>;
}

/** The files of one model, flat. */
export interface ModelFolder {
  readonly name: string;
  /** The file of this plain name, or null when there is none. */
  open(file: string): Promise<ByteSource | null>;
}

/** For implementers of ByteSource: throws ModelFormatError unless the range lies inside the source. */
export function checkRange(source: ByteSource, offset: number, length: number): void {
  const sane = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (sane && offset + length <= source.size) return;
  throw new ModelFormatError(
    `${source.name}: cannot read ${length} bytes from byte ${offset} on: the file has ${source.size} bytes.`,
    { file: source.name, offset, length, size: source.size },
  );
}

/** A Blob or File (a file input, drag and drop, OPFS, a fetched response). Reads only what is asked for. */
export class BlobSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #blob: Blob;

  /** `name` defaults to a File's own name. */
  constructor(blob: Blob, name?: string) {
    this.#blob = blob;
    this.size = blob.size;
    this.name = name ?? (blob as Partial<File>).name ?? 'blob';
  }

  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    return new Uint8Array(await this.#blob.slice(offset, offset + length).arrayBuffer());
  }
}

/** Bytes already in memory. Reads copy, so that a caller cannot change the source. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, name = 'memory') {
    this.#bytes = bytes;
    this.size = bytes.length;
    this.name = name;
  }

  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    return new Uint8Array(this.#bytes.subarray(offset, offset + length));
  }
}

/** Reads a range and does not believe the source about how much it delivered. Throws ModelFormatError. */
export async function readExactly(
  source: ByteSource,
  offset: number,
  length: number,
  options: ByteReadOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  checkRange(source, offset, length);
  options.signal?.throwIfAborted();
  const bytes = await source.read(offset, length, options);
  if (bytes.length === length) return bytes;
  throw new ModelFormatError(
    `${source.name}: asked for ${length} bytes from byte ${offset} on, got ${bytes.length}.`,
    { file: source.name, offset, length, got: bytes.length },
  );
}

/** A JSON object as it comes from outside: read own keys only. */
export type JsonObject = { readonly [key: string]: unknown };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** UTF-8 text of `bytes`, and the JSON value it holds. Throws ModelFormatError with `what` when it is neither. */
export function parseJson(bytes: Uint8Array, what: string): { text: string; value: unknown } {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return { text, value: JSON.parse(text) as unknown };
  } catch (cause) {
    throw new ModelFormatError(
      `${what} (${bytes.length} bytes) is not JSON: ${String(cause).slice(0, 200)}`,
      {
        bytes: bytes.length,
      },
    );
  }
}

/** Reads a whole JSON file of at most `limit` bytes that holds one object. Throws ModelFormatError. */
export async function readJsonObject(source: ByteSource, limit: number): Promise<JsonObject> {
  if (source.size > limit) {
    throw new ModelFormatError(`${source.name} has ${source.size} bytes; at most ${limit} are read.`, {
      file: source.name,
      size: source.size,
      limit,
    });
  }
  const { value } = parseJson(await readExactly(source, 0, source.size), source.name);
  if (isObject(value)) return value;
  throw new ModelFormatError(`${source.name} must hold a JSON object, not ${show(value)}.`, {
    file: source.name,
  });
}

/** A value from outside for an error message: never long, whatever it is. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (Array.isArray(value)) {
    const head = value.slice(0, 8).map((v) => (isObject(v) || Array.isArray(v) ? '…' : show(v)));
    return `[${head.join(', ')}${value.length > 8 ? `, … ${value.length} in all` : ''}]`;
  }
  return isObject(value) ? 'an object' : String(value);
}
