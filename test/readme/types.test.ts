import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { snippetOf, written } from './snippets.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

let folder: string;
beforeAll(() => {
  // Inside the package, so that types are found.
  folder = mkdtempSync(join(ROOT, 'node_modules/.pairslab-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('the snippets of the README have the types that they are used with', () => {
  const ours = written.filter((code) => !snippetOf(code).elsewhere);
  const files = ours.map((code, i) => {
    const file = join(folder, `snippet-${i}.ts`);
    writeFileSync(file, `${snippetOf(code).assumes}\n${code}\nexport {};\n`);
    return file;
  });
  const config = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      noUnusedLocals: false,
      typeRoots: [join(ROOT, 'node_modules/@types'), join(ROOT, 'node_modules')],
      paths: {
        pairslab: [join(ROOT, 'src/index.ts')],
        'pairslab/kernels': [join(ROOT, 'src/kernels.ts')],
        'pairslab/device-plan': [join(ROOT, 'src/device-plan.ts')],
        'pairslab/*': [join(ROOT, 'src/*/index.ts')],
      },
    },
    // Named one by one: what is in node_modules is not included otherwise.
    include: [],
    files: [...files, join(ROOT, 'src/wgsl.d.ts')],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
  const { stdout, status } = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), ['-p', folder], {
    encoding: 'utf8',
  });
  expect(stdout).toBe('');
  expect(status).toBe(0);
});
