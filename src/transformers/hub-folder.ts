import { OptionError, PoolError } from '../errors.js';
import { type ByteSource, type ByteReadOptions, checkRange, type ModelFolder } from '../io/byte-source.js';
import { cachedSource } from '../io/cached-source.js';
import { type RetryOptions, withRetries } from '../io/retry.js';
import type { BlockCache } from '../pool/block-cache.js';

export interface HubOptions extends RetryOptions {
  /** A branch, a tag or a commit. Default main. */
  revision?: string;
  /** Default https://huggingface.co. */
  hubUrl?: string;
  accessToken?: string;
  /** Keeps what was read for the next time, e.g. a `SegmentCache` over `opfsFiles`. */
  cache?: BlockCache;
}

/** `org/name`, or a name alone. */
const REPO_ID = /^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/;

/** Whether a model's name can be a repo id, and is no URL or path. */
export const isRepoId = (name: string): boolean => REPO_ID.test(name) && !name.includes('..');

/**
 * The files of a model on the Hugging Face hub, by @huggingface/hub (tested with 2.17.5): what is read is asked for by
 * range, also of files that the hub keeps in its own chunks.
 */
export class HubFolder implements ModelFolder {
  readonly name: string;
  private readonly options: HubOptions;
  private readonly hubUrl: string;

  /** @throws OptionError when `repo` is no repo id. */
  constructor(repo: string, options: HubOptions = {}) {
    if (!isRepoId(repo)) {
      throw new OptionError(`"${repo.slice(0, 80)}" is no repo id, such as org/name.`, { repo });
    }
    this.name = repo;
    this.options = options;
    this.hubUrl = (options.hubUrl ?? 'https://huggingface.co').replace(/\/+$/, '');
  }

  /** @throws PoolError for all but a file that is not in the repo. */
  async open(file: string): Promise<ByteSource | null> {
    const { fileDownloadInfo, downloadFile } = await import('@huggingface/hub');
    const { hubUrl } = this;
    const { revision, accessToken, cache } = this.options;
    const name = `${hubUrl}/${this.name}/${file}`;
    const which = { repo: this.name, path: file, revision, hubUrl, accessToken };
    const retried = <T>(ask: () => Promise<T>, signal?: AbortSignal): Promise<T> =>
      withRetries(() => ask().catch((cause) => Promise.reject(poolError(name, cause))), this.options, signal);
    const info = await retried(() => fileDownloadInfo(which));
    if (!info) return null;
    // The library reads small files whole at once: not before something of them is asked for.
    let blob: Promise<Blob | null> | undefined;
    const opened = async (): Promise<Blob> => {
      blob ??= downloadFile({ ...which, downloadInfo: info });
      blob.catch(() => {
        blob = undefined;
      });
      const found = await blob;
      if (!found) throw new PoolError('missing', `${name}: it was there a moment ago.`, { url: name });
      return found;
    };
    const read = async (offset: number, length: number, { signal }: ByteReadOptions = {}) => {
      checkRange(source, offset, length);
      return retried(async () => {
        signal?.throwIfAborted();
        const part = (await opened()).slice(offset, offset + length);
        const bytes = new Uint8Array(await part.arrayBuffer());
        if (bytes.length === length) return bytes;
        const details = { url: name, offset, length, got: bytes.length };
        if (bytes.length < length)
          throw new PoolError('short', `${name}: ${bytes.length} of ${length} bytes arrived.`, details);
        throw new PoolError('no-ranges', `${name}: the server sent more than the range asked for.`, details);
      }, signal);
    };
    const source: ByteSource = { name, size: info.size, read };
    return cache ? cachedSource(source, cache, `${name} ${info.etag}`) : source;
  }
}

/** The library's errors, which it makes of a response it did not expect, and fetch's. */
function poolError(name: string, cause: unknown): unknown {
  if (cause instanceof PoolError || (cause instanceof DOMException && cause.name === 'AbortError'))
    return cause;
  const { statusCode: status, message } = cause as { statusCode?: number; message?: string };
  const error =
    status === undefined
      ? new PoolError('network', `${name}: ${message ?? String(cause)}`, { url: name })
      : status === 404
        ? new PoolError('missing', `${name}: there is no such model or revision (404).`, {
            url: name,
            status,
          })
        : new PoolError('status', `${name}: the hub answered ${status}: ${message}`, { url: name, status });
  error.cause = cause;
  return error;
}
