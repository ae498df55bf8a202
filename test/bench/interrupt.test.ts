import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('bench, as a process', () => {
  let folder: string;
  let main: string;

  beforeAll(async () => {
    // Inside the package, so that it finds the package's dependencies.
    folder = mkdtempSync(join(root, 'node_modules/.pairslab-test-'));
    main = join(folder, 'main.js');
    await build({
      absWorkingDir: root,
      entryPoints: ['bench/main.ts'],
      outdir: folder,
      bundle: true,
      splitting: true,
      format: 'esm',
      target: 'es2022',
      platform: 'neutral',
      packages: 'external',
      loader: { '.wgsl': 'text' },
      logLevel: 'warning',
    });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function bench(args: readonly string[], onStderr?: (all: string, interrupt: () => void) => void) {
    return new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const child = spawn(process.execPath, [main, ...args], { cwd: folder });
      let out = '';
      let err = '';
      child.stdout.on('data', (data) => {
        out += data;
      });
      child.stderr.on('data', (data) => {
        err += data;
        onStderr?.(err, () => child.kill('SIGINT'));
      });
      child.on('close', (code) => resolve({ code, out, err }));
    });
  }

  it('keeps what was measured when it is interrupted, and goes on from there', async () => {
    const file = join(folder, 'out.json');
    const args = ['--suite', 'plan', '--quick', '--json', file, '--csv', join(folder, 'out.csv')];
    const interrupted = await bench(args, (err, interrupt) => {
      if (err.includes('k=64:')) interrupt();
    });
    expect(interrupted.code).toBe(130);
    expect(interrupted.err).toMatch(/what was measured is kept in .*out\.json\.partial.*--resume/);
    expect(existsSync(file)).toBe(false);
    const { kept } = JSON.parse(readFileSync(`${file}.partial`, 'utf8'));
    expect(Object.keys(kept)).toEqual(expect.arrayContaining(['plan/k=16', 'plan/k=64']));
    expect(kept).not.toHaveProperty('plan');

    const { code, out, err } = await bench([...args, '--resume']);
    expect(code, err).toBe(0);
    expect(err).toMatch(/plan: [23] cases kept from the interrupted run/);
    expect(existsSync(`${file}.partial`)).toBe(false);
    const report = JSON.parse(readFileSync(file, 'utf8'));
    expect(Object.keys(report)).toEqual(['provenance', 'results', 'summary', 'skipped']);
    expect(report.provenance).toMatchObject({
      version: expect.any(String),
      commit: expect.toSatisfy((commit) => commit === null || /^[0-9a-f]{40}$/.test(commit)),
      adapter: expect.any(String),
      device: expect.any(String),
      driver: expect.any(Object),
      features: expect.any(Array),
      robustness: true,
      timer: expect.any(String),
      quick: true,
      full: false,
    });
    expect(report.results).toHaveLength(8);
    expect(report.results[0]).toMatchObject({
      suite: 'plan',
      k: 16,
      us: { n: 5, ci: { confidence: 0.9375 } },
    });
    expect(JSON.parse(out)).toEqual(report.summary);
    expect(readFileSync(join(folder, 'out.csv'), 'utf8').split('\n')).toHaveLength(1 + 8 + 1);
    // The second run measured what the first had not, and only that.
    const us = report.results
      .filter((row: { k: number }) => row.k === 16)
      .map((row: { us: unknown }) => row.us);
    expect(us.map(({ median }: { median: number }) => median)).toEqual(
      ['tight', 'published'].map((arm) => [...kept['plan/k=16'][arm]].sort((a, b) => a - b)[2]),
    );
  });

  it.each([
    [['--suite', 'fly'], /there is no suite "fly"/],
    [['--resume'], /OptionError: --resume needs --json FILE/],
    [['--quick', '--full'], /cannot be used with/],
  ])('refuses %j before it takes a device', async (args, message) => {
    const { code, err, out } = await bench(args);
    expect(code).toBe(1);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/adapter:/);
    expect(out).toBe('');
  });
});
