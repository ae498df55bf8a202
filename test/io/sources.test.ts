import { describe, expect, it } from 'vitest';
import { ModelFormatError } from '../../src/errors.js';
import { AbortableFolder } from '../../src/io/abortable-folder.js';
import { type ByteSource, MemorySource, type ModelFolder } from '../../src/io/byte-source.js';
import { cachedSource } from '../../src/io/cached-source.js';
import type { BlockCache } from '../../src/pool/block-cache.js';

const bytes = Uint8Array.from({ length: 100 }, (_, i) => 3 * i);

/** Counts the reads of a source. */
function counted(): { source: ByteSource; reads: () => number } {
  const inner = new MemorySource(bytes, 'file');
  let reads = 0;
  const read: ByteSource['read'] = (offset, length) => {
    reads++;
    return inner.read(offset, length);
  };
  return { source: { name: 'file', size: 100, read }, reads: () => reads };
}

class MapCache extends Map<string, Uint8Array<ArrayBuffer>> implements Omit<BlockCache, 'get'> {
  async put(key: string, block: Uint8Array<ArrayBuffer>): Promise<void> {
    this.set(key, block.slice());
  }
  async drop(key: string): Promise<void> {
    this.delete(key);
  }
  asCache(): BlockCache {
    return {
      get: async (key) => this.get(key) ?? null,
      put: (key, block) => this.put(key, block),
      drop: (key) => this.drop(key),
    };
  }
}

describe('a cached source', () => {
  it('fetches a range of a version once', async () => {
    const { source, reads } = counted();
    const kept = new MapCache();
    const one = cachedSource(source, kept.asCache(), 'v1');
    for (let i = 0; i < 3; i++) expect(await one.read(10, 20)).toEqual(bytes.slice(10, 30));
    expect(reads()).toBe(1);
    await one.read(10, 21);
    await cachedSource(source, kept.asCache(), 'v2').read(10, 20);
    expect(reads()).toBe(3);
  });

  it('does not believe a block that was damaged, or is of another length', async () => {
    const { source, reads } = counted();
    const kept = new MapCache();
    const one = cachedSource(source, kept.asCache(), 'v1');
    await one.read(0, 8);
    const [key, block] = [...kept][0];
    for (let at = 0; at < block.length; at++) {
      kept.set(
        key,
        block.map((value, i) => (i === at ? value ^ 4 : value)),
      );
      expect(await one.read(0, 8)).toEqual(bytes.slice(0, 8));
      expect(reads()).toBe(2 + at);
    }
    kept.set(key, block.slice(0, 3));
    expect(await one.read(0, 8)).toEqual(bytes.slice(0, 8));
    await expect(one.read(96, 8)).rejects.toBeInstanceOf(ModelFormatError);
  });
});

describe('a folder that can be given up', () => {
  const folder = (source: ByteSource): ModelFolder => ({
    name: 'folder',
    open: async (file) => (file === 'file' ? source : null),
  });

  it('reads until the signal, and on once it is released', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const { source } = counted();
    const given = new AbortableFolder(folder(source), controller.signal);
    const file = (await given.open('file')) as ByteSource;
    expect(await given.open('other')).toBeNull();
    expect(await file.read(1, 2)).toEqual(bytes.slice(1, 3));
    controller.abort(reason);
    await expect(file.read(1, 2)).rejects.toBe(reason);
    await expect(given.open('file')).rejects.toBe(reason);
    given.release();
    expect(await file.read(1, 2)).toEqual(bytes.slice(1, 3));
  });

  it('ends a read under way, whose own signal counts as well', async () => {
    const controller = new AbortController();
    const signals: (AbortSignal | undefined)[] = [];
    const slow: ByteSource = {
      name: 'file',
      size: 9,
      read: (_, __, options) => {
        signals.push(options?.signal);
        return new Promise((_, reject) =>
          options?.signal?.addEventListener('abort', () => reject(options.signal?.reason)),
        );
      },
    };
    const file = (await new AbortableFolder(folder(slow), controller.signal).open('file')) as ByteSource;
    const own = new AbortController();
    const first = file.read(0, 1, { signal: own.signal });
    const second = file.read(0, 1);
    own.abort('mine');
    await expect(first).rejects.toBe('mine');
    controller.abort('all');
    await expect(second).rejects.toBe('all');
    expect(signals).toHaveLength(2);
  });
});
