import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { basename, join } from 'node:path';

export interface FolderServer {
  /** Requests for files, as `GET file bytes=0-9`. */
  readonly seen: string[];
  route(request: IncomingMessage, response: ServerResponse): boolean;
}

/**
 * Serves the files of a folder under a path as the Hugging Face hub does under `/ORG/NAME/resolve/REVISION/`: range
 * requests, an ETag, the commit, and 404 with an error code in a header for a file that is not there.
 * @param more Files beside or instead of the folder's.
 */
export function serveFolder(
  path: string,
  folder: string,
  more: Readonly<Record<string, string>> = {},
): FolderServer {
  const seen: string[] = [];
  const files = new Map<string, { bytes: Buffer; etag: string }>();
  const read = (name: string) => {
    const file = join(folder, name);
    if (!files.has(name) && (name in more || existsSync(file))) {
      const bytes = name in more ? Buffer.from(more[name]) : readFileSync(file);
      files.set(name, { bytes, etag: `"${createHash('sha1').update(bytes).digest('hex')}"` });
    }
    return files.get(name);
  };
  return {
    seen,
    route(request, response) {
      const url = decodeURIComponent((request.url ?? '').split('?')[0]);
      if (!url.startsWith(path)) return false;
      const name = url.slice(path.length);
      const range = request.headers.range ?? '';
      seen.push([request.method, name, range].filter(Boolean).join(' '));
      const headers = {
        'X-Repo-Commit': 'a'.repeat(40),
        'Accept-Ranges': 'bytes',
        'Cache-Control': 'no-store',
      };
      const file = basename(name) === name ? read(name) : undefined;
      if (!file) {
        response.writeHead(404, { ...headers, 'X-Error-Code': 'EntryNotFound' }).end('Entry not found');
        return true;
      }
      const { bytes, etag } = file;
      const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? [];
      const begin = Number(first ?? 0);
      const end = Math.min(bytes.length, last ? Number(last) + 1 : bytes.length);
      const body = bytes.subarray(begin, end);
      response.writeHead(first === undefined ? 200 : 206, {
        ...headers,
        ETag: etag,
        'Content-Length': body.length,
        ...(first === undefined ? {} : { 'Content-Range': `bytes ${begin}-${end - 1}/${bytes.length}` }),
      });
      response.end(request.method === 'HEAD' ? undefined : body);
      return true;
    },
  };
}
