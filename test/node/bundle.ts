import { mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { onTestFinished } from 'vitest';

/**
 * src/node as JavaScript that a child process can import, for the length of a test. It lies inside the package so that
 * it finds the package's dependencies. Returns the module specifier, quoted.
 */
export async function bundleNode(): Promise<string> {
  const folder = mkdtempSync(fileURLToPath(new URL('../../node_modules/.pairslab-test-', import.meta.url)));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const outfile = `${folder}/node.mjs`;
  const source = (name: string) =>
    JSON.stringify(fileURLToPath(new URL(`../../src/node/${name}`, import.meta.url)));
  await build({
    stdin: {
      contents: ['drivers.ts', 'adapters.ts', 'device.ts']
        .map((name) => `export * from ${source(name)};`)
        .join('\n'),
      resolveDir: folder,
    },
    bundle: true,
    loader: { '.wgsl': 'text' },
    format: 'esm',
    platform: 'node',
    packages: 'external',
    outfile,
    logLevel: 'warning',
  });
  return JSON.stringify(outfile);
}
