// Bundles src/ (and bench/) into dist/, WGSL inlined as text. With --types also writes the declarations.
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const common = {
  absWorkingDir: root,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  loader: { '.wgsl': 'text' },
  sourcemap: true,
  logLevel: 'warning',
};
/** Of git, or null outside of a checkout. */
function git(...args) {
  try {
    return execFileSync('git', args, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return null;
  }
}
// What a bench says it measured, also where dist/ was copied to a host without git.
const source = { commit: git('rev-parse', 'HEAD'), dirty: Boolean(git('status', '--porcelain')) };
rmSync(`${root}dist`, { recursive: true, force: true });
// One build for the core and for Node: chunks are shared, so that there is one `PairslabError` and one map of waiters.
await build({
  ...common,
  entryPoints: {
    index: 'src/index.ts',
    'mask/index': 'src/mask/index.ts',
    'plan/index': 'src/plan/index.ts',
    'residency/index': 'src/residency/index.ts',
    kernels: 'src/kernels.ts',
    'llama/index': 'src/llama/index.ts',
    'node/index': 'src/node/index.ts',
    'node/cli': 'src/node/cli.ts',
    'bench/main': 'bench/main.ts',
    'bench/soak': 'bench/soak.ts',
  },
  outdir: 'dist',
  splitting: true,
  chunkNames: 'chunks/[hash]',
  platform: 'neutral',
  packages: 'external',
  define: { PAIRSLAB_SOURCE: JSON.stringify(source) },
});
if (process.argv.includes('--types')) {
  execFileSync('npx', ['tsc', '-p', 'tsconfig.types.json'], { cwd: root, stdio: 'inherit' });
}
