import type { ByteReadOptions, ByteSource, ModelFolder } from './byte-source.js';

/**
 * A folder whose reads end with a signal, until `release`: whoever loads from it need not know of one, and what it keeps
 * open to read from later is not ended by a signal that was meant for the loading.
 */
export class AbortableFolder implements ModelFolder {
  readonly name: string;
  private readonly folder: ModelFolder;
  private signal?: AbortSignal;

  constructor(folder: ModelFolder, signal: AbortSignal) {
    this.name = folder.name;
    this.folder = folder;
    this.signal = signal;
  }

  release(): void {
    this.signal = undefined;
  }

  /** @throws what the folder throws; the signal's reason. */
  async open(file: string): Promise<ByteSource | null> {
    this.signal?.throwIfAborted();
    const source = await this.folder.open(file);
    this.signal?.throwIfAborted();
    if (!source) return null;
    const read = async (offset: number, length: number, options: ByteReadOptions = {}) => {
      const signals = [this.signal, options.signal].filter((signal) => signal !== undefined);
      this.signal?.throwIfAborted();
      const signal = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
      const bytes = await source.read(offset, length, { ...options, signal });
      this.signal?.throwIfAborted();
      return bytes;
    };
    return { name: source.name, size: source.size, read };
  }
}
