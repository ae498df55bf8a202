// Bundles src/ and bench/ into dist/, WGSL inlined as text. With --package only what is published: no bench and no source
// maps, and the declarations beside it, those that an entry leads to.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { reachedFiles } from './reached-files.mjs';
import { wgslAsText } from './wgsl.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const forPackage = process.argv.includes('--package');
const common = {
  absWorkingDir: root,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  plugins: [wgslAsText],
  sourcemap: !forPackage,
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
    'pool/index': 'src/pool/index.ts',
    'tune/index': 'src/tune/index.ts',
    'device-plan': 'src/device-plan.ts',
    kernels: 'src/kernels.ts',
    'llama/index': 'src/llama/index.ts',
    'onnxruntime/index': 'src/onnxruntime/index.ts',
    'tfjs/index': 'src/tfjs/index.ts',
    'transformers/index': 'src/transformers/index.ts',
    'worker/index': 'src/worker/index.ts',
    'worker/start': 'src/worker/start.ts',
    'node/index': 'src/node/index.ts',
    'node/cli': 'src/node/cli.ts',
    ...(forPackage ? {} : { 'bench/main': 'bench/main.ts', 'bench/soak': 'bench/soak.ts' }),
  },
  outdir: 'dist',
  splitting: true,
  chunkNames: 'chunks/[hash]',
  platform: 'neutral',
  packages: 'external',
  define: { PAIRSLAB_SOURCE: JSON.stringify(source) },
});
if (forPackage) {
  execFileSync('npx', ['tsc', '-p', 'tsconfig.types.json'], { cwd: root, stdio: 'inherit' });
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const types = Object.values(exports).flatMap((entry) => entry.types ?? []);
  const kept = reachedFiles(types.map((file) => join(root, file)));
  for (const entry of readdirSync(join(root, 'dist/types'), { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath ?? entry.path, entry.name);
    if (entry.isFile() && !kept.has(file)) rmSync(file);
  }
}
