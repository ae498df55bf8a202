import { OptionError } from '../errors.js';
import { isObject } from '../io/byte-source.js';
import type { BlockCache } from './block-cache.js';

/** A flat folder of files that are written once: on disk (`cacheFolderFiles` of pairslab/node) or in OPFS. */
export interface CacheFiles {
  list(): Promise<readonly { readonly name: string; readonly size: number }[]>;
  /** Null when there are no such bytes. */
  read(name: string, offset: number, length: number): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Whole or not at all. */
  write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(name: string): Promise<void>;
  /** Gives back what is held for reading; it may be read from again. */
  close?(): Promise<void>;
}

export interface SegmentCacheOptions {
  /** All that the cache may keep, in bytes, headers included. Default 1 GiB. */
  maxBytes?: number;
  /** Blocks are gathered into files of about so many bytes. Default 1 MiB, or an eighth of `maxBytes`. */
  segmentBytes?: number;
}

interface Entry {
  readonly key: string;
  readonly length: number;
  /** There until the block is in a file. */
  bytes?: Uint8Array<ArrayBuffer>;
  segment?: string;
  offset: number;
  /** Read since it was kept: it gets another turn when its segment is given up. */
  used: boolean;
}

interface Segment {
  readonly size: number;
  readonly entries: Entry[];
}

const PREFIX = 'blocks-';
/** Header length, at the start of a segment. */
const PREAMBLE = 4;
const HEADER_LIMIT = 16 << 20;

/**
 * Blocks in files of many, oldest first given up, except those that were read since. A segment is a u32 header length,
 * a JSON header [[key, bytes], …] and the blocks, one after the other. What is gathered but not in a file yet is lost
 * when the program ends without `close`.
 */
export class SegmentCache implements BlockCache {
  /** Writes that failed, e.g. for want of room on the disk: their blocks are not kept. */
  failures = 0;
  private readonly files: CacheFiles;
  private readonly maxBytes: number;
  private readonly segmentBytes: number;
  private readonly entries = new Map<string, Entry>();
  /** By name, oldest first. */
  private readonly segments = new Map<string, Segment>();
  private gathered: Entry[] = [];
  private gatheredBytes = 0;
  private keptBytes = 0;
  private named = 0;
  private writing: Promise<void> = Promise.resolve();

  /** Opens what earlier runs kept. Files that are no segments are removed if their names say they should be. */
  static async open(files: CacheFiles, options: SegmentCacheOptions = {}): Promise<SegmentCache> {
    const cache = new SegmentCache(files, options);
    const found = (await files.list()).filter(({ name }) => name.startsWith(PREFIX));
    for (const { name, size } of [...found].sort((a, b) => (a.name < b.name ? -1 : 1)))
      await cache.adopt(name, size);
    await cache.makeRoom(0);
    return cache;
  }

  private constructor(files: CacheFiles, options: SegmentCacheOptions) {
    const { maxBytes = 2 ** 30 } = options;
    const { segmentBytes = Math.min(1 << 20, Math.ceil(maxBytes / 8)) } = options;
    for (const [name, value] of Object.entries({ maxBytes, segmentBytes }))
      if (!(value >= 1)) throw new OptionError(`${name} must be 1 or more; it is ${value}.`, { name, value });
    this.files = files;
    this.maxBytes = maxBytes;
    this.segmentBytes = segmentBytes;
  }

  /** Bytes of the files that are kept. */
  get bytes(): number {
    return this.keptBytes;
  }

  async get(key: string): Promise<Uint8Array<ArrayBuffer> | null> {
    const entry = this.entries.get(key);
    if (!entry) return null;
    entry.used = true;
    if (entry.bytes) return entry.bytes.slice();
    const bytes = await this.quietly(this.files.read(entry.segment as string, entry.offset, entry.length));
    // It may have been given up, here or by another tab or process.
    if (!bytes && this.entries.get(key) === entry) this.entries.delete(key);
    return bytes ?? null;
  }

  async put(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.entries.has(key)) return;
    this.gather({ key, length: bytes.length, bytes: bytes.slice(), offset: 0, used: false });
    if (this.gatheredBytes >= this.segmentBytes) await this.flush();
  }

  async drop(key: string): Promise<void> {
    this.entries.delete(key);
  }

  /** Writes what was gathered into a file. */
  flush(): Promise<void> {
    this.writing = this.writing.then(() => this.writeGathered());
    return this.writing;
  }

  /** `flush`, and gives back open files. The cache may be used on. */
  async close(): Promise<void> {
    await this.flush();
    await this.files.close?.();
  }

  private gather(entry: Entry): void {
    this.entries.set(entry.key, entry);
    this.gathered.push(entry);
    this.gatheredBytes += entry.length;
  }

  private async writeGathered(): Promise<void> {
    const entries = this.gathered.filter((entry) => this.entries.get(entry.key) === entry);
    this.gathered = [];
    this.gatheredBytes = 0;
    if (entries.length === 0) return;
    const header = new TextEncoder().encode(JSON.stringify(entries.map(({ key, length }) => [key, length])));
    const start = PREAMBLE + header.length;
    const size = entries.reduce((sum, { length }) => sum + length, start);
    const forget = (): void => {
      for (const entry of entries) if (this.entries.get(entry.key) === entry) this.entries.delete(entry.key);
    };
    if (size > this.maxBytes) return forget();
    const file = new Uint8Array(size);
    new DataView(file.buffer).setUint32(0, header.length, true);
    file.set(header, PREAMBLE);
    let offset = start;
    for (const entry of entries) {
      entry.offset = offset;
      file.set(entry.bytes as Uint8Array, offset);
      offset += entry.length;
    }
    // Names sort by age, and no two tabs or processes make the same one.
    const age = `${Date.now().toString(36).padStart(9, '0')}-${(this.named++).toString(36).padStart(6, '0')}`;
    const name = `${PREFIX}${age}-${Math.floor(Math.random() * 2 ** 32).toString(36)}`;
    await this.makeRoom(size);
    try {
      await this.files.write(name, file);
    } catch {
      this.failures++;
      return forget();
    }
    for (const entry of entries) {
      entry.segment = name;
      entry.bytes = undefined;
    }
    this.segments.set(name, { size, entries });
    this.keptBytes += size;
  }

  /** Gives up the oldest segments until `bytes` more may be kept. Of their blocks, those read since stay gathered. */
  private async makeRoom(bytes: number): Promise<void> {
    for (const [name, { size, entries }] of this.segments) {
      if (this.keptBytes + bytes <= this.maxBytes) return;
      const live = entries.filter((entry) => this.entries.get(entry.key) === entry);
      let again = 0;
      for (const entry of live) {
        this.entries.delete(entry.key);
        // At most half of them, so that room is gained whatever is read.
        if (!entry.used || again + entry.length > size / 2) continue;
        const kept = await this.quietly(this.files.read(name, entry.offset, entry.length));
        if (!kept || this.entries.has(entry.key)) continue;
        again += entry.length;
        this.gather({ key: entry.key, length: entry.length, bytes: kept, offset: 0, used: false });
      }
      this.segments.delete(name);
      this.keptBytes -= size;
      await this.quietly(this.files.remove(name));
    }
  }

  /** Takes a segment of an earlier run, or removes it when it is none. */
  private async adopt(name: string, size: number): Promise<void> {
    const list = await this.quietly(this.header(name, size));
    if (!list) {
      await this.quietly(this.files.remove(name));
      return;
    }
    let offset = list.start;
    const entries: Entry[] = [];
    for (const [key, length] of list.blocks) {
      const entry: Entry = { key, length, segment: name, offset, used: false };
      offset += length;
      entries.push(entry);
      this.entries.set(key, entry);
    }
    this.segments.set(name, { size, entries });
    this.keptBytes += size;
  }

  private async header(name: string, size: number) {
    const first = await this.files.read(name, 0, PREAMBLE);
    if (!first) return null;
    const length = new DataView(first.buffer, first.byteOffset).getUint32(0, true);
    if (length > HEADER_LIMIT || PREAMBLE + length > size) return null;
    const bytes = await this.files.read(name, PREAMBLE, length);
    const json: unknown = bytes && JSON.parse(new TextDecoder().decode(bytes));
    if (!Array.isArray(json)) return null;
    const sane = (block: unknown): block is [string, number] =>
      Array.isArray(block) && typeof block[0] === 'string' && Number.isSafeInteger(block[1]) && block[1] >= 0;
    if (!json.every(sane)) return null;
    const start = PREAMBLE + length;
    if (json.reduce((sum, [, bytes]) => sum + bytes, start) !== size) return null;
    return { start, blocks: json };
  }

  /** What a cache cannot do is no fault of the one who reads rows. */
  private async quietly<T>(work: Promise<T>): Promise<T | null> {
    try {
      return await work;
    } catch {
      this.failures++;
      return null;
    }
  }
}

/** The files of an OPFS folder (`navigator.storage.getDirectory()`), or of any other that the user chose. */
export function opfsFiles(folder: FileSystemDirectoryHandle): CacheFiles {
  const open = async (name: string): Promise<File | null> => {
    try {
      return await (await folder.getFileHandle(name)).getFile();
    } catch (error) {
      if (isObject(error) && error.name === 'NotFoundError') return null;
      throw error;
    }
  };
  return {
    list: async () => {
      const found: { name: string; size: number }[] = [];
      for await (const name of folder.keys()) {
        const file = await open(name).catch(() => null);
        if (file) found.push({ name, size: file.size });
      }
      return found;
    },
    read: async (name, offset, length) => {
      const file = await open(name);
      if (!file || offset + length > file.size) return null;
      return new Uint8Array(await file.slice(offset, offset + length).arrayBuffer());
    },
    write: async (name, bytes) => {
      // What is written takes the file's place when it is closed.
      const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
      await stream.write(bytes);
      await stream.close();
    },
    remove: (name) => folder.removeEntry(name),
  };
}
