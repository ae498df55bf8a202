import { type ByteReadOptions, MemorySource, type ModelFolder } from '../../src/io/byte-source.js';
import { BUNDLE_ROWS } from '../../src/pool/bundle.js';

/** A file that can be damaged, or be slow for ever, while it is in use. */
export class FaultySource extends MemorySource {
  fault: 'flipped' | 'short' | 'stuck' | null = null;
  /** Reads that still succeed. */
  after = 0;
  /** Reads that did not. */
  faults = 0;

  constructor(bytes: Uint8Array) {
    super(bytes, BUNDLE_ROWS);
  }

  override async read(
    offset: number,
    length: number,
    { signal }: ByteReadOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await super.read(offset, length);
    if (!this.fault || this.after-- > 0) return bytes;
    this.faults++;
    if (this.fault === 'stuck')
      return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
    if (this.fault === 'short') return bytes.subarray(0, bytes.length - 1);
    bytes[bytes.length >> 1] ^= 4;
    return bytes;
  }
}

/** A converted model whose rows are read from elsewhere. */
export function withRows(folder: ModelFolder, source: MemorySource): ModelFolder {
  return { name: folder.name, open: async (file) => (file === BUNDLE_ROWS ? source : folder.open(file)) };
}
