/** A static file server in this process that knows ranges, and can be told to misbehave. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface RangeRequest {
  readonly path: string;
  /** First and last byte asked for; null without a Range header. */
  readonly range: readonly [number, number] | null;
  readonly headers: IncomingMessage['headers'];
  /** Requests before this one. */
  readonly n: number;
}

/** Answers a request itself (true), or leaves it to the server. */
export type Fault = (request: RangeRequest, response: ServerResponse, file: Buffer) => boolean;

export class FaultServer {
  readonly files = new Map<string, Buffer>();
  readonly seen: RangeRequest[] = [];
  etag = '"1"';
  fault: Fault = () => false;
  /** Responses under way, and the most there were at a time. */
  open = 0;
  mostOpen = 0;
  private readonly server = createServer((request, response) => this.answer(request, response));

  /** @param files by their path, without a slash before it. */
  static async start(files: Readonly<Record<string, Uint8Array>>): Promise<FaultServer> {
    const made = new FaultServer();
    for (const [path, bytes] of Object.entries(files)) made.files.set(path, Buffer.from(bytes));
    await new Promise<void>((resolve) => made.server.listen(0, '127.0.0.1', resolve));
    return made;
  }

  url(path = ''): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/${path}`;
  }

  /** Every connection is cut. */
  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    this.open++;
    this.mostOpen = Math.max(this.mostOpen, this.open);
    response.once('close', () => this.open--);
    const path = decodeURIComponent((request.url ?? '').slice(1));
    const found = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const range = found ? ([Number(found[1]), Number(found[2])] as const) : null;
    const seen = { path, range, headers: request.headers, n: this.seen.length };
    this.seen.push(seen);
    const file = this.files.get(path);
    if (!file) {
      response.writeHead(404).end('no such file');
      return;
    }
    if (this.fault(seen, response, file)) return;
    if (!range) response.writeHead(200).end(file);
    else sendRange(response, file, range, { etag: this.etag });
  }
}

export function sendRange(
  response: ServerResponse,
  file: Buffer,
  [first, last]: readonly [number, number],
  headers: Record<string, string> = {},
): void {
  if (first >= file.length) {
    response.writeHead(416).end();
    return;
  }
  const body = file.subarray(first, Math.min(last + 1, file.length));
  const contentRange = `bytes ${first}-${first + body.length - 1}/${file.length}`;
  response
    .writeHead(206, { 'content-range': contentRange, 'content-length': body.length, ...headers })
    .end(body);
}
