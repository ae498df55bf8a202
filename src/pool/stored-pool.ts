import { DeviceLimitError, ModelFormatError, OptionError, PoolError } from '../errors.js';
import { type ByteSource, readExactly } from '../io/byte-source.js';
import { crc32c } from '../io/crc32c.js';
import type { BlockCache } from './block-cache.js';
import { type FieldLayout, fieldOf } from './fields.js';
import { HostPool } from './host-pool.js';
import { bundleBytes, checkRead, type OffDevicePool, type ReadOptions } from './pool.js';
import { type BlockRange, joinBlocks } from './ranges.js';

/** Where the bundled rows of a pool stand in a file. */
export interface StoredRows {
  readonly fields: readonly FieldLayout[];
  readonly rows: number;
  /** First byte of row 0. */
  readonly offset: number;
  /** Rows that share a checksum and are read together; the last block may have fewer. */
  readonly blockRows: number;
  /** CRC-32C of each block. */
  readonly checksums: Uint32Array;
}

export interface StoredPoolOptions {
  label?: string;
  /** Blocks with at most so many unwanted bytes between them are read at once. Default 16 KiB. */
  gapBytes?: number;
  /** A read has at most so many bytes, but at least a block. Default 4 MiB. */
  requestBytes?: number;
  /** Reads under way at a time. Default 6, as many connections as a browser opens to a server. */
  concurrency?: number;
  /** How often a block whose checksum is wrong is read again. Default 2. */
  rereads?: number;
  /** Keeps blocks that were read; worth it where the source is far. */
  cache?: BlockCache;
}

const DEFAULTS = { gapBytes: 16 << 10, requestBytes: 4 << 20, concurrency: 6, rereads: 2 };

/** Blocks asked of the cache at a time. */
const CACHE_READS = 32;

/** What a pool has read, since it was made. */
export interface ReadCounts {
  /** Reads from the source. */
  reads: number;
  /** Bytes that they brought, gaps and repeats included. */
  bytes: number;
  /** Rows that were asked for. */
  rows: number;
  /** Blocks that the cache had. */
  cached: number;
  /** Blocks whose checksum was wrong, from source or cache. */
  damaged: number;
}

/** All N rows of a layer in a file: on disk, a Blob (also OPFS), or behind HTTP range requests. */
export class StoredPool implements OffDevicePool {
  readonly rows: number;
  readonly fields: ReadonlyMap<string, FieldLayout>;
  readonly rowBytes: number;
  readonly label: string;
  readonly counts: ReadCounts = { reads: 0, bytes: 0, rows: 0, cached: 0, damaged: 0 };
  private readonly source: ByteSource;
  private readonly stored: StoredRows;
  private readonly options: typeof DEFAULTS;
  private readonly cache?: BlockCache;
  private readonly blockBytes: number;
  /** Names the contents, so that a cache never mixes up two versions. */
  private readonly id: string;

  /** @throws ModelFormatError when the file is too short for the rows; OptionError for an option out of range. */
  constructor(source: ByteSource, stored: StoredRows, options: StoredPoolOptions = {}) {
    const { label = source.name, cache } = options;
    const { gapBytes, requestBytes, concurrency, rereads } = { ...DEFAULTS, ...options };
    this.options = { gapBytes, requestBytes, concurrency, rereads };
    for (const [name, value] of Object.entries(this.options)) {
      const least = name === 'requestBytes' || name === 'concurrency' ? 1 : 0;
      if (!(value >= least))
        throw new OptionError(`${label}: ${name} must be at least ${least}; it is ${value}.`, {
          name,
          value,
        });
    }
    this.cache = cache;
    this.label = label;
    this.source = source;
    this.stored = stored;
    this.rows = stored.rows;
    this.fields = new Map(stored.fields.map((field) => [field.name, field]));
    this.rowBytes = bundleBytes(stored.fields);
    this.blockBytes = stored.blockRows * this.rowBytes;
    const end = stored.offset + this.rows * this.rowBytes;
    if (!Number.isSafeInteger(end) || end > source.size) {
      throw new ModelFormatError(
        `${source.name}: ${label} ends at byte ${end}; the file has ${source.size} bytes.`,
        { file: source.name, end, size: source.size },
      );
    }
    const blocks = Math.ceil(this.rows / stored.blockRows);
    if (stored.checksums.length !== blocks) {
      throw new ModelFormatError(
        `${label} has ${blocks} blocks of ${stored.blockRows} rows and ${stored.checksums.length} checksums.`,
        { blocks, checksums: stored.checksums.length },
      );
    }
    const { buffer, byteOffset, byteLength } = stored.checksums;
    const sum = crc32c(new Uint8Array(buffer, byteOffset, byteLength));
    this.id = `${sum.toString(16).padStart(8, '0')}-${this.rows}x${this.rowBytes}`;
  }

  field(name: string): FieldLayout {
    return fieldOf(this, name);
  }

  async read(ids: Uint32Array, into: Uint8Array<ArrayBuffer>, options: ReadOptions = {}): Promise<void> {
    checkRead(this, ids, into);
    options.signal?.throwIfAborted();
    if (ids.length === 0) return;
    const job = new Job(ids, into, this.stored.blockRows, this.rowBytes, options.onProgress);
    this.counts.rows += ids.length;
    const missing = await this.fromCache(job, options.signal);
    await this.fromSource(job, missing, options.signal);
  }

  /** All rows in host memory. @throws what `read` throws; DeviceLimitError when there is not so much memory. */
  async toHost(options: ReadOptions = {}): Promise<HostPool> {
    const bytes = this.allocate();
    await this.read(
      Uint32Array.from({ length: this.rows }, (_, row) => row),
      bytes,
      options,
    );
    return new HostPool(this.stored.fields, bytes, this.label);
  }

  private allocate(): Uint8Array<ArrayBuffer> {
    const bytes = this.rows * this.rowBytes;
    try {
      return new Uint8Array(bytes);
    } catch (cause) {
      throw new DeviceLimitError(
        `${this.label} has ${bytes} bytes, more than host memory can hold at once: ${String(cause)}. Read rows of it.`,
        { bytes },
      );
    }
  }

  /** Takes what the cache has. @returns the blocks that it does not have. */
  private async fromCache(job: Job, signal?: AbortSignal): Promise<Uint32Array> {
    const { cache } = this;
    if (!cache) return job.blocks;
    const missing: number[] = [];
    const { blocks } = job;
    for (let first = 0; first < blocks.length; first += CACHE_READS) {
      const some = [...blocks.subarray(first, first + CACHE_READS)];
      const found = await Promise.all(some.map((block) => cache.get(this.key(block))));
      signal?.throwIfAborted();
      for (const [i, bytes] of found.entries()) {
        const block = some[i];
        if (bytes && this.isWhole(block, bytes)) {
          this.counts.cached++;
          job.deliver(block, bytes);
          continue;
        }
        if (bytes) {
          this.counts.damaged++;
          await cache.drop(this.key(block));
        }
        missing.push(block);
      }
    }
    return Uint32Array.from(missing);
  }

  private async fromSource(job: Job, blocks: Uint32Array, signal?: AbortSignal): Promise<void> {
    const { gapBytes, requestBytes, concurrency } = this.options;
    const { blockBytes } = this;
    const most = Math.max(1, Math.floor(requestBytes / blockBytes));
    const ranges = joinBlocks(blocks, Math.floor(gapBytes / blockBytes), most);
    // The first fault ends the other reads too; nothing is written to `into` once this returns.
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    let fault: unknown;
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < ranges.length && !controller.signal.aborted) {
        try {
          await this.readRange(job, ranges[next++], controller.signal);
        } catch (error) {
          if (!controller.signal.aborted) {
            fault = error;
            controller.abort(error);
          }
        }
      }
    };
    try {
      await Promise.all(Array.from({ length: Math.min(concurrency, ranges.length) }, work));
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
    signal?.throwIfAborted();
    if (controller.signal.aborted) throw fault;
  }

  private async readRange(job: Job, { begin, end }: BlockRange, signal: AbortSignal): Promise<void> {
    const bytes = await this.readBlocks(begin, end, signal);
    for (let block = begin; block < end; block++) {
      const at = (block - begin) * this.blockBytes;
      let whole = bytes.subarray(at, at + this.sizeOf(block));
      if (!job.wants(block)) {
        // It lay between two that are, and is here now: worth keeping, but not worth another read.
        if (this.cache && this.isWhole(block, whole)) await this.cache.put(this.key(block), whole);
        continue;
      }
      for (let reread = 0; !this.isWhole(block, whole); reread++) {
        this.counts.damaged++;
        if (reread === this.options.rereads) throw this.damage(block);
        whole = await this.readBlocks(block, block + 1, signal);
      }
      signal.throwIfAborted();
      job.deliver(block, whole);
      await this.cache?.put(this.key(block), whole);
    }
  }

  private async readBlocks(
    begin: number,
    end: number,
    signal: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const first = begin * this.blockBytes;
    const length = Math.min(end * this.blockBytes, this.rows * this.rowBytes) - first;
    this.counts.reads++;
    this.counts.bytes += length;
    return readExactly(this.source, this.stored.offset + first, length, { signal });
  }

  private sizeOf(block: number): number {
    return Math.min(this.blockBytes, this.rows * this.rowBytes - block * this.blockBytes);
  }

  private isWhole(block: number, bytes: Uint8Array): boolean {
    return bytes.length === this.sizeOf(block) && crc32c(bytes) === this.stored.checksums[block];
  }

  private key(block: number): string {
    return `${this.id}-${block}`;
  }

  private damage(block: number): PoolError {
    const { blockRows } = this.stored;
    const offset = this.stored.offset + block * this.blockBytes;
    return new PoolError(
      'checksum',
      `${this.source.name}: the ${this.sizeOf(block)} bytes at ${offset} (${this.label}, rows from ${block * blockRows} on) ` +
        'are not those that were stored. Fetch or convert the model again.',
      { file: this.source.name, offset, bytes: this.sizeOf(block), block, row: block * blockRows },
    );
  }
}

/** One read: which blocks it needs, and where their rows go. */
class Job {
  /** Wanted blocks, ascending. */
  readonly blocks: Uint32Array;
  private readonly ids: Uint32Array;
  private readonly into: Uint8Array<ArrayBuffer>;
  private readonly blockRows: number;
  private readonly rowBytes: number;
  private readonly onProgress?: ReadOptions['onProgress'];
  /** Positions in `ids`, those of a block together. */
  private readonly order: Uint32Array;
  /** block → where its positions begin in `order`. */
  private readonly starts = new Map<number, number>();
  private done = 0;

  constructor(
    ids: Uint32Array,
    into: Uint8Array<ArrayBuffer>,
    blockRows: number,
    rowBytes: number,
    onProgress?: ReadOptions['onProgress'],
  ) {
    this.ids = ids;
    this.into = into;
    this.blockRows = blockRows;
    this.rowBytes = rowBytes;
    this.onProgress = onProgress;
    this.order = ids.map((_, i) => i).sort((a, b) => ids[a] - ids[b]);
    this.order.forEach((i, n) => {
      const block = this.blockOf(i);
      if (!this.starts.has(block)) this.starts.set(block, n);
    });
    this.blocks = Uint32Array.from(this.starts.keys());
  }

  wants(block: number): boolean {
    return this.starts.has(block);
  }

  /** Copies the wanted rows of a block to their places. */
  deliver(block: number, bytes: Uint8Array): void {
    const { order, ids, rowBytes } = this;
    for (
      let n = this.starts.get(block) as number;
      n < order.length && this.blockOf(order[n]) === block;
      n++
    ) {
      const at = (ids[order[n]] - block * this.blockRows) * rowBytes;
      this.into.set(bytes.subarray(at, at + rowBytes), order[n] * rowBytes);
      this.done++;
    }
    this.onProgress?.(this.done, ids.length);
  }

  private blockOf(i: number): number {
    return Math.floor(this.ids[i] / this.blockRows);
  }
}
