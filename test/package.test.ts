import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const { exports, bin, dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** What a built file imports from outside, through its chunks: other packages and built-ins by name. */
async function outsideImports(entry: string, how = 'import-statement'): Promise<string[]> {
  const options = { bundle: true, write: false, metafile: true, format: 'esm', platform: 'neutral' } as const;
  const { metafile } = await build({
    ...options,
    entryPoints: [entry],
    packages: 'external',
    outdir: 'unused',
  });
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
  return [
    ...new Set(imports.filter(({ external, kind }) => external && kind === how).map(({ path }) => path)),
  ];
}

describe('the built package', () => {
  beforeAll(() => {
    execFileSync(process.execPath, [join(root, 'scripts/build.mjs'), '--types'], { cwd: root });
  });

  it('has every file that package.json names', () => {
    const files = Object.values(exports as Record<string, Record<string, string>>).flatMap((entry) =>
      Object.values(entry),
    );
    for (const file of [...files, ...Object.values(bin as Record<string, string>)]) {
      expect(existsSync(join(root, file)), file).toBe(true);
    }
  });

  it.each(['index', 'kernels', 'mask/index', 'plan/index', 'residency/index', 'llama/index'])(
    '%s imports nothing: it runs in a browser',
    async (entry) => {
      expect(await outsideImports(join(root, `dist/${entry}.js`))).toEqual([]);
    },
  );

  it('imports in Node only what package.json promises', async () => {
    const all = await outsideImports(join(root, 'dist/node/cli.js'));
    const outside = all.filter((name) => !name.startsWith('node:'));
    // dawn.node is imported when a device is asked for, so that the rest works without it; what calibrate alone needs, by it.
    const late = await outsideImports(join(root, 'dist/node/cli.js'), 'dynamic-import');
    expect(late).toContain('ml-matrix');
    expect([...outside, 'ml-matrix'].sort()).toEqual(Object.keys(dependencies).sort());
  });

  it('keeps masks and plans free of shaders', () => {
    for (const entry of ['mask/index', 'plan/index', 'residency/index']) {
      const text = readFileSync(join(root, `dist/${entry}.js`), 'utf8');
      expect(text).not.toContain('@compute');
    }
  });

  it('shares its errors between the core and Node', async () => {
    const core = await import(join(root, 'dist/index.js'));
    const node = await import(join(root, 'dist/node/index.js'));
    await expect(node.DiskFolder.at('/nowhere')).rejects.toBeInstanceOf(core.ModelFormatError);
  });
});
