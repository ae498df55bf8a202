// Bundles src/ (and bench/) into dist/, WGSL inlined as text. With --types also writes the declarations.
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

const root = new URL('..', import.meta.url).pathname;
const common = {
  absWorkingDir: root,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  loader: { '.wgsl': 'text' },
  sourcemap: true,
  logLevel: 'warning',
};
rmSync(`${root}dist`, { recursive: true, force: true });
await build({
  ...common,
  entryPoints: ['src/index.ts', 'src/mask/index.ts', 'src/plan/index.ts', 'src/llama/index.ts'],
  outdir: 'dist',
  outbase: 'src',
  splitting: true,
  // 'neutral' refuses Node built-ins, so the core cannot come to depend on Node by accident.
  platform: 'neutral',
});
await build({
  ...common,
  entryPoints: { 'node/index': 'src/node/index.ts', 'node/cli': 'src/node/cli.ts', 'bench/main': 'bench/main.ts' },
  outdir: 'dist',
  splitting: true,
  chunkNames: 'node/chunk-[hash]',
  platform: 'node',
  packages: 'external',
});
if (process.argv.includes('--types')) {
  execFileSync('npx', ['tsc', '-p', 'tsconfig.types.json'], { cwd: root, stdio: 'inherit' });
}
