import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromiumMissing } from '../../support/chromium.js';

/** test/runtimes, whose package.json has the other runtimes. */
export const RUNTIMES = fileURLToPath(new URL('..', import.meta.url));

const read = (file: string) => JSON.parse(readFileSync(join(RUNTIMES, file), 'utf8'));

/**
 * Installs the other runtimes on first use (270 MB on disk; `npm ci` at the top leaves them out).
 * @returns why that, or a browser to run them in, cannot be had; null when all is there.
 */
export async function runtimesMissing(): Promise<string | null> {
  const missing = chromiumMissing();
  if (missing) return missing;
  const { dependencies } = read('package.json') as { dependencies: Record<string, string> };
  const installed = ([name, version]: [string, string]): boolean => {
    const file = join('node_modules', name, 'package.json');
    return existsSync(join(RUNTIMES, file)) && read(file).version === version;
  };
  if (Object.entries(dependencies).every(installed)) return null;
  try {
    const options = ['--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund'];
    await promisify(execFile)('npm', ['ci', ...options], { cwd: RUNTIMES });
    return null;
  } catch (cause) {
    const { stderr, message } = cause as { stderr?: string; message: string };
    return `npm ci in test/runtimes failed: ${(stderr || message).trim().split('\n').slice(-3).join(' ')}`;
  }
}
