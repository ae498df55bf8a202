import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ModelFormatError, PoolError, type PoolErrorCode } from '../../src/errors.js';
import { HttpFolder, type HttpOpenOptions, HttpSource } from '../../src/io/http-source.js';
import { backoff } from '../../src/io/retry.js';
import { nodeTransport } from '../../src/node/http-transport.js';
import { type Fault, FaultServer, sendRange } from '../support/fault-server.js';

const FILE = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) % 251);
const QUICK = { retries: 2, backoffMs: 1, stallMs: 5000 };

const servers: FaultServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function serveBy(options: HttpOpenOptions) {
  const server = await FaultServer.start({ 'a.bin': FILE });
  servers.push(server);
  const source = await HttpSource.open(server.url('a.bin'), options);
  server.seen.length = 0;
  return { server, source };
}

const failure = async (promise: Promise<unknown>): Promise<PoolError> => {
  const error = await promise.then(
    () => null,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(PoolError);
  return error as PoolError;
};

describe.each([
  ['fetch', {}],
  ['node:http', { transport: nodeTransport }],
] as const)('HttpSource by %s', (_, by) => {
  const quick = { ...QUICK, ...by };
  const serve = (options: HttpOpenOptions = QUICK) => serveBy({ ...options, ...by });

  it('reads any range, and only that', async () => {
    const { server, source } = await serve();
    expect(source.size).toBe(1000);
    const range = fc.tuple(fc.nat(1000), fc.nat(1000)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
    await fc.assert(
      fc.asyncProperty(range, async ([begin, end]) => {
        server.seen.length = 0;
        expect(await source.read(begin, end - begin)).toEqual(FILE.slice(begin, end));
        expect(server.seen.map(({ range: asked }) => asked)).toEqual(end > begin ? [[begin, end - 1]] : []);
      }),
      { numRuns: 50 },
    );
    await expect(source.read(990, 11)).rejects.toThrow(ModelFormatError);
  });

  const always: { name: string; code: PoolErrorCode; tries: number; fault: Fault }[] = [
    {
      name: 'a server without ranges',
      code: 'no-ranges',
      tries: 1,
      fault: (_, response, file) => !!response.writeHead(200).end(file),
    },
    {
      name: 'a file that is gone',
      code: 'missing',
      tries: 1,
      fault: (_, response) => !!response.writeHead(404).end(),
    },
    {
      name: 'a refusal',
      code: 'status',
      tries: 1,
      fault: (_, response) => !!response.writeHead(403).end('no'),
    },
    {
      name: 'a server in trouble',
      code: 'status',
      tries: 3,
      fault: (_, response) => !!response.writeHead(503).end(),
    },
    {
      name: 'another ETag',
      code: 'changed',
      tries: 1,
      fault: ({ range }, response, file) => {
        sendRange(response, file, range ?? [0, 0], { etag: '"2"' });
        return true;
      },
    },
    {
      name: 'another size',
      code: 'changed',
      tries: 1,
      fault: ({ range }, response, file) => {
        sendRange(response, Buffer.concat([file, file]), range ?? [0, 0]);
        return true;
      },
    },
    {
      name: 'a file that became shorter than the range',
      code: 'changed',
      tries: 1,
      fault: ({ range }, response, file) => {
        sendRange(response, file.subarray(0, 5), range ?? [0, 0]);
        return true;
      },
    },
    {
      name: 'another range',
      code: 'wrong-range',
      tries: 1,
      fault: (_, response, file) => {
        sendRange(response, file, [11, 20]);
        return true;
      },
    },
    {
      name: 'no Content-Range',
      code: 'wrong-range',
      tries: 1,
      fault: (_, response, file) => !!response.writeHead(206).end(file.subarray(10, 20)),
    },
    {
      name: 'a Content-Range that is none',
      code: 'wrong-range',
      tries: 1,
      fault: (_, response, file) =>
        !!response.writeHead(206, { 'content-range': 'bytes */1000' }).end(file.subarray(10, 20)),
    },
    {
      name: 'a longer body',
      code: 'wrong-range',
      tries: 1,
      fault: (_, response, file) =>
        !!response.writeHead(206, { 'content-range': 'bytes 10-19/1000' }).end(file.subarray(10, 400)),
    },
    {
      name: 'a short body',
      code: 'short',
      tries: 3,
      fault: (_, response, file) =>
        !!response.writeHead(206, { 'content-range': 'bytes 10-19/1000' }).end(file.subarray(10, 15)),
    },
    {
      name: 'a connection cut within the body',
      code: 'network',
      tries: 3,
      fault: (_, response, file) => {
        response.writeHead(206, { 'content-range': 'bytes 10-19/1000', 'content-length': 10 });
        response.write(file.subarray(10, 15), () => response.destroy());
        return true;
      },
    },
    {
      name: 'a connection cut before the answer',
      code: 'network',
      tries: 3,
      fault: (_, response) => {
        response.destroy();
        return true;
      },
    },
  ];
  it.each(always)('says what was wrong: $name', async ({ code, tries, fault }) => {
    const { server, source } = await serve();
    server.fault = fault;
    const error = await failure(source.read(10, 10));
    expect(error.code).toBe(code);
    expect(error.message).toContain(server.url('a.bin'));
    expect(server.seen).toHaveLength(tries);
    // The source is as good as before once the server is.
    server.fault = () => false;
    expect(await source.read(10, 10)).toEqual(FILE.slice(10, 20));
  });

  it.each(always.filter(({ tries }) => tries > 1))('gets over what passes: $name', async ({ fault }) => {
    const { server, source } = await serve();
    server.fault = (request, response, file) => request.n < 2 && fault(request, response, file);
    expect(await source.read(10, 10)).toEqual(FILE.slice(10, 20));
    expect(server.seen).toHaveLength(3);
  });

  it.each(['before the answer', 'within the body'])('gives up what stalls %s', async (where) => {
    const { server, source } = await serve({ ...QUICK, retries: 1, stallMs: 50 });
    server.fault = (_, response, file) => {
      if (where === 'within the body') {
        response.writeHead(206, { 'content-range': 'bytes 10-19/1000', 'content-length': 10 });
        response.write(file.subarray(10, 15));
      }
      return true;
    };
    const error = await failure(source.read(10, 10));
    expect(error).toMatchObject({ code: 'stalled', details: { tries: 2, stallMs: 50 } });
  });

  it('waits for a slow body as long as something comes', async () => {
    const { server, source } = await serve({ ...QUICK, retries: 0, stallMs: 400 });
    server.fault = (_, response, file) => {
      response.writeHead(206, { 'content-range': 'bytes 10-19/1000', 'content-length': 10 });
      let at = 10;
      const timer = setInterval(() => {
        response.write(file.subarray(at, ++at));
        if (at === 20) {
          clearInterval(timer);
          response.end();
        }
      }, 60);
      return true;
    };
    expect(await source.read(10, 10)).toEqual(FILE.slice(10, 20));
  });

  it('ends with the reason of the signal: in a request, in a pause, before all', async () => {
    const { server, source } = await serve({ ...QUICK, backoffMs: 60_000 });
    const reason = new Error('enough');
    for (const fault of [
      () => true,
      (_: unknown, response: { destroy(): unknown }) => !!response.destroy(),
    ]) {
      const controller = new AbortController();
      server.fault = fault;
      const read = source.read(10, 10, { signal: controller.signal });
      const before = server.seen.length;
      while (server.seen.length === before) await new Promise((resolve) => setTimeout(resolve, 1));
      setTimeout(() => controller.abort(reason), 20);
      await expect(read).rejects.toBe(reason);
      const asked = server.seen.length;
      await expect(source.read(10, 10, { signal: controller.signal })).rejects.toBe(reason);
      expect(server.seen).toHaveLength(asked);
    }
  });

  it('opens nothing that it could not read', async () => {
    const { server } = await serve();
    const open = () => failure(HttpSource.open(server.url('a.bin'), { ...quick, retries: 0 }));
    server.fault = (_, response) => !!response.writeHead(500).end();
    expect(await open()).toMatchObject({ code: 'status', details: { status: 500 } });
    expect((await failure(HttpSource.open(server.url('none'), by))).code).toBe('missing');
    const url = server.url('a.bin');
    await server.close();
    expect((await failure(HttpSource.open(url, { ...quick, retries: 0 }))).code).toBe('network');
  });

  /** Sends whatever comes, without an end; how many bytes that were is told. */
  const endless = (response: ServerResponse, headers: OutgoingHttpHeaders, status: number) => {
    const sent = { bytes: 0 };
    const part = Buffer.alloc(1 << 16);
    const more = () => {
      while (!response.destroyed) {
        sent.bytes += part.length;
        if (!response.write(part)) return;
      }
    };
    response
      .writeHead(status, headers)
      .on('drain', more)
      .on('error', () => {});
    more();
    return sent;
  };
  const TEN_GB = 10 * 2 ** 30;
  /** More than sockets hold by themselves. */
  const MUCH = 64 << 20;

  it('takes a small file whole, once, from a server without ranges', async () => {
    const { server } = await serve();
    server.fault = (_, response, file) =>
      !!response.writeHead(200, { 'content-length': file.length }).end(file);
    const open = (wholeBytes?: number) => HttpSource.open(server.url('a.bin'), { ...quick, wholeBytes });
    const source = await open();
    const asked = server.seen.length;
    expect(source.size).toBe(1000);
    expect(await source.read(0, 1000)).toEqual(FILE);
    expect(await source.read(10, 10)).toEqual(FILE.slice(10, 20));
    await expect(source.read(990, 11)).rejects.toThrow(ModelFormatError);
    expect(server.seen).toHaveLength(asked);
    expect((await open(1000)).size).toBe(1000);
    expect(await failure(open(999))).toMatchObject({
      code: 'no-ranges',
      message: expect.stringMatching(/1000 bytes; at most 999/),
    });
    expect((await failure(open(0))).code).toBe('no-ranges');
    // Packed on the way: what is counted is what it is unpacked.
    if (!('transport' in quick)) {
      server.fault = (_, response, file) =>
        !!response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(file));
      expect(await (await open()).read(0, 1000)).toEqual(FILE);
    }
  });

  it.each([
    [
      'that says its length',
      { 'content-length': TEN_GB },
      /of 10737418240 bytes; at most 67108864 are taken/,
    ],
    ['that does not', {}, /of more than 67108864 bytes/],
  ])('does not download a large file of a server without ranges, %s', async (_, headers, message) => {
    const { server } = await serve();
    let sent = { bytes: 0 };
    server.fault = (_, response) => {
      sent = endless(response, headers, 200);
      return true;
    };
    const error = await failure(HttpSource.open(server.url('a.bin'), quick));
    expect(error.code).toBe('no-ranges');
    expect(error.message).toMatch(message);
    await vi.waitFor(() => expect(server.open).toBe(0));
    expect(sent.bytes).toBeLessThan('content-length' in headers ? MUCH : 3 * MUCH);
  });

  it('takes a longer answer to its first question, as some servers send it, and does not download it', async () => {
    const { server } = await serve();
    let sent = { bytes: 0 };
    server.fault = ({ range }, response) => {
      if (range?.[1] !== 0) return false;
      sent = endless(response, { 'content-range': `bytes 0-${TEN_GB - 1}/${TEN_GB}` }, 206);
      return true;
    };
    const source = await HttpSource.open(server.url('a.bin'), quick);
    expect(source.size).toBe(TEN_GB);
    await vi.waitFor(() => expect(server.open).toBe(0));
    expect(sent.bytes).toBeLessThan(MUCH);
    server.fault = ({ range }, response) => {
      response.writeHead(206, { 'content-range': `bytes ${range?.[0]}-${range?.[1]}/${TEN_GB}` });
      response.end(FILE.subarray(0, 10));
      return true;
    };
    expect(await source.read(TEN_GB - 10, 10)).toEqual(FILE.slice(0, 10));
    server.fault = (_, response) => {
      response.writeHead(206, { 'content-range': `bytes 0-${TEN_GB - 1}/${TEN_GB}` }).end(FILE);
      return true;
    };
    // Not for anything that it asks for later.
    expect((await failure(source.read(0, 10))).code).toBe('wrong-range');
  });

  it('takes the size it is given where the server hides it, and checks the length all the same', async () => {
    const hidden =
      (length: number): typeof fetch =>
      async () => {
        const response = new Response(FILE.slice(10, 10 + length), { status: 206 });
        Object.defineProperty(response, 'type', { value: 'cors' });
        return response;
      };
    await expect(HttpSource.open('http://x/a', { fetch: hidden(1) })).rejects.toThrow(/give the size/);
    let length = 1;
    const options = { ...QUICK, size: 1000, fetch: ((...given) => hidden(length)(...given)) as typeof fetch };
    const source = await HttpSource.open('http://x/a', options);
    length = 10;
    expect(await source.read(10, 10)).toEqual(FILE.slice(10, 20));
    expect((await failure(source.read(10, 9))).code).toBe('wrong-range');
    expect((await failure(source.read(10, 11))).code).toBe('short');
  });

  it('follows to where a file is, without what is meant for the first server alone, but not for ever', async () => {
    const { server } = await serve();
    const other = await FaultServer.start({ 'b.bin': FILE });
    servers.push(other);
    let to = other.url('b.bin');
    server.fault = (_, response) => !!response.writeHead(302, { location: to }).end('there');
    const headers = { authorization: 'secret', 'x-key': 'k' };
    const source = await HttpSource.open(server.url('a.bin'), { ...quick, headers });
    expect(await source.read(10, 10)).toEqual(FILE.slice(10, 20));
    expect(other.seen.at(-1)).toMatchObject({ range: [10, 19], headers: { 'x-key': 'k' } });
    expect(other.seen.at(-1)?.headers.authorization).toBeUndefined();
    expect(server.seen.at(-1)?.headers.authorization).toBe('secret');
    to = '/a.bin';
    expect(['status', 'network']).toContain((await failure(source.read(10, 10))).code);
  });

  it('opens the files of a folder, and null for what is not there', async () => {
    const { server } = await serve();
    server.files.set('models/x/config.json', Buffer.from('{}'));
    for (const url of [server.url('models/x'), server.url('models/x/')]) {
      const folder = new HttpFolder(url, { ...quick, headers: { 'x-key': 'k' } });
      const file = await folder.open('config.json');
      expect(file?.size).toBe(2);
      expect(server.seen.at(-1)?.headers['x-key']).toBe('k');
      expect(await folder.open('none.json')).toBeNull();
      expect(await folder.open('../../a.bin')).toBeNull();
    }
  });
});

describe('backoff', () => {
  it('doubles, up to ten seconds, and half of it is chance', () => {
    expect([1, 2, 3, 20].map((attempt) => backoff(attempt, 100, 0))).toEqual([50, 100, 200, 5000]);
    expect(backoff(3, 100, 0.5)).toBe(300);
    expect(backoff(20, 100, 0.999)).toBeLessThan(10_000);
  });
});
