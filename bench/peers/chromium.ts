import { createReadStream, existsSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../../test/support/chromium.js';
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

// As in Node (see NO_TIER_UP in node.ts): optimising onnxruntime would take a core for most of the run.
const FLAGS = ['--js-flags=--wasm-tiering-budget=1000000000'];

/** Opens the page in the Chromium of `@sparticuz/chromium`. `peers` is the folder of the peers, installed. */
export async function openChromium(
  peers: string,
  host: Host,
  say: (line: string) => void,
): Promise<PeersPage> {
  const require = createRequire(join(peers, 'package.json'));
  const server = await serve(join(dirname(require.resolve('onnxruntime-web')), '.'), await bundle(peers));
  let browser: Browser | undefined;
  try {
    browser = await launchChromium(FLAGS);
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
