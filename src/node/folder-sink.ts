import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { OptionError } from '../errors.js';
import type { FileSink, ModelSink } from '../llama/convert.js';

/** A folder that is written beside its place and takes it when it is whole. */
export class FolderSink implements ModelSink {
  readonly path: string;
  private readonly partial: string;

  /** @throws OptionError when there is something at `path` already, other than an empty folder. */
  static async at(path: string): Promise<FolderSink> {
    const full = resolve(path);
    const there = await readdir(full).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      if (error.code === 'ENOTDIR') return ['.'];
      throw error;
    });
    if (there.length > 0)
      throw new OptionError(`${path} exists and is not an empty folder; choose another, or remove it.`, {
        path,
      });
    const partial = `${full}.partial-${process.pid}`;
    await mkdir(dirname(full), { recursive: true });
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial);
    return new FolderSink(full, partial);
  }

  private constructor(path: string, partial: string) {
    this.path = path;
    this.partial = partial;
  }

  async create(file: string): Promise<FileSink> {
    const handle = await open(join(this.partial, file), 'wx');
    return {
      write: (bytes) => writeAll(handle, bytes),
      close: async () => {
        try {
          await handle.sync();
        } finally {
          await handle.close();
        }
      },
    };
  }

  /** Puts the folder in its place. */
  async commit(): Promise<void> {
    await rename(this.partial, this.path);
  }

  async discard(): Promise<void> {
    await rm(this.partial, { recursive: true, force: true });
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten;
}
