import { PoolError } from '../../../src/index.js';
import { BlobSource, type ByteSource, HttpFolder, type ModelFolder } from '../../../src/pool/index.js';

/** A file of more bytes is not taken whole: its server must know ranges. */
const MOST_BYTES = 1 << 30;

/** A folder whose files are fetched whole: any web server can host a small model. */
export class WholeFiles implements ModelFolder {
  readonly name: string;
  private readonly base: URL;
  private readonly files?: readonly string[];

  /** `files`: which there are, where that is known: none is asked for in vain. */
  constructor(url: string | URL, files?: readonly string[]) {
    this.files = files;
    this.base = new URL(url);
    if (!this.base.pathname.endsWith('/')) this.base.pathname += '/';
    this.name = this.base.href;
  }

  /** @throws PoolError, but for a file that is missing. */
  async open(file: string): Promise<ByteSource | null> {
    if (this.files && !this.files.includes(file)) return null;
    const url = new URL(this.base);
    url.pathname += encodeURIComponent(file);
    const stop = new AbortController();
    const failed = (cause: unknown): PoolError =>
      new PoolError('network', `${url}: ${cause instanceof Error ? cause.message : cause}.`, {
        url: url.href,
      });
    const response = await fetch(url, { signal: stop.signal }).catch((cause: unknown) => {
      throw failed(cause);
    });
    const { status, headers } = response;
    if (status === 404 || status === 410) return null;
    if (!response.ok)
      throw new PoolError('status', `${url}: the server answered ${status}.`, { url: url.href, status });
    const size = Number(headers.get('content-length') ?? 0);
    if (size > MOST_BYTES) {
      stop.abort();
      throw new PoolError(
        'no-ranges',
        `${url} has ${size} bytes, and its server sends it as a whole or not at all: at most ${MOST_BYTES} are taken ` +
          'so. Serve it from one that answers range requests.',
        { url: url.href, size },
      );
    }
    const blob = await response.blob().catch((cause: unknown) => {
      throw failed(cause);
    });
    return new BlobSource(blob, url.href);
  }
}

/** What says that ranges cannot be had: no server of such answers serves a part of a file. */
const NO_RANGES: readonly string[] = ['no-ranges', 'wrong-range'];

/** A folder on a server that knows ranges, or, file by file, on one that does not. */
export class AnyServer implements ModelFolder {
  readonly name: string;
  private readonly ranges: HttpFolder;
  private readonly whole: WholeFiles;

  constructor(url: string | URL) {
    this.ranges = new HttpFolder(url);
    this.whole = new WholeFiles(url);
    this.name = this.ranges.name;
  }

  /** @throws PoolError, but for a file that is missing. */
  async open(file: string): Promise<ByteSource | null> {
    try {
      return await this.ranges.open(file);
    } catch (error) {
      if (!(error instanceof PoolError) || !NO_RANGES.includes(error.code)) throw error;
      return this.whole.open(file);
    }
  }
}
