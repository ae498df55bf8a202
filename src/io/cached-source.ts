import type { BlockCache } from '../pool/block-cache.js';
import { type ByteReadOptions, type ByteSource, checkRange } from './byte-source.js';
import { crc32c } from './crc32c.js';

const CHECKSUM_BYTES = 4;

/**
 * A source whose reads are kept, each with a checksum: the same range of the same version of a file is fetched once.
 * @param version What changes with the file's bytes, e.g. its URL and ETag.
 */
export function cachedSource(source: ByteSource, cache: BlockCache, version: string): ByteSource {
  const read = async (offset: number, length: number, options?: ByteReadOptions) => {
    checkRange(source, offset, length);
    const key = `${version} ${offset}+${length}`;
    const kept = await cache.get(key);
    if (kept) {
      const bytes = kept.slice(0, length);
      if (kept.length === length + CHECKSUM_BYTES && checksumOf(kept, length) === crc32c(bytes)) return bytes;
      await cache.drop(key);
    }
    const bytes = await source.read(offset, length, options);
    const block = new Uint8Array(bytes.length + CHECKSUM_BYTES);
    block.set(bytes);
    new DataView(block.buffer).setUint32(bytes.length, crc32c(bytes), true);
    await cache.put(key, block);
    return bytes;
  };
  return { name: source.name, size: source.size, read };
}

function checksumOf(block: Uint8Array, at: number): number {
  return new DataView(block.buffer, block.byteOffset).getUint32(at, true);
}
