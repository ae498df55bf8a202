import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build, type Metafile } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reachedFiles } from '../../scripts/reached-files.mjs';
import { packTarball, ROOT, type Tarball } from './tarball.js';

const run = promisify(execFile);
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const { dependencies, bin } = manifest as Record<string, Record<string, string>>;
const entries = Object.entries(manifest.exports as Record<string, string | Record<string, string>>).flatMap(
  ([path, files]) =>
    typeof files === 'string' ? [] : [{ path, ...(files as { types: string; default: string }) }],
);

/** Entries that run in a browser, and the most each may weigh, minified and gzipped, all of it and what it imports. */
const KB = 1000;
const LIMITS: Record<string, number> = {
  '.': 40 * KB,
  './mask': 4 * KB,
  './plan': 5 * KB,
  './residency': 11 * KB,
  './pool': 25 * KB,
  './device-plan': 11.5 * KB,
  './tune': 66 * KB,
  './kernels': 29.5 * KB,
  './llama': 104 * KB,
  './onnxruntime': 46 * KB,
  './tfjs': 46 * KB,
  './transformers': 110 * KB,
  // With what serves a model in a worker; the client alone is a few kB.
  './worker': 102 * KB,
  './worker/start': 102 * KB,
};

let packed: Tarball;
/** The tarball, unpacked as a package of an app without any other. */
let app: string;

beforeAll(() => {
  packed = packTarball();
  app = packed.folder;
  const folder = join(app, 'node_modules/pairslab');
  mkdirSync(folder, { recursive: true });
  execFileSync('tar', ['-xzf', packed.file, '--strip-components=1', '-C', folder]);
});
afterAll(() => packed?.remove());

/** What an app's bundler makes of `source`. */
async function bundled(source: string | { entryPoints: string[] }) {
  const { outputFiles, metafile } = await build({
    ...(typeof source === 'string' ? { stdin: { contents: source, resolveDir: app } } : source),
    absWorkingDir: app,
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    platform: 'neutral',
    external: [
      'node:*',
      ...Object.keys(dependencies),
      'webgpu',
      'echarts',
      '@sparticuz/chromium',
      '@huggingface/*',
    ],
    write: false,
    metafile: true,
    outdir: 'unused',
    logLevel: 'error',
  });
  return { text: outputFiles[0].text, inputs: usedInputs(metafile), outside: outsideOf(metafile) };
}

function usedInputs({ outputs }: Metafile): string[] {
  return Object.values(outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? [file] : [])),
  );
}

function outsideOf({ outputs }: Metafile): string[] {
  const imports = Object.values(outputs).flatMap((output) => output.imports);
  const named = imports.filter(({ external, kind }) => external && kind === 'import-statement');
  return [...new Set(named.map(({ path }) => path))].sort();
}

const gzipped = (text: string): number => gzipSync(text, { level: 9 }).length;

describe('the published package', () => {
  it('contains what its entries lead to, its texts, and nothing else', () => {
    const starts = [...entries.flatMap(({ types, default: js }) => [types, js]), ...Object.values(bin)];
    const folder = join(app, 'node_modules/pairslab');
    for (const file of starts) expect(existsSync(join(folder, file)), file).toBe(true);
    const reached = [...reachedFiles(starts.map((file) => join(folder, file)))].map((file) =>
      file.slice(folder.length + 1),
    );
    const texts = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'];
    expect(packed.files).toEqual([...reached, ...texts].sort());
    console.log(`npm pack: ${packed.files.length} files, ${(packed.bytes / KB).toFixed(1)} kB`);
    expect(packed.bytes).toBeLessThan(400 * KB);
  });

  it('bundles code of nobody else: what it needs it imports, so no other licence comes with it', () => {
    // The build names each file that it puts into a chunk.
    const from = packed.files
      .filter((file) => file.endsWith('.js'))
      .flatMap((file) => {
        const text = readFileSync(join(app, 'node_modules/pairslab', file), 'utf8');
        return [...text.matchAll(/^\/\/ (\S+\.(?:[cm]?[jt]s|wgsl|json))$/gm)].map(([, source]) => source);
      });
    expect(from).toContain('src/slab/slab.ts');
    expect(from.filter((source) => !/^(src|shaders)\//.test(source))).toEqual([]);
  });

  it('has what publint asks for', async () => {
    const { stdout } = await run(join(ROOT, 'node_modules/.bin/publint'), ['run', packed.file, '--strict']);
    expect(stdout).toContain('All good');
  });

  it('has types that are not wrong, for each way of an ES module to be resolved', async () => {
    const args = [packed.file, '--profile', 'esm-only', '--format', 'json'];
    const { stdout } = await run(join(ROOT, 'node_modules/.bin/attw'), args, { maxBuffer: 1 << 26 });
    const { analysis } = JSON.parse(stdout);
    expect(Object.keys(analysis.entrypoints)).toHaveLength(entries.length + 1);
    // Node 10 knows no exports, and require() of an ES module is not offered.
    const ours = analysis.problems.filter(
      ({ kind, resolutionKind }: { kind: string; resolutionKind?: string }) =>
        resolutionKind !== 'node10' && kind !== 'CJSResolvesToESM',
    );
    expect(ours).toEqual([]);
  });
});

describe('size', () => {
  it.each(entries.filter(({ path }) => path !== './node'))('$path is within its limit', async ({ path }) => {
    const { text, outside } = await bundled(`export * from 'pairslab${path.slice(1)}'`);
    const bytes = gzipped(text);
    console.log(
      `${path}: ${(text.length / KB).toFixed(1)} kB minified, ${(bytes / KB).toFixed(1)} kB gzipped`,
    );
    // Too large? What an app may do without gets an entry of its own (see src/index.ts).
    expect(bytes).toBeLessThan(LIMITS[path]);
    expect(outside, 'it runs in a browser').toEqual([]);
  });

  it.each([
    ['only what it uses of the core', "export { SparseMLP, topK } from 'pairslab'", 38],
    ['a layer alone', "export { SparseMLP } from 'pairslab'", 37.5],
    ['a slab without an MLP', "export { DevicePool, Slab } from 'pairslab'", 19.5],
    ['a slab alone', "export { Slab } from 'pairslab'", 19.5],
    ['a mask, by way of the core', "export { topK } from 'pairslab'", 4],
  ])('an app gets %s', async (_, source, limit) => {
    const bytes = gzipped((await bundled(source)).text);
    console.log(`${source.slice(7)}: ${(bytes / KB).toFixed(1)} kB gzipped`);
    expect(bytes).toBeLessThan(limit * KB);
  });

  it.each([
    "export * from 'pairslab/plan'",
    "export * from 'pairslab/mask'",
    "export * from 'pairslab/residency'",
    "export { SlotMap, transition, topK } from 'pairslab'",
  ])('%s brings no WGSL', async (source) => {
    const { text } = await bundled(source);
    expect(text.length).toBeGreaterThan(1000);
    expect(text).not.toMatch(/@compute|@group|fn main/);
  });

  it('an import for nothing brings nothing: no file has side effects', async () => {
    // A worker's script is there for its effect.
    const others = entries.filter(({ path }) => path !== './worker/start');
    const names = others.map(({ path }) => `import 'pairslab${path.slice(1)}';`).join('\n');
    const { text, inputs } = await bundled(names);
    expect(inputs).toEqual([]);
    expect(text.trim()).toBe('');
  });
});

describe('the parts', () => {
  it('import in Node only what package.json promises', async () => {
    const { outside } = await bundled({ entryPoints: ['node_modules/pairslab/dist/node/cli.js'] });
    // dawn.node is imported when a device is asked for, and ml-matrix by calibrate: the rest works without them.
    const wanted = Object.keys(dependencies).filter((name) => name !== 'ml-matrix');
    expect(outside.filter((name) => !name.startsWith('node:'))).toEqual(wanted.sort());
  });

  it('share their errors, the core and Node', async () => {
    // From dist/, which has just been packed, since the dependencies are there.
    const core = await import(join(ROOT, 'dist/index.js'));
    const node = await import(join(ROOT, 'dist/node/index.js'));
    await expect(node.DiskFolder.at('/nowhere')).rejects.toBeInstanceOf(core.ModelFormatError);
  });
});
