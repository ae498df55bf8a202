import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Tarball {
  /** The packed file. */
  file: string;
  /** Where `file` is; for what else a test writes. */
  folder: string;
  bytes: number;
  /** Paths inside of the package. */
  files: string[];
  remove(): void;
}

/** What `npm publish` would send: `npm pack` builds it first (package.json's `prepack`). */
export function packTarball(): Tarball {
  const folder = mkdtempSync(join(tmpdir(), 'pairslab-package-'));
  const said = execFileSync('npm', ['pack', '--json', '--silent', '--pack-destination', folder], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const parsed = JSON.parse(said.slice(said.search(/^[[{]/m)));
  const [packed] = Object.values(parsed) as { size: number; files: { path: string }[] }[];
  return {
    file: join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) as string),
    folder,
    bytes: packed.size,
    files: packed.files.map(({ path }) => path).sort(),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
