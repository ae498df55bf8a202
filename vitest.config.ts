import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { playwright } from '@vitest/browser-playwright';
import type { Plugin } from 'vite';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { minifyWgsl } from './scripts/wgsl.mjs';
import { chromiumMissing, chromiumOptions } from './test/support/chromium.js';

const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

const wgslAsText = (change: (code: string) => string): Plugin => ({
  name: 'wgsl-as-text',
  enforce: 'pre',
  load(id) {
    if (id.endsWith('.wgsl')) return `export default ${JSON.stringify(change(readFileSync(id, 'utf8')))}`;
  },
});

const shared = {
  // Two files at a time on two cores would only make software adapters wait for each other.
  fileParallelism: false,
  testTimeout: 120_000,
  hookTimeout: 120_000,
};

/** Node, on every adapter at hand. */
const node: TestProjectInlineConfiguration = {
  plugins: [wgslAsText((code) => code)],
  test: {
    ...shared,
    name: 'node',
    include: ['test/**/*.test.ts'],
    // What someone tuned on this machine is not what is tested; also for the command line that tests start.
    env: { PAIRSLAB_TUNING: 'off' },
    pool: 'forks',
  },
};

/**
 * The same files in a tab of a headless Chromium, on SwiftShader and with the WGSL as it is published: all that runs on
 * the GPU, and the masks and plans that it is built on; four minutes. Left out is what has no browser in it (files,
 * servers, processes, the environment), f16 arithmetic, which SwiftShader lacks, and of what repeats a whole model's run
 * (a budget, perplexity, traces, autotuning) the repetition on one more adapter.
 */
const IN_CHROMIUM = [
  'test/gpu/*.test.ts',
  'test/kernels/*.test.ts',
  'test/mask/*.test.ts',
  'test/mlp/*.test.ts',
  'test/plan/*.test.ts',
  'test/pool/device-pool.test.ts',
  'test/readme/execute.test.ts',
  'test/slab/*.test.ts',
  'test/llama/gpu/*.test.ts',
];
const NOT_IN_CHROMIUM = [
  'test/gpu/minify-wgsl.test.ts',
  'test/kernels/half.test.ts',
  'test/plan/hybrid.test.ts',
  ...['budget', 'compute', 'perplexity', 'record-trace', 'served', 'tokenizer'].map(
    (file) => `test/llama/gpu/${file}.test.ts`,
  ),
];

/** What Node's own files are replaced by in a tab. */
const alias = [
  {
    find: /^.*\/src\/node\/(adapters|device|quiet-wait)\.js$/,
    replacement: path('test/support/chromium/$1.ts'),
  },
  { find: /^\.\.?\/(.*\/)?node-folder\.js$/, replacement: path('test/support/chromium/node-folder.ts') },
];

async function chromium(): Promise<TestProjectInlineConfiguration> {
  return {
    plugins: [wgslAsText(minifyWgsl)],
    resolve: { alias },
    test: {
      ...shared,
      name: 'chromium',
      include: IN_CHROMIUM,
      exclude: NOT_IN_CHROMIUM,
      browser: {
        enabled: true,
        headless: true,
        provider: playwright({ launchOptions: await chromiumOptions() }),
        instances: [{ browser: 'chromium' }],
        screenshotFailures: false,
      },
    },
  };
}

/** PAIRSLAB_ADAPTER: one adapter only, of Node's or `chromium`. */
async function projects(): Promise<TestProjectInlineConfiguration[]> {
  const only = process.env.PAIRSLAB_ADAPTER;
  if (only && only !== 'chromium') return [node];
  const missing = chromiumMissing();
  if (missing && only) throw new Error(`PAIRSLAB_ADAPTER=chromium: ${missing}`);
  if (missing) console.warn(`Nothing is tested in Chromium: ${missing}`);
  return [...(only ? [] : [node]), ...(missing ? [] : [await chromium()])];
}

export default defineConfig({ test: { projects: await projects() } });
