/** The examples and pages against the other runtimes' own types: what is declared of them here must fit. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, it } from 'vitest';
import { ROOT } from './support/describe-page.js';
import { RUNTIMES, runtimesMissing } from './support/install.js';

describe('types of other runtimes', async () => {
  const missing = await runtimesMissing();
  it.skipIf(missing)(`are as pairslab says${missing ? `: skipped, ${missing}` : ''}`, async () => {
    const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
    const run = promisify(execFile)(process.execPath, [compiler, '--noEmit', '-p', RUNTIMES], { cwd: ROOT });
    // What the compiler has to say is on stdout.
    await run.catch(({ stdout }: { stdout: string }) => Promise.reject(new Error(stdout)));
  });
});
