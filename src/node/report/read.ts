import { readFile, stat } from 'node:fs/promises';
import { PairslabError } from '../../errors.js';

/** A file is not what a pairslab bench writes. */
export class BenchFileError extends PairslabError {
  override name: string = 'BenchFileError';
}

/** A bench's file has a few MB at most; more is something else. */
const LARGEST_BYTES = 256 << 20;

/** A measured case. What else it holds depends on the suite and on the version that wrote it. */
export type Row = Readonly<Record<string, unknown>> & { readonly suite: string; readonly case: string };

/** What a bench file says, as far as a report needs it; absent fields are 'unknown'. */
export interface BenchFile {
  path: string;
  conditions: Conditions;
  /** An interrupted run: the suites it had completed. */
  partial: boolean;
  results: readonly Row[];
  summary: ReadonlyMap<string, number>;
  skipped: readonly { suite: string; case: string; reason: string }[];
}

export interface Conditions {
  adapter: string;
  device: string;
  driver: string;
  features: string;
  cpu: string;
  robustness: string;
  timer: string;
  settings: string;
  version: string;
  commit: string;
  grid: string;
  date: string;
}

/** @throws BenchFileError for a file of something else. */
export async function readBenchFile(path: string): Promise<BenchFile> {
  const refuse = (why: string): BenchFileError =>
    new BenchFileError(`${path} ${why}; give files that \`npm run bench -- --json FILE\` wrote.`, {
      file: path,
    });
  const { size } = await stat(path);
  if (size > LARGEST_BYTES) throw refuse(`has ${size} bytes, no bench writes as much`);
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) throw refuse(`is not JSON (${error.message})`);
    throw error;
  }
  if (!isRecord(json)) throw refuse('holds no JSON object');
  if (!isRecord(json.provenance)) throw refuse('has no "provenance" object');
  const conditions = conditionsOf(json.provenance);
  const partial = isRecord(json.kept);
  const parts = isRecord(json.kept) ? outcomes(json.kept) : [json];
  const results: Row[] = [];
  const summary = new Map<string, number>();
  const skipped: { suite: string; case: string; reason: string }[] = [];
  for (const part of parts) {
    if (!Array.isArray(part.results)) throw refuse('has no list of "results"');
    for (const [i, row] of part.results.entries()) {
      if (!isRow(row)) throw refuse(`has a result (${i}) without the texts "suite" and "case"`);
      results.push(clean(row));
    }
    if (!isRecord(part.summary)) throw refuse('has no "summary" object');
    for (const [name, value] of Object.entries(part.summary)) {
      // JSON has no NaN: a figure that came out as none is null.
      if (value === null) continue;
      if (typeof value !== 'number') throw refuse(`has a summary figure "${name}" that is no number`);
      summary.set(name, value);
    }
    if (Array.isArray(part.skipped)) skipped.push(...part.skipped.filter(isRecord).map(skippedOf));
  }
  return { path, conditions, partial, results, summary, skipped };
}

/** Of a file of partial results: what whole suites gave, each under its name; single cases have a slash in theirs. */
function outcomes(kept: Record<string, unknown>): Record<string, unknown>[] {
  return Object.entries(kept).flatMap(([key, value]) =>
    !key.includes('/') && isRecord(value) ? [value] : [],
  );
}

function conditionsOf(provenance: Record<string, unknown>): Conditions {
  const text = (name: string): string => words(provenance[name]);
  const { robustness, driver, features, commit, dirty, quick, full } = provenance;
  return {
    adapter: text('adapter'),
    device: text('device'),
    driver: words(isRecord(driver) ? (driver.description ?? driver.vendor) : driver),
    features: Array.isArray(features) ? features.map(words).join(', ') : 'unknown',
    cpu: text('cpu'),
    robustness: typeof robustness === 'boolean' ? (robustness ? 'on' : 'off') : 'unknown',
    timer: text('timer'),
    settings: settingsOf(provenance.settings, provenance.storage),
    version: text('version'),
    commit: `${words(commit).slice(0, 12)}${dirty === true ? ' with changes' : ''}`,
    grid: quick === true ? 'quick' : full === true ? 'full' : 'default',
    date: text('date'),
  };
}

/** `storage` counts where it was asked for: else it is what the version does by itself, as in files that are older. */
function settingsOf(settings: unknown, storage: unknown): string {
  if (!isRecord(settings)) return 'unknown';
  const each = Object.entries(settings).map(([name, value]) => `${name}=${words(value)}`);
  if (storage !== undefined && storage !== 'auto') each.push(`storage=${words(storage)}`);
  return each.length > 0 ? words(each.join(' ')) : 'none';
}

function skippedOf(entry: Record<string, unknown>): { suite: string; case: string; reason: string } {
  return { suite: words(entry.suite), case: words(entry.case), reason: words(entry.reason) };
}

/** Texts go into labels, tables and file names: one line of bounded length, without what XML or a reader stumbles on. */
function words(value: unknown): string {
  if (typeof value !== 'string' && typeof value !== 'number') return 'unknown';
  const text = String(value).replace(UNWANTED, ' ').trim();
  return text === '' ? 'unknown' : text.slice(0, 200);
}

/** Controls, line ends, marks that turn the direction of text, and what is no character. */
const UNWANTED = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Noncharacter_Code_Point}\p{Cs}]+/gu;

function clean(row: Row): Row {
  return Object.fromEntries(
    Object.entries(row).map(([name, field]) => [name, typeof field === 'string' ? words(field) : field]),
  ) as Row;
}

function isRow(value: unknown): value is Row {
  return isRecord(value) && typeof value.suite === 'string' && typeof value.case === 'string';
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
