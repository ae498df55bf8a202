import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { OptionError } from '../../src/errors.js';
import { MemorySource } from '../../src/io/byte-source.js';
import { cacheFolderFiles } from '../../src/node/cache-files.js';
import { HostPool } from '../../src/pool/host-pool.js';
import { type CacheFiles, opfsFiles, SegmentCache } from '../../src/pool/segment-cache.js';
import { StoredPool } from '../../src/pool/stored-pool.js';
import { storeRows } from '../support/store.js';

/** As much of an OPFS folder as is used, in memory. What is written is there once its stream is closed. */
class FakeFolder {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  async *keys() {
    yield* [...this.files.keys()];
  }
  async getFileHandle(name: string, options: { create?: boolean } = {}) {
    if (!this.files.has(name)) {
      if (!options.create) throw new DOMException(name, 'NotFoundError');
      this.files.set(name, new Uint8Array(0));
    }
    return {
      getFile: async () => new File([this.files.get(name) as Uint8Array<ArrayBuffer>], name),
      createWritable: async () => {
        let written = new Uint8Array(0);
        return {
          write: async (bytes: Uint8Array<ArrayBuffer>) => {
            written = bytes.slice();
          },
          close: async () => void this.files.set(name, written),
        };
      },
    };
  }
  async removeEntry(name: string) {
    this.files.delete(name);
  }
}

const folders: string[] = [];
const opened: CacheFiles[] = [];
afterEach(async () => {
  for (const files of opened.splice(0)) await files.close?.();
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

async function diskFiles() {
  const folder = await mkdtemp(join(tmpdir(), 'pairslab-cache-'));
  folders.push(folder);
  const files = cacheFolderFiles(join(folder, 'made'));
  opened.push(files);
  return { folder, files };
}

const block = (n: number, length = 100) => new Uint8Array(length).fill(n);

describe.each<[string, () => Promise<CacheFiles>]>([
  ['a folder', async () => (await diskFiles()).files],
  ['OPFS', async () => opfsFiles(new FakeFolder() as unknown as FileSystemDirectoryHandle)],
])('SegmentCache in %s', (_, make) => {
  it('keeps what it was given, from one run to the next, within its limit', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(40), fc.constantFrom('put', 'get', 'drop', 'flush', 'reopen')), {
          maxLength: 80,
        }),
        fc.integer({ min: 500, max: 3000 }),
        async (steps, maxBytes) => {
          const files = await make();
          const options = { maxBytes, segmentBytes: 250 };
          let cache = await SegmentCache.open(files, options);
          const dropped = new Set<number>();
          for (const [n, what] of steps) {
            if (what === 'put') {
              await cache.put(`${n}`, block(n));
              dropped.delete(n);
              expect(await cache.get(`${n}`)).toEqual(block(n));
            } else if (what === 'get') {
              const found = await cache.get(`${n}`);
              if (found) expect(found).toEqual(block(n));
              if (dropped.has(n)) expect(found).toBeNull();
            } else if (what === 'drop') {
              await cache.drop(`${n}`);
              dropped.add(n);
            } else {
              await cache.close();
              // A block that was dropped is still in its file, for the one who opens it next.
              if (what === 'reopen') {
                cache = await SegmentCache.open(files, options);
                dropped.clear();
              }
            }
            const sizes = (await files.list()).reduce((sum, { size }) => sum + size, 0);
            expect(sizes).toBe(cache.bytes);
            expect(sizes).toBeLessThanOrEqual(maxBytes);
          }
          expect(cache.failures).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('gives up the oldest first, but not what is read again and again', async () => {
    const cache = await SegmentCache.open(await make(), { maxBytes: 1500, segmentBytes: 200 });
    for (let n = 0; n < 60; n++) {
      await cache.put(`${n}`, block(n));
      expect(await cache.get('3'), `after ${n}`).toEqual(n < 3 ? null : block(3));
    }
    expect(await cache.get('4')).toBeNull();
    expect(await cache.get('59')).toEqual(block(59));
  });
});

describe('SegmentCache', () => {
  it('opens what it can, removes what is damaged, and leaves what is not its own', async () => {
    const { folder, files } = await diskFiles();
    const made = join(folder, 'made');
    const cache = await SegmentCache.open(files, { segmentBytes: 100 });
    for (let n = 0; n < 4; n++) await cache.put(`${n}`, block(n));
    const names = (await readdir(made)).sort();
    expect(names).toHaveLength(4);
    await writeFile(join(made, 'mine.txt'), 'kept');
    await writeFile(join(made, names[0]), (await readFile(join(made, names[0]))).subarray(0, 50));
    await writeFile(join(made, names[1]), new Uint8Array(2));
    await writeFile(join(made, names[2]), Buffer.from([255, 255, 255, 255, 1, 2, 3]));
    const again = await SegmentCache.open(files);
    expect((await readdir(made)).sort()).toEqual([names[3], 'mine.txt'].sort());
    expect(await Promise.all([0, 1, 2].map((n) => again.get(`${n}`)))).toEqual([null, null, null]);
    expect(await again.get('3')).toEqual(block(3));
    expect(again.failures).toBe(0);
    await expect(SegmentCache.open(files, { maxBytes: 0 })).rejects.toThrow(OptionError);
  });

  it('fails nobody when it cannot write, read or remove', async () => {
    const broken = async (): Promise<never> => {
      throw new Error('no room');
    };
    const { files } = await diskFiles();
    const cache = await SegmentCache.open({ ...files, write: broken }, { segmentBytes: 100 });
    await cache.put('a', block(1));
    expect(await cache.get('a')).toBeNull();
    expect(cache.failures).toBe(1);
    const whole = await SegmentCache.open({ ...files, read: broken, remove: broken }, { segmentBytes: 100 });
    await whole.put('a', block(1));
    expect(await whole.get('a')).toBeNull();
    expect(whole.failures).toBe(1);
  });
});

describe('cacheFolderFiles', () => {
  it('reads more files than it keeps open, those that were closed or came later too', async () => {
    const { files } = await diskFiles();
    expect(await files.read('f0', 0, 4)).toBeNull();
    for (let n = 0; n < 150; n++) await files.write(`f${n}`, block(n, 4));
    const all = async () => {
      const read = await Promise.all(Array.from({ length: 150 }, (_, n) => files.read(`f${n}`, 0, 4)));
      // One that another read closed in between may be missed: a cache has no more to promise.
      read.forEach((bytes, n) => {
        if (bytes) expect(bytes).toEqual(block(n, 4));
      });
      return read.filter(Boolean).length;
    };
    expect(await all()).toBeGreaterThan(60);
    for (let n = 0; n < 150; n++) expect(await files.read(`f${n}`, 0, 4)).toEqual(block(n, 4));
    await files.remove('f7');
    expect(await files.read('f7', 0, 4)).toBeNull();
    expect(await files.read('f8', 2, 4)).toBeNull();
    await files.close?.();
    expect(await files.read('f9', 0, 4)).toEqual(block(9, 4));
    await files.close?.();
  });
});

describe('a stored pool with a cache', () => {
  const ROWS = 40;
  const host = HostPool.from({ x: { data: Float32Array.from({ length: ROWS * 8 }, (_, i) => i), cols: 8 } });
  const all = Uint32Array.from({ length: ROWS }, (_, i) => i);

  it('fetches a block once, and again when what was kept is damaged, or of another version', async () => {
    const { folder, files } = await diskFiles();
    const made = join(folder, 'made');
    const { file, stored } = storeRows(host, { blockRows: 2 });
    const open = async (rows = stored, bytes = file) => {
      await files.close?.();
      const cache = await SegmentCache.open(files, { segmentBytes: 64 });
      return new StoredPool(new MemorySource(bytes), rows, { cache });
    };
    const into = new Uint8Array(host.bytes.length);
    const read = async (pool: StoredPool, want = host.bytes) => {
      await pool.read(all, into.fill(0));
      expect(into).toEqual(want);
      return pool.counts;
    };
    const first = await open();
    expect(await read(first)).toMatchObject({ cached: 0, bytes: host.bytes.length });
    expect(await read(first)).toMatchObject({ cached: 20, bytes: host.bytes.length });
    expect(await read(await open())).toMatchObject({ cached: 20, reads: 0, bytes: 0, damaged: 0 });

    // A bit of the last block of the first file.
    const [name] = (await readdir(made)).sort();
    const kept = await readFile(join(made, name));
    kept[kept.length - 5] ^= 8;
    await writeFile(join(made, name), kept);
    expect(await read(await open())).toMatchObject({
      cached: 19,
      reads: 1,
      damaged: 1,
      bytes: 2 * host.rowBytes,
    });

    const other = new HostPool(
      [...host.fields.values()],
      host.bytes.map((byte) => byte ^ 1),
    );
    const changed = storeRows(other, { blockRows: 2 });
    expect(await read(await open(changed.stored, changed.file), other.bytes)).toMatchObject({ cached: 0 });
  });
});
