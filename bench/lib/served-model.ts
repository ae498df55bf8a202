import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HttpFolder, type HttpOptions } from '../../src/io/http-source.js';
import { convertModel } from '../../src/llama/convert.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { FolderSink } from '../../src/node/folder-sink.js';
import { nodeTransport } from '../../src/node/http-transport.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { Nginx, nginxMissing } from './nginx.js';

/** The shipped model as it comes, converted to f32 rows, and served. */
export interface Served {
  model: DiskFolder;
  converted: DiskFolder;
  /** Of an nginx that serves the converted model; null where there is none. */
  url: string | null;
  /** Why there is none. */
  missing: string | null;
  /** The served model. */
  folder(options?: HttpOptions): HttpFolder;
  /** A folder of this name that goes when the others do. */
  scratch(name: string): string;
}

/** Converts and serves the shipped model for as long as `use` takes. */
export async function withServed<T>(use: (served: Served) => Promise<T>): Promise<T> {
  const missing = nginxMissing();
  const scratch = await mkdtemp(join(tmpdir(), 'pairslab-beyond-'));
  const model = await DiskFolder.at(SHIPPED_MODEL);
  let converted: DiskFolder | undefined;
  let nginx: Nginx | undefined;
  try {
    const sink = await FolderSink.at(join(scratch, 'files'));
    await convertModel(model, sink, { dtype: 'f32' });
    await sink.commit();
    converted = await DiskFolder.at(sink.path);
    if (missing === null) {
      nginx = await Nginx.in(scratch);
      await nginx.start();
    }
    const url = nginx?.url ?? null;
    const folder = (options?: HttpOptions) =>
      new HttpFolder(url as string, { transport: nodeTransport, ...options });
    return await use({ model, converted, url, missing, folder, scratch: (name) => join(scratch, name) });
  } finally {
    await nginx?.kill();
    await converted?.close();
    await model.close();
    await rm(scratch, { recursive: true, force: true });
  }
}
