import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/** What follows relative imports from `entries` (built `.js` or `.d.ts` files): their paths, with the entries'. */
export function reachedFiles(entries) {
  const reached = new Set();
  const open = [...entries];
  for (let file = open.pop(); file; file = open.pop()) {
    if (reached.has(file)) continue;
    reached.add(file);
    for (const [, name] of readFileSync(file, 'utf8').matchAll(
      /(?:from|import)\s*\(?\s*["'](\.[^"']+)["']/g,
    )) {
      const found = resolve(dirname(file), name);
      open.push(file.endsWith('.d.ts') ? found.replace(/\.js$/, '.d.ts') : found);
    }
  }
  return reached;
}
