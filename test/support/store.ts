/** A pool's bundled rows as a file, with its checksums. */
import { crc32c } from '../../src/io/crc32c.js';
import type { HostPool } from '../../src/pool/host-pool.js';
import type { StoredRows } from '../../src/pool/stored-pool.js';

/** `before` bytes of something else come first. */
export function storeRows(
  host: HostPool,
  { blockRows = 1, before = 0 }: { blockRows?: number; before?: number } = {},
): { file: Uint8Array<ArrayBuffer>; stored: StoredRows } {
  const { bytes, rows, rowBytes } = host;
  const file = new Uint8Array(before + bytes.length).fill(0x5a);
  file.set(bytes, before);
  const blockBytes = blockRows * rowBytes;
  const checksums = Uint32Array.from({ length: Math.ceil(rows / blockRows) }, (_, b) =>
    crc32c(bytes.subarray(b * blockBytes, (b + 1) * blockBytes)),
  );
  return { file, stored: { fields: [...host.fields.values()], rows, offset: before, blockRows, checksums } };
}
