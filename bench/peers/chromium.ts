import { createReadStream, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { createBrotliDecompress } from 'node:zlib';
import { AdapterError } from '../../src/errors.js';
import type { Host, Limits, Verdict } from './contest.js';
import type { TaskName } from './work.js';

/** What the page says of itself. */
export interface PageFacts {
  adapter: { vendor: string; architecture: string; description: string };
  browser: string;
  /** Peers that do not start, with the reason. */
  missing: Record<string, string>;
}

/** A headless Chromium with the peers' page open. */
export interface PeersPage {
  facts: PageFacts;
  run(task: TaskName, limits: Limits): Promise<Verdict>;
  close(): Promise<void>;
}

/** What is used of playwright-core, which is not installed where this is type-checked. */
interface Page {
  goto(url: string): Promise<unknown>;
  exposeFunction(name: string, f: (...args: never[]) => void): Promise<void>;
  evaluate<T>(script: string): Promise<T>;
  on(event: 'pageerror', f: (error: Error) => void): void;
}
interface Browser {
  newPage(): Promise<Page>;
  close(): Promise<void>;
}
interface Playwright {
  chromium: { launch(options: object): Promise<Browser> };
}
interface TarFs {
  extract(folder: string): NodeJS.WritableStream;
}

/** WebGPU on SwiftShader, the only adapter that Chromium offers without a GPU. */
const FLAGS = [
  '--no-sandbox',
  '--headless=new',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  // As in Node (see NO_TIER_UP in node.ts): optimising onnxruntime would take a core for most of the run.
  '--js-flags=--wasm-tiering-budget=1000000000',
];

/** Opens the page in the Chromium of `@sparticuz/chromium`. `peers` is the folder of the peers, installed. */
export async function openChromium(
  peers: string,
  host: Host,
  say: (line: string) => void,
): Promise<PeersPage> {
  const require = createRequire(join(peers, 'package.json'));
  const load = async <T>(name: string): Promise<T> => {
    const module = (await import(pathToFileURL(require.resolve(name)).href)) as { default: T };
    return module.default;
  };
  const folder = await unpack(peers, await load<TarFs>('tar-fs'));
  const server = await serve(join(dirname(require.resolve('onnxruntime-web')), '.'), await bundle(peers));
  let browser: Browser | undefined;
  try {
    const { chromium } = await load<Playwright>('playwright-core');
    const libraries = [folder, join(folder, 'lib'), process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
    browser = await chromium.launch({
      executablePath: join(folder, 'chromium'),
      args: FLAGS,
      env: { ...process.env, LD_LIBRARY_PATH: libraries },
    });
    const page = await browser.newPage();
    page.on('pageerror', (error) => say(`chromium: ${error.message}`));
    await page.exposeFunction('say', say);
    // localhost, so that the context is secure.
    await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
    const call = <T>(what: string, ...args: unknown[]): Promise<T> =>
      page.evaluate<T>(`peers.${what}(${args.map((arg) => JSON.stringify(arg)).join(', ')})`);
    const facts = await call<PageFacts>('open', { ...host, wasm: '/onnxruntime/' });
    const opened = browser;
    return {
      facts,
      run: (task, limits) => call<Verdict>('run', task, limits),
      async close() {
        await opened.close();
        server.close();
      },
    };
  } catch (error) {
    await browser?.close();
    server.close();
    throw error;
  }
}

/** Chromium with its libraries, beside the peers' packages: an `npm ci` there removes both. */
async function unpack(peers: string, tar: TarFs): Promise<string> {
  const entry = createRequire(import.meta.url).resolve('@sparticuz/chromium');
  const archives = join(dirname(entry), '../../bin');
  if (!existsSync(join(archives, 'chromium.br')))
    throw new AdapterError(`@sparticuz/chromium has no chromium.br for ${process.platform} ${process.arch}`);
  const folder = join(peers, 'node_modules/.chromium');
  if (existsSync(folder)) return folder;
  const partial = `${folder}.${process.pid}`;
  mkdirSync(partial);
  try {
    const open = (name: string) => createReadStream(join(archives, name));
    await pipeline(
      open('chromium.br'),
      createBrotliDecompress(),
      createWriteStream(join(partial, 'chromium'), { mode: 0o700 }),
    );
    for (const name of ['swiftshader.tar.br', 'al2023.tar.br'])
      await pipeline(open(name), createBrotliDecompress(), tar.extract(partial));
    renameSync(partial, folder);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return folder;
}

/** The page's script, with the peers in it. */
async function bundle(peers: string): Promise<string> {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    entryPoints: [join(peers, 'page.mjs')],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    loader: { '.wgsl': 'text' },
    logLevel: 'error',
  });
  return outputFiles[0].text;
}

/** Isolated from other origins: timers are finer, and onnxruntime may share memory. */
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

async function serve(onnxruntime: string, script: string): Promise<Server> {
  const server = createServer((request, response) => {
    const [, name] = /^\/onnxruntime\/([\w.-]+\.(?:mjs|wasm))$/.exec(request.url ?? '') ?? [];
    const type =
      request.url === '/' ? 'text/html' : name?.endsWith('.wasm') ? 'application/wasm' : 'text/javascript';
    const file = name && join(onnxruntime, name);
    if (file ? !existsSync(file) : !['/', '/page.js'].includes(request.url ?? '')) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { ...HEADERS, 'Content-Type': type });
    if (file) createReadStream(file).pipe(response);
    else if (request.url === '/')
      response.end('<!doctype html><script type="module" src="/page.js"></script>');
    else response.end(script);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, 'localhost', resolve);
  });
  return server;
}
