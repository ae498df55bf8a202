/** Apps that install the packed tarball, as anyone would, and run a layer. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build as esbuild } from 'esbuild';
import type { Browser } from 'playwright-core';
import { preview, build as viteBuild } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chromiumMissing, launchChromium } from '../support/chromium.js';
import { packTarball, ROOT, type Tarball } from './tarball.js';

const run = promisify(execFile);
const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

interface Outcome {
  strategies?: number;
  error?: number;
  gpu?: boolean;
  adapter?: string;
  added: number;
  writes: number;
}

/** Runtimes that npm has as packages: only here, and not among the development dependencies for their 100 MB each. */
const VERSIONS: Record<string, string> = { deno: '2.9.6', bun: '1.4.5' };

let packed: Tarball;

/** An app's folder, with these packages and the tarball installed. */
async function makeApp(name: string, packages: Record<string, string> = {}): Promise<string> {
  const folder = join(packed.folder, name);
  mkdirSync(folder);
  cpSync(fileURLToPath(new URL('fixtures', import.meta.url)), folder, { recursive: true });
  const dependencies = { pairslab: `file:${packed.file}`, ...packages };
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ private: true, type: 'module', dependencies }),
  );
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--no-package-lock'], {
    cwd: folder,
  });
  return folder;
}

const outcome = (stdout: string): Outcome => JSON.parse(stdout.trim().split('\n').at(-1) as string);

function expectPlan({ added, writes }: Outcome): void {
  expect({ added, writes }).toEqual({ added: 3, writes: 3 });
}

function expectLayer(made: Outcome): void {
  expect(made.strategies).toBe(5);
  expect(made.error).toBeLessThan(1e-5);
  expectPlan(made);
}

let app: string;
beforeAll(async () => {
  packed = packTarball();
  app = await makeApp('app');
});
afterAll(() => packed?.remove());

describe.skipIf(chromiumMissing())('in a page, in Chromium', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launchChromium();
  });
  afterAll(() => browser?.close());

  /** What the page in `outDir` of the app came to. */
  async function visit(outDir: string): Promise<Outcome> {
    const server = await preview({
      root: app,
      configFile: false,
      logLevel: 'error',
      build: { outDir },
      preview: { host: 'localhost', port: 0 },
    });
    try {
      const page = await browser.newPage();
      const errors: string[] = [];
      page.on('pageerror', (error) => errors.push(error.message));
      page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
      // No icon is asked for and missed.
      await page.route('**/favicon.ico', (route) => route.fulfill({ status: 204 }));
      await page.goto(server.resolvedUrls?.local[0] as string);
      const made = await page.evaluate<Outcome>('outcome');
      expect(errors).toEqual([]);
      return made;
    } finally {
      await server.close();
    }
  }

  it('an app built by Vite runs a layer by every strategy', async () => {
    await viteBuild({ root: app, configFile: false, logLevel: 'error', build: { outDir: 'built-by-vite' } });
    expectLayer(await visit('built-by-vite'));
  });

  it('a plain esbuild bundle does', async () => {
    const outdir = join(app, 'built-by-esbuild');
    const entryPoints = [join(app, 'browser.mjs')];
    await esbuild({
      entryPoints,
      outdir,
      outExtension: { '.js': '.mjs' },
      bundle: true,
      minify: true,
      format: 'esm',
    });
    cpSync(join(app, 'index.html'), join(outdir, 'index.html'));
    expectLayer(await visit('built-by-esbuild'));
  });
});

it('an app in TypeScript compiles, the declarations of the package checked as well', async () => {
  const compilerOptions = {
    noEmit: true,
    strict: true,
    target: 'es2022',
    lib: ['es2023', 'dom'],
    module: 'nodenext',
    types: [],
  };
  writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['types.ts'] }));
  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  const { stdout } = await run(tsc, ['-p', app]).catch((error: { stdout: string }) => error);
  expect(stdout).toBe('');
});

describe('without a page', () => {
  const used = ['webgpu', '@sparticuz/chromium'];
  let folder: string;
  beforeAll(async () => {
    folder = await makeApp('server', Object.fromEntries(used.map((name) => [name, devDependencies[name]])));
  });

  it('Node runs a layer, and the command line', async () => {
    expectLayer(outcome((await run(process.execPath, ['node.mjs'], { cwd: folder })).stdout));
    const { stdout } = await run(join(folder, 'node_modules/.bin/pairslab'), ['--help'], { cwd: folder });
    expect(stdout).toContain('generate');
  });

  /** npm has both as packages; where they do not install or start here, that is said, and nothing is tested. */
  const runtimes = { deno: ['run', '-A', '--node-modules-dir=manual'], bun: ['run'] };
  describe.each(Object.entries(runtimes))('%s', (name, args) => {
    let binary: string | null = null;
    let why = '';
    beforeAll(async () => {
      try {
        const own = join(packed.folder, name);
        mkdirSync(own);
        writeFileSync(join(own, 'package.json'), '{ "private": true }');
        const version = VERSIONS[name];
        await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', `${name}@${version}`], {
          cwd: own,
        });
        const found = join(own, 'node_modules/.bin', name);
        await run(found, ['--version']);
        binary = found;
      } catch (error) {
        why = `${name} does not install or start here: ${error instanceof Error ? error.message : error}`;
      }
    });

    it('plans; and runs a layer where it has WebGPU of its own', async ({ skip }) => {
      if (!binary) return skip(why);
      const made = outcome((await run(binary, [...args, 'server.mjs'], { cwd: folder })).stdout);
      console.log(`${name}: WebGPU of its own ${made.gpu ? 'is there' : 'is not there: plans only'}`);
      if (made.gpu) expectLayer(made);
      else expectPlan(made);
    });

    it('runs a layer on the package webgpu, as Node does', async ({ skip }) => {
      if (!binary) return skip(why);
      expectLayer(outcome((await run(binary, [...args, 'node.mjs'], { cwd: folder })).stdout));
    });
  });
});
