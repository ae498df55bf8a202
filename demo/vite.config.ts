import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** What a built page may do. In a header it can also say who may frame it, which a <meta> cannot. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  // Models come from wherever the user says; over plain HTTP from this machine alone.
  "connect-src 'self' https: http://localhost:* http://127.0.0.1:*",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
];
const HEADERS = {
  'Content-Security-Policy': [...POLICY, "frame-ancestors 'none'"].join('; '),
  // Isolated from other origins: timers are finer, which the benchmark page is glad of.
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

const SHIPPED = [
  'config.json',
  'model.safetensors',
  'tokenizer.json',
  'tokenizer_config.json',
  'heldout.txt',
];

const wgslAsText: Plugin = {
  name: 'wgsl-as-text',
  enforce: 'pre',
  load(id) {
    if (id.endsWith('.wgsl')) return `export default ${JSON.stringify(readFileSync(id, 'utf8'))}`;
  },
};

/** The built page carries its policy and its model. The dev server's page needs inline styles and has neither. */
const standAlone: Plugin = {
  name: 'stand-alone',
  apply: 'build',
  transformIndexHtml: () => [
    {
      tag: 'meta',
      attrs: { 'http-equiv': 'Content-Security-Policy', content: POLICY.join('; ') },
      injectTo: 'head-prepend',
    },
  ],
  generateBundle() {
    for (const name of SHIPPED)
      this.emitFile({
        type: 'asset',
        fileName: `models/statesman/${name}`,
        source: readFileSync(here(`models/statesman/${name}`)),
      });
    const lines = Object.entries(HEADERS).map(([name, value]) => `  ${name}: ${value}\n`);
    // The form that static hosts read: Netlify, Cloudflare Pages.
    this.emitFile({ type: 'asset', fileName: '_headers', source: `/*\n${lines.join('')}` });
  },
};

function git(...args: string[]): string | null {
  try {
    return execFileSync('git', args, {
      cwd: here('.'),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return null;
  }
}

export default defineConfig({
  root: here('.'),
  base: './',
  // A missing file is a 404, not the page: that is how a model without some file is told.
  appType: 'mpa',
  publicDir: false,
  plugins: [wgslAsText, standAlone],
  define: {
    PAIRSLAB_SOURCE: JSON.stringify({
      commit: git('rev-parse', 'HEAD'),
      dirty: Boolean(git('status', '--porcelain')),
    }),
  },
  build: {
    outDir: here('dist'),
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: [here('index.html'), here('bench.html')] },
  },
  preview: { headers: HEADERS },
});
