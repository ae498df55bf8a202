/** A server of models for the demo's tests, good ones and bad ones, to pages of every origin. */
import { readFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sendRange } from '../support/fault-server.js';
import { STATESMAN } from '../llama/node-folder.js';

const CORS = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Headers': 'Range',
  'Access-Control-Expose-Headers': 'Content-Range, Content-Length, ETag',
};
const PAGE = '<!doctype html><title>Not found</title><p>Nothing here.</p>'.padEnd(4096, ' ');
const TEN_GB = 10 * 2 ** 30;

/** What a bad folder has in place of a file; the rest of its files are the shipped model's. */
type Answer = (response: ServerResponse, range: readonly [number, number] | null) => void;

export const HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>';

/** A safetensors header that says it is longer than any file. */
function lyingLength(): Buffer {
  const file = Buffer.alloc(4096, 0x20);
  file.writeBigUInt64LE(2n ** 40n);
  return file;
}

/** One whose tensors end where the file does not. */
function lyingOffsets(): Buffer {
  const header = JSON.stringify({
    'model.norm.weight': { dtype: 'F32', shape: [2 ** 20], data_offsets: [0, 2 ** 22] },
  });
  const file = Buffer.alloc(8 + header.length + 64);
  file.writeBigUInt64LE(BigInt(header.length));
  file.write(header, 8);
  return file;
}

const bytes =
  (file: Buffer): Answer =>
  (response, range) =>
    range ? sendRange(response, file, range, CORS) : void response.writeHead(200, CORS).end(file);

const BAD: Readonly<Record<string, Readonly<Record<string, Answer>>>> = {
  'lying-length': { 'model.safetensors': bytes(lyingLength()) },
  'lying-offsets': { 'model.safetensors': bytes(lyingOffsets()) },
  // As a host answers that has a page for whatever it does not find.
  'html-weights': {
    'model.safetensors': (response) =>
      response.writeHead(200, { ...CORS, 'content-type': 'text/html' }).end(PAGE),
  },
  'html-config': { 'config.json': bytes(Buffer.from(PAGE)) },
  // The header alone: nobody sends, or waits for, what it promises.
  'ten-gb': {
    'model.safetensors': (response) => {
      response.writeHead(200, { ...CORS, 'content-length': TEN_GB }).write('x');
    },
  },
  'ten-gb-tokenizer': {
    'tokenizer.json': (response, range) =>
      range
        ? response
            .writeHead(206, { ...CORS, 'content-range': `bytes ${range[0]}-${range[1]}/${TEN_GB}` })
            .end('x')
        : response.writeHead(500, CORS).end(),
  },
  'no-model': { 'config.json': (response) => response.writeHead(404, CORS).end() },
};

export class ModelServer {
  private readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(): Promise<ModelServer> {
    const server = createServer(async (request, response) => {
      if (request.method === 'OPTIONS') {
        response.writeHead(204, CORS).end();
        return;
      }
      const [, folder, name] = /^\/([\w-]+)\/([\w.-]+)$/.exec(request.url ?? '') ?? [];
      const found = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
      const range = found ? ([Number(found[1]), Number(found[2])] as const) : null;
      const bad = BAD[folder]?.[name];
      if (bad) {
        bad(response, range);
        return;
      }
      const file = await readFile(`${STATESMAN}${name}`).catch(() => null);
      if (!file) response.writeHead(404, CORS).end();
      else bytes(folder === 'script' && name === 'tokenizer.json' ? withScript(file) : file)(response, range);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new ModelServer(server);
  }

  url(folder: string): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/${folder}/`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** The tokenizer with a token of markup: 259, which the model's answer to the reference's first prompt begins with. */
function withScript(file: Buffer): Buffer {
  const json = JSON.parse(file.toString('utf8'));
  json.added_tokens.push({
    id: 259,
    content: HOSTILE,
    special: false,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  return Buffer.from(JSON.stringify(json));
}
