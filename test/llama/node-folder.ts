/** A model folder on disk, for tests only: reads the whole file at its first use. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ByteSource, MemorySource, type ModelFolder } from '../../src/io/byte-source.js';

export const STATESMAN = fileURLToPath(new URL('../../demo/models/statesman/', import.meta.url));

export class NodeFolder implements ModelFolder {
  readonly name: string;

  constructor(path: string) {
    this.name = path;
  }

  async open(file: string): Promise<ByteSource | null> {
    try {
      return new MemorySource(await readFile(join(this.name, file)), file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }
}

/** A text among the shipped model's files. */
export const readModelText = (file: string): Promise<string> => readFile(join(STATESMAN, file), 'utf8');
