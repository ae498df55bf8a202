import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CRASHABLE, chromiumMissing, crashGpu, launchChromium } from '../../support/chromium.js';
import { RUNTIMES, runtimesMissing } from './install.js';

/** The repository. */
export const ROOT = join(RUNTIMES, '../..');

/** A page of test/runtimes/pages in a headless Chromium. */
export interface TestPage {
  /** Where the page and what `route` serves come from. */
  readonly origin: string;
  /** Calls a function that the page's script exports; arguments and result travel as JSON. */
  call<T>(name: string, ...args: unknown[]): Promise<T>;
  /** The same page in another tab. */
  another(): Promise<Pick<TestPage, 'call'> & { close(): Promise<void> }>;
}

export interface PageOptions {
  /** Whether the page has other runtimes in it, which must be installed. Default true. */
  runtimes?: boolean;
  /** Further files, seen from test/runtimes/pages, that are bundled by themselves, as workers are. */
  scripts?: readonly string[];
  /** Gives the page's script a function `crashGpu()`, which ends the browser's GPU process. */
  crashes?: boolean;
  /** Answers what the page itself does not have. @returns whether it did. */
  route?(request: IncomingMessage, response: ServerResponse): boolean;
}

/** As peers.ts of the bench has it: optimising onnxruntime would take a core for most of the run. */
const FLAGS = ['--js-flags=--wasm-tiering-budget=1000000000'];

/**
 * Waits for a device that lives for a second.
 * Symptom: once in about twenty starts of the browser, on a loaded machine, everything on WebGPU was dropped within the
 * first second ("Instance dropped in popErrorScope"); what was made after that worked. The same is seen when the GPU
 * process is crashed on purpose, so it must have ended; why it did is not known.
 */
const SETTLE = `(async () => {
  for (let tries = 0; tries < 5; tries++) {
    try {
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const second = new Promise((resolve) => setTimeout(resolve, 1000, 'alive'));
      const state = await Promise.race([second, device.lost]);
      if (state !== 'alive') continue;
      await device.queue.onSubmittedWorkDone();
      device.destroy();
      return;
    } catch {}
  }
  throw new Error('WebGPU does not stay in this browser');
})()`;

/**
 * Declares a suite that runs in Chromium beside other runtimes; where one of them cannot be had it shows as a skipped
 * test with the reason. Anything that the page prints as an error, GPU errors among it, fails the test it came in.
 */
export function describePage(
  name: string,
  file: string,
  body: (page: TestPage) => void,
  options: PageOptions = {},
): void {
  describe(`${name} [chromium]`, async () => {
    const missing = options.runtimes === false ? chromiumMissing() : await runtimesMissing();
    if (missing) {
      test.skip(`skipped: ${missing}`, () => {});
      return;
    }
    const errors: string[] = [];
    let server: Server | undefined;
    let browser: Browser | undefined;
    let page: Page | undefined;
    let origin = '';
    beforeAll(async () => {
      const files = await bundle([file, ...(options.scripts ?? [])]);
      server = await serve(basename(file).replace(/\.ts$/, '.js'), files, options.route);
      origin = `http://localhost:${(server.address() as AddressInfo).port}`;
      browser = await launchChromium(options.crashes ? [...FLAGS, ...CRASHABLE] : FLAGS);
      page = await open(browser);
      await page.evaluate(SETTLE);
    });
    async function open(on: Browser): Promise<Page> {
      const opened = await on.newPage();
      opened.on('pageerror', (error) => errors.push(error.message));
      opened.on('console', (message) => {
        // A file that may be missing is looked for; what its absence leads to is for the test to see.
        const missing = /^Failed to load resource: .* 404 /.test(message.text());
        if (message.type() === 'error' && !missing) errors.push(message.text());
      });
      if (options.crashes) await opened.exposeFunction('crashGpu', () => crashGpu(on));
      await opened.goto(`${origin}/`);
      await opened.waitForFunction('globalThis.tests !== undefined');
      return opened;
    }
    async function call<T>(on: Page, what: string, args: readonly unknown[]): Promise<T> {
      try {
        return await on.evaluate(`tests[${JSON.stringify(what)}](...${JSON.stringify(args)})`);
      } finally {
        expect(errors.splice(0), 'what the page prints as errors').toEqual([]);
      }
    }
    afterAll(async () => {
      await browser?.close();
      server?.closeAllConnections();
      server?.close();
    });
    body({
      get origin() {
        return origin;
      },
      call: (what, ...args) => call(page as Page, what, args),
      async another() {
        const tab = await open(browser as Browser);
        return { call: (what, ...args) => call(tab, what, args), close: () => tab.close() };
      },
    });
  });
}

async function bundle(files: readonly string[]): Promise<Map<string, Uint8Array>> {
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: files.map((file) => `test/runtimes/pages/${file}`),
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    loader: { '.wgsl': 'text' },
    outdir: 'unused',
    logLevel: 'error',
    // Examples lie where no package is installed, and import pairslab by its name.
    nodePaths: [join(RUNTIMES, 'node_modules')],
    alias: {
      pairslab: join(ROOT, 'src'),
      // Its package.json has the browser's build in a field that esbuild does not look at where there are exports.
      '@huggingface/hub': join(RUNTIMES, 'node_modules/@huggingface/hub/dist/browser/index.mjs'),
    },
  });
  return new Map(outputFiles.map(({ path, contents }) => [basename(path), contents]));
}

/** Isolated from other origins, so that onnxruntime may share memory. */
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

async function serve(
  main: string,
  scripts: ReadonlyMap<string, Uint8Array>,
  route?: PageOptions['route'],
): Promise<Server> {
  const html = `<!doctype html><link rel="icon" href="data:,"><script type="module">
    import * as tests from '/${main}';
    globalThis.tests = tests;
  </script>`;
  const onnxruntime = join(RUNTIMES, 'node_modules/onnxruntime-web/dist');
  const server = createServer((request, response) => {
    if (route?.(request, response)) return;
    const name = (request.url ?? '/').slice(1);
    const script = scripts.get(name);
    const [, library] = /^onnxruntime\/([\w.-]+\.(?:mjs|wasm))$/.exec(name) ?? [];
    const file = library && join(onnxruntime, library);
    if (name === '') send(response, 'text/html', html);
    else if (script) send(response, 'text/javascript', script);
    else if (file && existsSync(file)) {
      const type = file.endsWith('.wasm') ? 'application/wasm' : 'text/javascript';
      response.writeHead(200, { ...HEADERS, 'Content-Type': type, 'Content-Length': statSync(file).size });
      createReadStream(file).pipe(response);
    } else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => {
    server.listen(0, 'localhost', resolve);
  });
  return server;
}

function send(response: ServerResponse, type: string, body: string | Uint8Array): void {
  response.writeHead(200, { ...HEADERS, 'Content-Type': type }).end(body);
}
