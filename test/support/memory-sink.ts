import type { FileSink, ModelSink } from '../../src/llama/convert.js';
import { MemoryFolder } from './make-model.js';

/** A folder in memory that is written to; a file is there once it is closed. */
export class MemorySink implements ModelSink {
  readonly folder = new MemoryFolder('converted');
  /** Files in the order in which they were closed. */
  readonly closed: string[] = [];

  async create(file: string): Promise<FileSink> {
    const parts: Uint8Array[] = [];
    return {
      write: async (bytes) => void parts.push(bytes.slice()),
      close: async () => {
        this.folder.set(file, new Uint8Array(Buffer.concat(parts)));
        this.closed.push(file);
      },
    };
  }
}
