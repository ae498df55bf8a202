import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PairslabError } from '../../src/errors.js';

/** Where a file or folder of the checkout is, for benches, which are bundled to another place. @throws PairslabError */
export function inCheckout(path: string): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'bench/peers/package.json')) || !existsSync(join(folder, path))) {
    if (folder === dirname(folder))
      throw new PairslabError(`${path} is not here: this suite runs in a checkout only.`, { path });
    folder = dirname(folder);
  }
  return join(folder, path);
}
