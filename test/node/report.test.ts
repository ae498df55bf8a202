import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SaxesParser } from 'saxes';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { runReport } from '../../src/node/commands/report.js';
import { MissingPackageError } from '../../src/node/report/draw.js';
import { figureOf } from '../../src/node/report/figure.js';
import { merge } from '../../src/node/report/merge.js';
import { BenchFileError, readBenchFile } from '../../src/node/report/read.js';

const results = fileURLToPath(new URL('../../bench/results/', import.meta.url));
const shipped = readdirSync(results)
  .filter((name) => name.endsWith('.json'))
  .map((name) => join(results, name));

const PROVENANCE = {
  date: '2026-01-01T00:00:00.000Z',
  version: '1.0.0',
  commit: '0123456789abcdef',
  adapter: 'gpu',
  device: 'Device A',
  robustness: true,
  timer: 'timestamp-query',
  cpu: '16 × y',
};

/** @returns the texts of a well-formed document; throws otherwise. */
function textsOf(svg: string): string[] {
  const texts: string[] = [];
  const parser = new SaxesParser({ xmlns: true });
  parser.on('error', (error) => {
    throw error;
  });
  parser.on('text', (text) => {
    if (text.trim() !== '') texts.push(text);
  });
  parser.write(svg).close();
  return texts;
}

describe('pairslab report', () => {
  let out: string;
  beforeEach(() => {
    out = mkdtempSync(join(tmpdir(), 'pairslab-report-'));
    vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    vi.doUnmock('echarts');
    rmSync(out, { recursive: true, force: true });
  });

  const write = (name: string, json: unknown): string => {
    const file = join(out, name);
    writeFileSync(file, typeof json === 'string' ? json : JSON.stringify(json));
    return file;
  };
  const report = (): string => readFileSync(join(out, 'report.md'), 'utf8');
  const charts = (): Map<string, string[]> =>
    new Map(
      readdirSync(out)
        .filter((name) => name.endsWith('.svg'))
        .map((name) => [name, textsOf(readFileSync(join(out, name), 'utf8'))]),
    );

  it('draws the files of this repository: every chart well-formed, shown, and with its conditions', async () => {
    await runReport(shipped, { out, charts: true });
    const drawn = charts();
    const kinds = [...drawn.keys()].join();
    for (const kind of ['update-speedup', 'update-ceiling', 'e2e-tokens']) expect(kinds).toContain(kind);
    for (const [name, texts] of drawn) {
      expect(report()).toContain(`](${name})`);
      expect(texts.join('\n'), name).toMatch(/lavapipe .*· .*robustness on · timer timestamp-query/);
    }
    const figures = shipped.flatMap((file) => Object.entries(JSON.parse(readFileSync(file, 'utf8')).summary));
    expect(figures.map(([name]) => name)).toContain('update.k16.speedup_vs_repack');
    // Of a figure that several files have, the report shows one file's.
    for (const [name] of figures) {
      const values = figures.filter((one) => one[0] === name).map(([, value]) => Number(value));
      const shown = report().match(new RegExp(`\\| \`${name.replaceAll('.', '\\.')}\` \\| ([^|]+) \\|`))?.[1];
      // As it is in the file, to the digits that are shown.
      const fits = (value: number) => Math.abs(Number(shown) - value) <= 0.05 * Math.abs(value);
      expect(values.some(fits), `${name}: ${shown} of ${values.join()}`).toBe(true);
    }
    expect(report()).toContain('Mesa 25.0');
  });

  it('gives the same report for the same files', async () => {
    await runReport(shipped, { out, charts: false });
    const first = report();
    await runReport(shipped, { out, charts: false });
    expect(report()).toBe(first);
  });

  it('draws layers over density, ceilings and tokens, whatever fields are absent', async () => {
    const mlp = (density: number, strategy: string, speedup: number | undefined) => ({
      suite: 'mlp',
      case: `${density} ${strategy}`,
      shape: 'llama1b',
      dtype: 'f16',
      density,
      strategy,
      reuse: 1,
      writesPerM: density === 100 ? 0 : 1,
      readFraction: 0.5,
      speedupOverDense: speedup && { median: speedup, ci: { low: speedup - 0.1, high: speedup + 0.1 } },
    });
    const file = write('a.json', {
      provenance: {},
      results: [
        mlp(10, 'indexed', 6),
        mlp(10, 'paired', 5),
        mlp(100, 'indexed', 0.9),
        mlp(100, 'dense', 1),
        mlp(10, 'repack', undefined),
        { suite: 'ceilings', case: 'copy', gbps: { median: 19, p10: 18, p90: 20 } },
        { suite: 'e2e', case: 'f32 dense', tokensPerSecond: 100 },
        { suite: 'other', case: 'x' },
      ],
      summary: { nothing: null },
    });
    await runReport([file], { out, charts: true });
    expect([...charts().keys()].sort()).toEqual([
      'ceilings.svg',
      'e2e-tokens.svg',
      'mlp-ceiling.svg',
      'mlp-speedup.svg',
    ]);
  });

  it('merges hosts into means and spreads, and runs of one host into one', async () => {
    const file = (name: string, device: string, summary: object, date = PROVENANCE.date): string =>
      write(name, {
        provenance: { ...PROVENANCE, device, date },
        results: [{ suite: 'e2e', case: 'f32 dense', tokensPerSecond: 10 }],
        summary,
      });
    const files = [
      file('a1.json', 'Device A', { x: 1, only: 5 }),
      file('a2.json', 'Device A', { x: 3 }, '2026-01-02T00:00:00.000Z'),
      file('b.json', 'Device B', { x: 6 }),
      file('c.json', 'Device C', { x: 10 }),
    ];
    const merged = merge(await Promise.all(files.map(readBenchFile)));
    expect(merged.hosts.map(({ label }) => label)).toEqual([
      'gpu (Device A)',
      'gpu (Device B)',
      'gpu (Device C)',
    ]);
    const [x, only] = merged.figures;
    expect(x).toMatchObject({ name: 'x', n: 3, mean: 6, sd: 4, min: 2, max: 10, values: [2, 6, 10] });
    expect(only).toMatchObject({ name: 'only', n: 1, mean: 5, sd: null, values: [5, null, null] });
    await runReport(files, { out, merge: true, charts: true });
    expect(report()).toContain('| `x` | 3 | 6.00 | 4.00 | 2.00 | 10.0 | 2.00 | 6.00 | 10.0 |');
    const bars = charts().get('e2e-tokens.svg')?.join('\n');
    for (const device of ['A', 'B', 'C']) expect(bars).toContain(`Device ${device}`);
  });

  it('reads what an interrupted bench left', async () => {
    const row = { suite: 's', case: 'a' };
    const file = write('x.json.partial', {
      format: 'pairslab bench, partial',
      provenance: PROVENANCE,
      kept: { s: { results: [row], summary: { 's.x': 2 } }, 't/case': { summary: 'of a case' } },
    });
    expect(await readBenchFile(file)).toMatchObject({ partial: true, results: [row] });
    await runReport([file], { out, charts: true });
    expect(report()).toContain('interrupted');
  });

  it.each([
    ['no JSON', 'suite,case', /is not JSON/],
    ['a list', [], /holds no JSON object/],
    ['another tool’s JSON', { results: [] }, /no "provenance"/],
    ['results that are none', { provenance: {}, results: {} }, /no list of "results"/],
    ['a result that is none', { provenance: {}, results: [null], summary: {} }, /result \(0\)/],
    ['a nameless result', { provenance: {}, results: [{ suite: 's', case: 1 }], summary: {} }, /"case"/],
    ['no summary', { provenance: {}, results: [] }, /no "summary"/],
    ['a summary of texts', { provenance: {}, results: [], summary: { a: '1' } }, /"a" that is no number/],
  ])('refuses %s before it writes anything', async (_, json, message) => {
    const file = write('foreign.json', json);
    const error = await runReport([...shipped, file], { out, charts: true }).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(BenchFileError);
    expect(error.message).toMatch(message);
    expect(error.message).toContain(file);
    expect(readdirSync(out)).toEqual(['foreign.json']);
  });

  it('shows hostile names as text: no markup, no path, no control characters', async () => {
    const evil = '</text><script>alert(1)</script> | `x` ../../\u0000\u202e\n# [a](javascript:b) {c|d} {e}';
    const file = write('evil.json', {
      provenance: { ...PROVENANCE, adapter: evil, device: evil, timer: evil },
      results: [
        { suite: evil, case: evil, tokensPerSecond: 1, [evil]: 1 },
        {
          suite: 'mlp',
          case: evil,
          shape: evil,
          strategy: evil,
          density: 1,
          readFraction: 1,
          speedupOverDense: 2,
        },
        { suite: 'update', case: evil, k: 1e308, arm: 'repack', dtype: evil, speedupOfPairedWall: 1e308 },
        { suite: 'update', case: '__proto__', k: -1, arm: 'repack', dtype: evil, speedupOfPairedWall: -5 },
      ],
      summary: { [evil]: 1, ['__proto__']: 2 },
      skipped: [{ suite: evil, case: evil, reason: evil }, null, 7],
    });
    await runReport([file], { out, charts: true });
    for (const [name, texts] of charts()) {
      expect(name).toMatch(/^[a-z0-9.-]+\.svg$/);
      expect(texts.join('')).toContain('robustness on');
    }
    expect(charts().size).toBeGreaterThan(2);
    for (const name of charts().keys())
      expect(readFileSync(join(out, name), 'utf8')).not.toContain('<script');
    // What follows a backtick's code span is a summary name, where nothing is markup.
    expect(report().replace(/`[^`\n]*`/g, '')).not.toMatch(/<script|[^\\]\[a\]|\n# \[/);
  });

  it('says what to install where there is no chart library, and reports without it', async () => {
    vi.resetModules();
    vi.doMock('echarts', () => {
      throw new Error("Cannot find package 'echarts'");
    });
    const { runReport: fresh } = await import('../../src/node/commands/report.js');
    const error = await fresh(shipped, { out, charts: true }).catch((thrown) => thrown);
    expect(error.name).toBe(MissingPackageError.name);
    expect(error.message).toMatch(/npm install echarts/);
    await fresh(shipped, { out, charts: false });
    expect(readdirSync(out)).toEqual(['report.md']);
  });
});

describe('a figure', () => {
  it.each([
    [
      { median: 2, ci: { low: 1, high: 3 }, p10: 0, p90: 9 },
      { value: 2, low: 1, high: 3 },
    ],
    [
      { median: 2, p10: 1, p90: 4 },
      { value: 2, low: 1, high: 4 },
    ],
    [{ median: 2 }, { value: 2, low: 2, high: 2 }],
    [5, { value: 5, low: 5, high: 5 }],
    [{ median: null }, null],
    [Number.NaN, null],
    ['5', null],
    [undefined, null],
  ])('of %j', (field, figure) => expect(figureOf(field)).toEqual(figure));
});
