/** What stands for test/llama/node-folder.ts where tests run in Chromium: the same files, from vitest's server. */
import { type ByteSource, MemorySource, type ModelFolder } from '../../../src/io/byte-source.js';

export const STATESMAN = '/demo/models/statesman/';

export class NodeFolder implements ModelFolder {
  readonly name: string;

  constructor(path: string) {
    this.name = path;
  }

  async open(file: string): Promise<ByteSource | null> {
    const response = await fetch(`${this.name}${file}`);
    // The server answers with its page for what is not there.
    if (!response.ok || response.headers.get('content-type')?.startsWith('text/html')) return null;
    return new MemorySource(new Uint8Array(await response.arrayBuffer()), file);
  }
}

export async function readModelText(file: string): Promise<string> {
  return (await fetch(`${STATESMAN}${file}`)).text();
}
