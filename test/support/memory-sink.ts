import type { FileSink, ModelSink } from '../../src/llama/convert.js';
import { MemoryFolder } from './make-model.js';

/** A folder in memory that is written to; a file is there once it is closed. */
export class MemorySink implements ModelSink {
  readonly folder = new MemoryFolder('converted');
  /** Files in the order in which they were closed. */
  readonly closed: string[] = [];

  async create(file: string): Promise<FileSink> {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    return {
      write: async (bytes) => void parts.push(new Uint8Array(bytes)),
      close: async () => {
        this.folder.set(file, new Uint8Array(await new Blob(parts).arrayBuffer()));
        this.closed.push(file);
      },
    };
  }
}
