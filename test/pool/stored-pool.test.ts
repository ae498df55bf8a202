import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  DeviceLimitError,
  ModelFormatError,
  OptionError,
  PoolError,
  RowError,
  ShapeError,
} from '../../src/errors.js';
import { BlobSource, type ByteReadOptions, type ByteSource, MemorySource } from '../../src/io/byte-source.js';
import { HttpSource } from '../../src/io/http-source.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { HostPool } from '../../src/pool/host-pool.js';
import { StoredPool } from '../../src/pool/stored-pool.js';
import { FaultServer } from '../support/fault-server.js';
import { storeRows } from '../support/store.js';

const ROWS = 50;
const COLS = 5;
/** Rows of 32 + 16 bytes, no two alike. */
const HOST = HostPool.from({
  up: { data: Float32Array.from({ length: ROWS * COLS }, (_, i) => i), cols: COLS },
  bias: { data: Float32Array.from({ length: ROWS * 4 }, (_, i) => -i), cols: 4 },
});

/** What a source was asked for; it may be changed to answer otherwise. */
class Watched implements ByteSource {
  readonly name = 'watched';
  readonly size: number;
  readonly asked: [number, number][] = [];
  open = 0;
  mostOpen = 0;
  spoil: (bytes: Uint8Array, offset: number, n: number) => void = () => {};
  private readonly of: MemorySource;
  constructor(file: Uint8Array) {
    this.of = new MemorySource(file);
    this.size = file.length;
  }
  async read(offset: number, length: number, options: ByteReadOptions = {}) {
    this.asked.push([offset, length]);
    const n = this.asked.length;
    this.mostOpen = Math.max(this.mostOpen, ++this.open);
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.open--;
    options.signal?.throwIfAborted();
    const bytes = await this.of.read(offset, length);
    this.spoil(bytes, offset, n);
    return bytes;
  }
}

const rowsOf = (ids: Uint32Array) => {
  const want = new Uint8Array(ids.length * HOST.rowBytes);
  HOST.readNow(ids, want);
  return want;
};

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

describe('StoredPool', () => {
  it('brings any rows in any order, whatever the blocks, gaps and requests, none read twice', async () => {
    const ids = fc.array(fc.nat(ROWS - 1), { maxLength: 40 }).map((list) => Uint32Array.from(list));
    const options = fc.record({
      gapBytes: fc.nat(300),
      requestBytes: fc.integer({ min: 1, max: 1000 }),
      concurrency: fc.integer({ min: 1, max: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(
        ids,
        options,
        fc.constantFrom(1, 3, 7, 60),
        fc.nat(40),
        async (wanted, how, blockRows, before) => {
          const { file, stored } = storeRows(HOST, { blockRows, before });
          const source = new Watched(file);
          const pool = new StoredPool(source, stored, how);
          const into = new Uint8Array(wanted.length * HOST.rowBytes);
          const seen: number[] = [];
          await pool.read(wanted, into, { onProgress: (done, total) => seen.push(done / total) });
          expect(into).toEqual(rowsOf(wanted));
          expect(seen.at(-1)).toBe(wanted.length ? 1 : undefined);
          expect(seen).toEqual([...seen].sort((a, b) => a - b));
          expect(source.mostOpen).toBeLessThanOrEqual(how.concurrency);
          const blockBytes = blockRows * HOST.rowBytes;
          for (const [offset, length] of source.asked) {
            expect((offset - before) % blockBytes).toBe(0);
            expect(length).toBeLessThanOrEqual(Math.max(blockBytes, how.requestBytes));
          }
          const starts = source.asked.map(([offset]) => offset);
          expect(new Set(starts).size).toBe(starts.length);
          expect(pool.counts).toMatchObject({ reads: starts.length, rows: wanted.length, damaged: 0 });
        },
      ),
    );
  });

  it('gives the same rows from a Blob, a file and a server', async () => {
    const { file, stored } = storeRows(HOST, { before: 100 });
    const folder = await mkdtemp(join(tmpdir(), 'pairslab-'));
    cleanups.push(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, 'rows.bin'), file);
    const disk = await DiskFolder.at(folder);
    cleanups.push(() => disk.close());
    const server = await FaultServer.start({ 'rows.bin': file });
    cleanups.push(() => server.close());
    const sources = [
      new BlobSource(new Blob([file])),
      (await disk.open('rows.bin')) as ByteSource,
      await HttpSource.open(server.url('rows.bin')),
    ];
    const ids = Uint32Array.of(7, 49, 0, 8, 21);
    for (const source of sources) {
      const pool = new StoredPool(source, stored);
      const into = new Uint8Array(ids.length * pool.rowBytes);
      await pool.read(ids, into);
      expect(into).toEqual(rowsOf(ids));
      const host = await pool.toHost();
      expect(host.bytes).toEqual(HOST.bytes);
      expect([...host.fields.values()]).toEqual([...HOST.fields.values()]);
    }
  });

  it('reads a block again whose checksum is wrong, and says so when it stays wrong', async () => {
    const { file, stored } = storeRows(HOST, { blockRows: 4 });
    const source = new Watched(file);
    const pool = new StoredPool(source, stored);
    const ids = Uint32Array.of(8, 9, 17);
    const into = new Uint8Array(3 * pool.rowBytes);
    source.spoil = (bytes, _, n) => {
      if (n === 1) bytes[5] ^= 1;
    };
    await pool.read(ids, into);
    expect(into).toEqual(rowsOf(ids));
    expect(pool.counts.damaged).toBe(1);

    // A bit of row 18, which nobody asked for but which is in the block of 17.
    file[18 * HOST.rowBytes + 3] ^= 0x10;
    const broken = new StoredPool(new MemorySource(file, 'rows.bin'), stored, { label: 'layer 3' });
    const error = await broken.read(ids, into).catch((caught) => caught);
    expect(error).toBeInstanceOf(PoolError);
    expect(error).toMatchObject({ code: 'checksum', details: { file: 'rows.bin', block: 4, row: 16 } });
    expect(error.message).toContain('layer 3, rows from 16');
    expect(broken.counts.damaged).toBe(3);
    // Rows of other blocks are as good as before.
    await broken.read(Uint32Array.of(8), into);
    expect(into.subarray(0, pool.rowBytes)).toEqual(rowsOf(Uint32Array.of(8)));
  });

  it('ends all reads with the first fault, and writes nothing after that', async () => {
    const { file, stored } = storeRows(HOST);
    const source = new Watched(file);
    const pool = new StoredPool(source, stored, { gapBytes: 0, requestBytes: 1, concurrency: 3, rereads: 0 });
    source.spoil = (bytes, offset) => {
      if (offset === 4 * HOST.rowBytes) bytes[0] ^= 1;
    };
    const ids = Uint32Array.from({ length: ROWS }, (_, i) => i);
    const into = new Uint8Array(ROWS * pool.rowBytes);
    await expect(pool.read(ids, into)).rejects.toMatchObject({ code: 'checksum' });
    expect(source.asked.length).toBeLessThan(10);
    const then = into.slice();
    const asked = source.asked.length;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(into).toEqual(then);
    expect(source.asked).toHaveLength(asked);
  });

  it('ends with the reason of its signal', async () => {
    const { file, stored } = storeRows(HOST);
    const source = new Watched(file);
    const pool = new StoredPool(source, stored, { requestBytes: 1, gapBytes: 0 });
    const controller = new AbortController();
    const reason = new Error('enough');
    const ids = Uint32Array.from({ length: ROWS }, (_, i) => i);
    const read = pool.read(ids, new Uint8Array(ROWS * pool.rowBytes), {
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    });
    await expect(read).rejects.toBe(reason);
    expect(source.asked.length).toBeLessThan(20);
  });

  it('notices a file that was cut while it was open', async () => {
    const { file, stored } = storeRows(HOST);
    const folder = await mkdtemp(join(tmpdir(), 'pairslab-'));
    cleanups.push(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, 'rows.bin'), file);
    const disk = await DiskFolder.at(folder);
    cleanups.push(() => disk.close());
    const pool = new StoredPool((await disk.open('rows.bin')) as ByteSource, stored);
    await truncate(join(folder, 'rows.bin'), 30 * pool.rowBytes);
    const into = new Uint8Array(pool.rowBytes);
    await expect(pool.read(Uint32Array.of(40), into)).rejects.toThrow(ModelFormatError);
    await pool.read(Uint32Array.of(29), into);
    expect(into).toEqual(rowsOf(Uint32Array.of(29)));
  });

  it('refuses rows, room, files and options that cannot be', async () => {
    const { file, stored } = storeRows(HOST, { blockRows: 4 });
    const source = new MemorySource(file);
    const pool = new StoredPool(source, stored);
    await expect(pool.read(Uint32Array.of(1, 50), new Uint8Array(1000))).rejects.toThrow(RowError);
    await expect(pool.read(Uint32Array.of(1, 2), new Uint8Array(95))).rejects.toThrow(ShapeError);
    const cases = [{ rows: 51 }, { offset: 1 }, { rows: 2 ** 40 }, { blockRows: 3 }];
    for (const wrong of cases)
      expect(() => new StoredPool(source, { ...stored, ...wrong })).toThrow(ModelFormatError);
    // A server may say that a file has any size.
    const endless: ByteSource = {
      name: 'endless',
      size: 2 ** 52,
      read: (at, length) => source.read(at, length),
    };
    const rows = 2 ** 31 - 1;
    const huge = { ...stored, rows, blockRows: rows, checksums: new Uint32Array(1) };
    const fields = [{ ...stored.fields[0], rowBytes: 2 ** 20 }];
    await expect(new StoredPool(endless, { ...huge, fields }).toHost()).rejects.toThrow(DeviceLimitError);
    for (const wrong of [{ concurrency: 0 }, { gapBytes: -1 }, { requestBytes: Number.NaN }, { rereads: -1 }])
      expect(() => new StoredPool(source, stored, wrong)).toThrow(OptionError);
  });
});
