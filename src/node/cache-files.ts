import { mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CacheFiles } from '../pool/segment-cache.js';
import { cacheFolder } from './tuning-store.js';

/** The files of a folder on disk, made when the first is written. Default: `blocks` in the user's cache folder. */
export function cacheFolderFiles(folder = join(cacheFolder(), 'blocks')): CacheFiles {
  const missing = (error: NodeJS.ErrnoException): null => {
    if (error.code === 'ENOENT') return null;
    throw error;
  };
  return {
    list: async () => {
      const names = (await readdir(folder).catch(missing)) ?? [];
      const sizes = await Promise.all(names.map((name) => stat(join(folder, name)).catch(missing)));
      return names.flatMap((name, i) => (sizes[i]?.isFile() ? [{ name, size: sizes[i].size }] : []));
    },
    read: async (name, offset, length) => {
      const handle = await open(join(folder, name)).catch(missing);
      if (!handle) return null;
      try {
        const bytes = new Uint8Array(length);
        const { bytesRead } = await handle.read(bytes, 0, length, offset);
        return bytesRead === length ? bytes : null;
      } finally {
        await handle.close();
      }
    },
    write: async (name, bytes) => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const partial = join(folder, `.${name}.${process.pid}`);
      try {
        await writeFile(partial, bytes);
        await rename(partial, join(folder, name));
      } finally {
        await rm(partial, { force: true });
      }
    },
    remove: (name) => rm(join(folder, name), { force: true }),
  };
}
