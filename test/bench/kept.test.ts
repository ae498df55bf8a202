import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Console, runSuite } from '../../bench/lib/context.js';
import { toCsv } from '../../bench/lib/csv.js';
import { Kept, PartialFileError } from '../../bench/lib/kept.js';
import type { BenchContext, Provenance, Suite } from '../../bench/lib/report.js';
import { statsOf } from '../../src/tune/stats.js';
import { OptionError } from '../../src/errors.js';

const HEAD: Provenance = {
  date: '2026-01-01T00:00:00.000Z',
  version: '1.0.0',
  commit: 'abc',
  dirty: false,
  suites: ['s'],
  adapter: 'lavapipe',
  device: 'llvmpipe, 256 bits',
  driver: { description: 'Mesa' },
  features: [],
  traits: {},
  robustness: true,
  timer: 'timestamp-query',
  settings: {},
  quick: false,
  full: true,
  node: 'v20',
  platform: 'linux x64',
  cpu: '2 × x',
};
// No case here touches a device.
const BASE = {
  gpu: {} as BenchContext['gpu'],
  robustness: true,
  quick: false,
  full: true,
  storage: 'auto' as const,
};

describe('a bench that is interrupted', () => {
  let folder: string;
  let file: string;
  let ran: string[];
  const warnings: string[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pairslab-bench-'));
    file = join(folder, 'out.json');
    ran = [];
    warnings.length = 0;
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    rmSync(folder, { recursive: true, force: true });
  });

  const open = (resume: boolean, head = HEAD, at: string | undefined = file): Kept =>
    Kept.open(head, { file: at, resume, warn: (line) => warnings.push(line) });

  /** Three cases; breaks off before the one named. */
  const suite =
    (breakAt?: string): Suite =>
    async (context) => {
      const results = [];
      for (const key of ['a', 'b', 'c']) {
        const value = await context.measured(key, async () => {
          if (key === breakAt) throw new Error('broken off');
          ran.push(key);
          return { key, gone: undefined, none: Number.NaN };
        });
        results.push({ suite: 's', case: key, value });
      }
      return { results, summary: { 's.n': results.length } };
    };
  const run = (kept: Kept, breakAt?: string) => runSuite('s', suite(breakAt), BASE, kept, new Console());

  it('goes on with the case it had not finished, and sees the same as without the break', async () => {
    await expect(run(open(false), 'c')).rejects.toThrow('broken off');
    expect(ran).toEqual(['a', 'b']);
    expect(readdirSync(folder)).toEqual(['out.json.partial']);
    const resumed = await run(open(true));
    expect(ran).toEqual(['a', 'b', 'c']);
    const whole = await run(open(false, HEAD, join(folder, 'other.json')));
    expect(resumed).toEqual(whole);
    expect(resumed.results[0]).toEqual({ suite: 's', case: 'a', value: { key: 'a', none: null } });
  });

  it('runs a finished suite no second time', async () => {
    const first = await run(open(false));
    ran = [];
    const kept = open(true);
    expect(await run(kept)).toEqual(first);
    expect(ran).toEqual([]);
    kept.remove();
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    ['commit', { commit: 'def' }],
    ['version', { version: '1.0.1' }],
    ['robustness', { robustness: false }],
    ['full', { full: false }],
    ['driver', { driver: { description: 'Mesa, newer' } }],
    ['settings', { settings: { PAIRSLAB_HYBRID_TAU: '0.5' } }],
  ])('measures everything again with another %s, and keeps the old file', async (name, other) => {
    await expect(run(open(false), 'b')).rejects.toThrow();
    const old = readFileSync(`${file}.partial`, 'utf8');
    await run(open(true, { ...HEAD, ...other }));
    expect(ran).toEqual(['a', 'a', 'b', 'c']);
    expect(warnings.join()).toContain(name);
    const aside = readdirSync(folder).find((entry) => entry.startsWith('out.json.partial.')) as string;
    expect(readFileSync(join(folder, aside), 'utf8')).toBe(old);
  });

  it('does not write over an interrupted run when it is not asked to resume', async () => {
    await expect(run(open(false), 'b')).rejects.toThrow();
    open(false);
    expect(warnings.join()).toMatch(/moved to .*--resume/);
    expect(readdirSync(folder)).toHaveLength(1);
  });

  it.each(['{"format": "pairsl', '[]', '{"provenance": {}, "kept": {}}', ''])(
    'refuses the damaged file %j and leaves it',
    (text) => {
      writeFileSync(`${file}.partial`, text);
      expect(() => open(true)).toThrow(PartialFileError);
      expect(readFileSync(`${file}.partial`, 'utf8')).toBe(text);
    },
  );

  it('says so where there is nothing to resume, and where there is nowhere to keep it', () => {
    open(true);
    expect(warnings.join()).toContain('nothing to resume');
    expect(() => Kept.open(HEAD, { resume: true, warn: () => {} })).toThrow(OptionError);
  });

  it('refuses one key for two cases', async () => {
    const twice: Suite = async (context) => {
      await context.measured('a', async () => 1);
      await context.measured('a', async () => 2);
      return { results: [], summary: {} };
    };
    await expect(runSuite('s', twice, BASE, open(false), new Console())).rejects.toThrow(/key "a" twice/);
  });
});

describe('the table', () => {
  it('quotes what needs it, opens statistics into columns and disarms formulas', () => {
    const [head, row, skipped, ...rest] = toCsv({
      provenance: HEAD,
      results: [
        {
          suite: 's',
          case: 'a, "b"',
          ms: statsOf([1, 2, 3]),
          rows: [1, 2],
          on: false,
          negative: -1,
          note: '=1+1',
        },
      ],
      summary: {},
      skipped: [{ suite: 's', case: 'c', reason: 'too large,\nreally' }],
    }).split(/\n(?=suite|s,)/);
    expect(head).toMatch(/^suite,case,ms\.n,ms\.median,/);
    expect(head).toMatch(
      /ms\.ci\.low,ms\.ci\.high,ms\.ci\.confidence,rows,on,negative,note,skipped,adapter,device/,
    );
    expect(row).toMatch(/^s,"a, ""b""",3,2,2,/);
    expect(row).toContain(
      `,1 2,false,-1,'=1+1,,lavapipe,"llvmpipe, 256 bits",true,timestamp-query,1.0.0,abc,`,
    );
    expect(skipped).toContain('"too large,\nreally",lavapipe');
    expect(rest).toEqual([]);
  });
});
