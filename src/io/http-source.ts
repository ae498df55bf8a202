import { PoolError } from '../errors.js';
import {
  BlobSource,
  type ByteReadOptions,
  type ByteSource,
  checkRange,
  type ModelFolder,
} from './byte-source.js';
import { type RetryOptions, withRetries } from './retry.js';

export interface HttpOptions extends RetryOptions {
  /** Sent with every request. */
  headers?: Readonly<Record<string, string>>;
  /** A request is given up when nothing arrives for so long, in ms. Default 10,000. */
  stallMs?: number;
  /**
   * The most bytes that are taken from a server that knows no ranges: such a file is fetched once, as a whole, when it is
   * opened, and kept in memory. A larger one is refused before its body is read. Default 64 MiB; 0: ranges or nothing.
   */
  wholeBytes?: number;
  /** Instead of the global `fetch`. */
  fetch?: typeof fetch;
  /** Instead of any `fetch`. */
  transport?: HttpTransport;
}

/** What a server answered, body not read yet. */
export interface HttpAnswer {
  readonly status: number;
  readonly statusText: string;
  /** By its name in lower case; null where there is none. */
  header(name: string): string | null;
  /** Whether the server may have sent headers that cannot be seen: answers from another origin. */
  readonly hidesHeaders: boolean;
  /** The next part of the body; null at its end. */
  read(): Promise<Uint8Array | null>;
}

/** Sends a GET and follows redirects. When the signal is aborted it ends all, what is left of the body too. */
export type HttpTransport = (
  url: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
) => Promise<HttpAnswer>;

const byFetch =
  (fetcher: typeof fetch): HttpTransport =>
  async (url, headers, signal) => {
    // A browser's cache would keep a second copy, in pieces, and may answer with an older version.
    const response = await fetcher(url, { headers, signal, cache: 'no-store' });
    const reader = response.body?.getReader();
    return {
      status: response.status,
      statusText: response.statusText,
      header: (name) => response.headers.get(name),
      hidesHeaders: response.type === 'cors',
      read: async () => (await reader?.read())?.value ?? null,
    };
  };

export interface HttpOpenOptions extends HttpOptions {
  /** Bytes, where the server hides Content-Range from other origins. */
  size?: number;
  signal?: AbortSignal;
}

/** What a file is known by from one request to the next. */
interface Version {
  readonly etag: string | null;
  readonly modified: string | null;
}

interface Answer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly total: number | null;
  readonly version: Version;
}

/** What the first request learns of a file. */
type Opened = Omit<Answer, 'bytes'> & {
  /** All of it, from a server that sends no less. */
  readonly whole?: Blob;
};

/**
 * A file on a static server or in an object store, read by range requests. Faults that may pass (no connection, a stall,
 * a short body, 408, 429, 5xx) are tried again; what is left is a PoolError. A file that changes while it is open is
 * noticed by its ETag or Last-Modified, or by its size. A small file also comes from a server that knows no ranges.
 */
export class HttpSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  private readonly options: HttpOptions;
  private readonly version: Version;
  private readonly whole?: ByteSource;

  /**
   * Asks for the first byte, which tells whether the server knows ranges, and the file's size and version.
   * @throws PoolError: `missing` for 404 and 410, `no-ranges` for more than `wholeBytes` of a server without them,
   * `status`, `network`, `stalled`, `wrong-range` (also when the size cannot be seen and none was given).
   */
  static async open(url: string | URL, options: HttpOpenOptions = {}): Promise<HttpSource> {
    const name = String(url);
    const ask = () => probe(name, options);
    const { total, version, whole } = await withRetries(ask, options, options.signal);
    const size = total ?? options.size;
    if (size === undefined) {
      throw new PoolError(
        'wrong-range',
        `${name}: the size cannot be seen; let the server expose Content-Range, or give the size.`,
        { url: name },
      );
    }
    return new HttpSource(name, size, version, options, whole);
  }

  private constructor(name: string, size: number, version: Version, options: HttpOptions, whole?: Blob) {
    this.name = name;
    this.size = size;
    this.version = version;
    this.options = options;
    this.whole = whole && new BlobSource(whole, name);
  }

  /** @throws PoolError; ModelFormatError for a range outside of the file; the signal's reason. */
  async read(
    offset: number,
    length: number,
    { signal }: ByteReadOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    signal?.throwIfAborted();
    if (length === 0) return new Uint8Array(0);
    const { name, size, version, options, whole } = this;
    if (whole) return whole.read(offset, length);
    const ask = () => request(name, offset, length, size, version, options, signal);
    return (await withRetries(ask, options, signal)).bytes;
  }
}

/** The files of a model under one URL. */
export class HttpFolder implements ModelFolder {
  readonly name: string;
  private readonly base: URL;
  private readonly options: HttpOptions;

  /** @param url Of the folder; a last part without a slash at its end is taken as the folder's name. */
  constructor(url: string | URL, options: HttpOptions = {}) {
    const base = new URL(url);
    if (!base.pathname.endsWith('/')) base.pathname += '/';
    this.base = base;
    this.name = base.href;
    this.options = options;
  }

  /** @throws PoolError, but for a file that is missing. */
  async open(file: string): Promise<ByteSource | null> {
    const url = new URL(this.base);
    url.pathname += encodeURIComponent(file);
    try {
      return await HttpSource.open(url, this.options);
    } catch (error) {
      if (error instanceof PoolError && error.code === 'missing') return null;
      throw error;
    }
  }
}

const DEFAULT_STALL_MS = 10_000;
const DEFAULT_WHOLE_BYTES = 64 << 20;

/** Asks for the first byte of a file of which nothing is known. */
function probe(url: string, options: HttpOpenOptions): Promise<Opened> {
  return exchange(url, 0, 1, options, options.signal, async (answer, alive, stop) => {
    const version = versionOf(answer);
    if (answer.status === 200) {
      const whole = await readWhole(url, answer, options.wholeBytes ?? DEFAULT_WHOLE_BYTES, alive);
      return { total: whole.size, version, whole };
    }
    const { total, more } = checkAnswer(url, answer, 0, 0, null, null);
    // Some servers (sirv, and with it `vite preview`) take a range that ends at byte 0 for one without an end.
    if (more) stop();
    else await readBody(url, answer, 1, alive);
    return { total, version };
  });
}

/** One request for one range. `size` and `version`: what they were. */
function request(
  url: string,
  offset: number,
  length: number,
  size: number,
  version: Version,
  options: HttpOptions,
  signal?: AbortSignal,
): Promise<Answer> {
  return exchange(url, offset, length, options, signal, async (answer, alive) => {
    const { total } = checkAnswer(url, answer, offset, offset + length - 1, size, version);
    return { total, bytes: await readBody(url, answer, length, alive), version: versionOf(answer) };
  });
}

/**
 * Asks for a range and gives the answer to `use`, which says when something has arrived, or that it wants no more.
 * @throws what `use` throws; PoolError; the signal's reason.
 */
async function exchange<T>(
  url: string,
  offset: number,
  length: number,
  options: HttpOptions,
  signal: AbortSignal | undefined,
  use: (answer: HttpAnswer, alive: () => void, stop: () => void) => Promise<T>,
): Promise<T> {
  const { stallMs = DEFAULT_STALL_MS, headers = {} } = options;
  signal?.throwIfAborted();
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  let stalled = false;
  const onStall = (): void => {
    stalled = true;
    controller.abort();
  };
  let timer = setTimeout(onStall, stallMs);
  const alive = (): void => {
    clearTimeout(timer);
    timer = setTimeout(onStall, stallMs);
  };
  const end = offset + length - 1;
  try {
    const transport = options.transport ?? byFetch(options.fetch ?? fetch);
    const answer = await transport(url, { ...headers, Range: `bytes=${offset}-${end}` }, controller.signal);
    alive();
    return await use(answer, alive, () => controller.abort());
  } catch (cause) {
    // Whatever is still under way is of no use: the connection is closed.
    controller.abort();
    if (signal?.aborted) throw signal.reason;
    if (stalled) {
      throw new PoolError('stalled', `${url}: nothing arrived for ${stallMs} ms.`, { url, offset, stallMs });
    }
    if (cause instanceof PoolError) throw cause;
    const why = cause instanceof Error ? [cause.message, reasonOf(cause)].filter(Boolean).join(': ') : cause;
    const error = new PoolError('network', `${url}: ${why}.`, { url, offset, length });
    error.cause = cause;
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Node's fetch says "fetch failed" and has the reason one level deeper. */
function reasonOf({ cause }: Error): string {
  return cause instanceof Error
    ? cause.message || String((cause as Error & { code?: unknown }).code ?? '')
    : '';
}

function versionOf(answer: HttpAnswer): Version {
  return { etag: answer.header('etag'), modified: answer.header('last-modified') };
}

/**
 * Checks all but the body, which may be longer than asked for where nothing is known yet (`size` is null).
 * @returns the file's size, null where the server hides it from other origins, and whether more comes than was asked for.
 */
function checkAnswer(
  url: string,
  answer: HttpAnswer,
  offset: number,
  end: number,
  size: number | null,
  version: Version | null,
): { total: number | null; more: boolean } {
  const { status } = answer;
  if (status === 200) {
    throw new PoolError(
      'no-ranges',
      `${url}: the server answers a range request with the whole file. Serve it from one that knows ranges.`,
      { url },
    );
  }
  if (status === 404 || status === 410) {
    throw new PoolError('missing', `${url}: not found (${status}).`, { url, status });
  }
  const changed = (what: string) =>
    new PoolError('changed', `${url} is another file than the one that was opened: ${what}. Open it again.`, {
      url,
    });
  if (status === 416 && size !== null) throw changed(`byte ${offset} is beyond its end`);
  if (status !== 206) {
    throw new PoolError('status', `${url}: the server answered ${status} ${answer.statusText}.`, {
      url,
      status,
    });
  }
  const now = versionOf(answer);
  for (const key of ['etag', 'modified'] as const) {
    const before = version?.[key];
    if (before && now[key] && before !== now[key]) throw changed(`${before} became ${now[key]}`);
  }
  const range = answer.header('content-range');
  if (range === null && answer.hidesHeaders) return { total: null, more: false };
  const found = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(range ?? '');
  const [first, last, total] = found ? found.slice(1).map(Number) : [];
  const more = size === null && last > end;
  if (!found || first !== offset || (last !== end && !more)) {
    if (found && size !== null && total !== size) throw changed(`it had ${size} bytes and has ${total}`);
    throw new PoolError(
      'wrong-range',
      `${url}: asked for bytes ${offset}-${end}, the server sent ${range === null ? 'no Content-Range' : JSON.stringify(range.slice(0, 80))}.`,
      { url, offset, end, range },
    );
  }
  if (size !== null && total !== size) throw changed(`it had ${size} bytes and has ${total}`);
  return { total, more };
}

/** All of a file. @throws PoolError where it has more than `most` bytes, before they are read if the server says so. */
async function readWhole(url: string, answer: HttpAnswer, most: number, alive: () => void): Promise<Blob> {
  const refuse = (bytes: string) => {
    const what = `${url}: the server answers a range request with the whole file, of ${bytes} bytes`;
    const how = `at most ${most} are taken so (wholeBytes). Serve it from one that knows ranges.`;
    return new PoolError('no-ranges', `${what}; ${how}`, { url, wholeBytes: most });
  };
  const said = Number(answer.header('content-length') ?? 0);
  if (said > most) throw refuse(`${said}`);
  const parts: BlobPart[] = [];
  let got = 0;
  for (;;) {
    const part = await answer.read();
    alive();
    if (!part) return new Blob(parts);
    got += part.length;
    if (got > most) throw refuse(`more than ${most}`);
    parts.push(part as Uint8Array<ArrayBuffer>);
  }
}

/** The body, of exactly `length` bytes: never more memory than was asked for. */
async function readBody(
  url: string,
  answer: HttpAnswer,
  length: number,
  alive: () => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let got = 0;
  for (;;) {
    const value = await answer.read();
    alive();
    if (!value) break;
    if (got + value.length > length) {
      throw new PoolError('wrong-range', `${url}: more than the ${length} bytes asked for arrived.`, {
        url,
        length,
      });
    }
    bytes.set(value, got);
    got += value.length;
  }
  if (got === length) return bytes;
  throw new PoolError('short', `${url}: ${got} of ${length} bytes arrived.`, { url, got, length });
}
