import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'dist/node/cli.js');
const model = join(root, 'demo/models/statesman');

describe('pairslab convert', () => {
  let folder: string;
  beforeAll(() => {
    execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { cwd: root });
    folder = mkdtempSync(join(tmpdir(), 'pairslab-convert-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = (args: readonly string[], onStart?: (child: ReturnType<typeof spawn>) => void) =>
    new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const child = spawn(process.execPath, [cli, ...args], { cwd: root });
      let out = '';
      let err = '';
      child.stdout.on('data', (data) => {
        out += data;
      });
      child.stderr.on('data', (data) => {
        err += data;
      });
      child.on('close', (code) => resolve({ code, out, err }));
      onStart?.(child);
    });
  const convert = (out: string, ...more: string[]) => [
    'convert',
    '--model',
    model,
    '--out',
    join(folder, out),
    ...more,
  ];

  it('writes a model that generates the same tokens, and refuses another dtype than it has', async () => {
    const made = await run(convert('deep/f16', '--dtype', 'f16', '--json'));
    expect(made).toMatchObject({ code: 0, err: '' });
    const out = join(folder, 'deep/f16');
    expect(JSON.parse(made.out)).toMatchObject({ out, dtype: 'f16' });
    expect(readdirSync(join(folder, 'deep'))).toEqual(['f16']);
    const common = ['--prompt', 'The state of the Union is', '--max-tokens', '8', '--json'];
    const generate = async (...more: string[]) => {
      const ended = await run(['generate', ...common, ...more]);
      expect(ended.code, ended.err).toBe(0);
      return JSON.parse(ended.out);
    };
    const [got, want] = [await generate('--model', out), await generate('--model', model, '--dtype', 'f16')];
    expect(got.tokens).toEqual(want.tokens);
    expect(got.stats.dtype).toBe('f16');
    const other = await run(['generate', '--model', out, '--dtype', 'q8', ...common]);
    expect(other).toMatchObject({ code: 1 });
    expect(other.err).toContain('was converted to f16');
  });

  it('leaves nothing when it is interrupted', async () => {
    const out = join(folder, 'stopped');
    const ended = await run(convert('stopped', '--dtype', 'q4'), (child) => {
      const timer = setInterval(() => {
        if (!readdirSync(folder).some((name) => name.startsWith('stopped.partial'))) return;
        clearInterval(timer);
        child.kill('SIGINT');
      }, 1);
    });
    expect(ended).toMatchObject({ code: 130, out: '', err: 'stopped: nothing was written\n' });
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.startsWith('stopped'))).toEqual([]);
  });

  it('touches no folder that has something in it, and explains itself', async () => {
    const out = join(folder, 'taken');
    mkdirSync(out);
    writeFileSync(join(out, 'mine'), 'kept');
    const ended = await run(convert('taken', '--dtype', 'f16'));
    expect(ended.code).toBe(1);
    expect(ended.err).toContain('exists and is not an empty folder');
    expect(readFileSync(join(out, 'mine'), 'utf8')).toBe('kept');
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
    const missing = await run(['convert', '--model', join(folder, 'none'), '--out', out, '--dtype', 'f16']);
    expect(missing.code).toBe(1);
    const help = await run(['convert', '--help']);
    for (const option of ['--model', '--out', '--dtype', '--block-rows']) expect(help.out).toContain(option);
  });
});
