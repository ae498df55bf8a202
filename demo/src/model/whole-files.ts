import { PoolError } from '../../../src/index.js';
import { BlobSource, type ByteSource, type ModelFolder } from '../../../src/pool/index.js';

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
