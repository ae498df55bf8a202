import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { TuningError } from '../errors.js';
import { parseJson, type TuningStore } from '../gpu/tuning-store.js';
import type { TuningKey } from '../gpu/tuning-key.js';

/** A tuning of the most entries there may be is a quarter of it. */
const MOST_BYTES = 1 << 20;

/** The user's cache folder of this package, as `unpackSwiftShader` uses it. */
export function cacheFolder(env: Record<string, string | undefined> = process.env): string {
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'pairslab');
}

export const tuningFile = (key: TuningKey, folder = cacheFolder()): string =>
  join(folder, `tuning-${key.hash}.json`);

/** Tunings as files, written whole or not at all. */
export function diskStore(folder = cacheFolder()): TuningStore {
  return {
    load: async (key) => {
      const file = tuningFile(key, folder);
      try {
        const { size } = await stat(file);
        if (size > MOST_BYTES)
          throw new TuningError(`${file} has ${size} bytes; it may have ${MOST_BYTES}.`, { file, size });
        return parseJson(await readFile(file, 'utf8'));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
        throw error;
      }
    },
    save: async (key, value) => {
      const file = tuningFile(key, folder);
      const partial = `${file}.${process.pid}`;
      await mkdir(folder, { recursive: true, mode: 0o700 });
      try {
        await writeFile(partial, `${JSON.stringify(value, null, 1)}\n`);
        await rename(partial, file);
      } finally {
        await rm(partial, { force: true });
      }
    },
  };
}
