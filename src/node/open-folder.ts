import type { ModelFolder } from '../io/byte-source.js';
import { HttpFolder } from '../io/http-source.js';
import { nodeTransport } from './http-transport.js';
import { DiskFolder } from './model-folder.js';

/** A model's folder, to be closed after use. */
export interface OpenFolder extends ModelFolder {
  close(): Promise<void>;
}

export const isUrl = (where: string): boolean => /^https?:\/\//i.test(where);

/**
 * A folder on disk or, by its URL, on a server that answers range requests.
 * @throws ModelFormatError when there is no such folder on disk. A server is asked when a file is opened.
 */
export async function openFolder(where: string): Promise<OpenFolder> {
  if (!isUrl(where)) return DiskFolder.at(where);
  const folder = new HttpFolder(where, { transport: nodeTransport });
  return { name: folder.name, open: (file) => folder.open(file), close: async () => {} };
}
