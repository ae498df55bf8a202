import { constants } from 'node:fs';
import { access, type FileHandle, open, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ModelFormatError } from '../errors.js';
import { type ByteSource, checkRange, type ModelFolder } from '../io/byte-source.js';

/** A file read piece by piece, so that no model is ever in memory whole. */
class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  private readonly handle: FileHandle;

  constructor(name: string, size: number, handle: FileHandle) {
    this.name = name;
    this.size = size;
    this.handle = handle;
  }

  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) {
        throw new ModelFormatError(
          `${this.name} ended at ${offset + done}; it had ${this.size} bytes when opened.`,
          {
            file: this.name,
            at: offset + done,
          },
        );
      }
      done += bytesRead;
    }
    return bytes;
  }
}

/** A Hugging Face model folder on disk. Files stay open until `close`. */
export class DiskFolder implements ModelFolder {
  readonly name: string;
  private readonly path: string;
  private readonly handles: FileHandle[] = [];

  /** @throws ModelFormatError when `path` is not a folder that can be read. */
  static async at(path: string): Promise<DiskFolder> {
    try {
      if (!(await stat(path)).isDirectory()) throw new Error('not a folder');
      await access(path, constants.R_OK);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new ModelFormatError(`${path} is not a model folder: ${why}`, { path });
    }
    return new DiskFolder(path);
  }

  private constructor(path: string) {
    this.path = path;
    this.name = basename(path);
  }

  async open(file: string): Promise<ByteSource | null> {
    const path = join(this.path, file);
    let handle: FileHandle;
    try {
      handle = await open(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    this.handles.push(handle);
    const { size } = await handle.stat();
    return new FileSource(path, size, handle);
  }

  async close(): Promise<void> {
    await Promise.all(this.handles.splice(0).map((handle) => handle.close()));
  }
}
