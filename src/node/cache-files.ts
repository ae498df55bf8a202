import { type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CacheFiles } from '../pool/segment-cache.js';
import { cacheFolder } from './tuning-store.js';

const MOST_OPEN = 64;

/** The files of a folder on disk, made when the first is written. Default: `blocks` in the user's cache folder. */
export function cacheFolderFiles(folder = join(cacheFolder(), 'blocks')): CacheFiles {
  const missing = (error: NodeJS.ErrnoException): null => {
    if (error.code === 'ENOENT') return null;
    throw error;
  };
  /** Opening takes longer than reading a block. The one opened first is closed first. */
  const handles = new Map<string, Promise<FileHandle | null>>();
  const shut = async (name: string): Promise<void> => {
    const handle = handles.get(name);
    handles.delete(name);
    await (await handle)?.close();
  };
  const opened = async (name: string): Promise<FileHandle | null> => {
    let handle = handles.get(name);
    if (!handle) {
      handle = open(join(folder, name)).catch(missing);
      handles.set(name, handle);
      const [oldest] = handles.keys();
      if (handles.size > MOST_OPEN) await shut(oldest);
    }
    const found = await handle;
    if (!found) handles.delete(name);
    return found;
  };
  return {
    list: async () => {
      const names = (await readdir(folder).catch(missing)) ?? [];
      const sizes = await Promise.all(names.map((name) => stat(join(folder, name)).catch(missing)));
      return names.flatMap((name, i) => (sizes[i]?.isFile() ? [{ name, size: sizes[i].size }] : []));
    },
    read: async (name, offset, length) => {
      const handle = await opened(name);
      if (!handle) return null;
      const bytes = new Uint8Array(length);
      try {
        const { bytesRead } = await handle.read(bytes, 0, length, offset);
        return bytesRead === length ? bytes : null;
      } catch (error) {
        // Another read closed it to stay below the limit.
        if ((error as NodeJS.ErrnoException).code === 'EBADF') return null;
        throw error;
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
    remove: async (name) => {
      await shut(name);
      await rm(join(folder, name), { force: true });
    },
    close: async () => {
      await Promise.all([...handles.keys()].map(shut));
    },
  };
}
