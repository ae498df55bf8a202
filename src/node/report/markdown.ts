import { basename } from 'node:path';
import type { Source } from './chart-parts.js';
import { figureOf, short } from './figure.js';
import type { Merged } from './merge.js';
import type { BenchFile, Row } from './read.js';

/** A chart's file beside the report, and what to say where it is not shown. */
export interface Picture {
  /** Pictures of a kind show the same for other shapes. */
  kind: string;
  file: string;
  alt: string;
}

export interface Section extends Source {
  pictures: readonly Picture[];
  skipped: BenchFile['skipped'];
  partial: boolean;
}

const SHOWN = 4;

const READING = `A figure is a median. In charts and in brackets: the 95 % confidence interval of the median (less sure than
95 % below six repeats), or p10 to p90 in files written before there was one. Ratios are medians of pairs measured side
by side. How to read each suite: bench/README.md.`;

export function reportOf(files: readonly BenchFile[], sections: readonly Section[]): string {
  return join(['# pairslab bench report', READING, conditionsTable(files), ...sections.map(sectionOf)]);
}

export function mergedReportOf(
  files: readonly BenchFile[],
  merged: Merged,
  pictures: readonly Picture[],
): string {
  const hosts = merged.hosts.map(({ label }) => label);
  const rows = merged.figures.map(({ name, n, mean, sd, min, max, values }) => [
    code(name),
    String(n),
    short(mean),
    sd === null ? '–' : short(sd),
    short(min),
    short(max),
    ...values.map((value) => (value === null ? '–' : short(value))),
  ]);
  return join([
    '# pairslab bench report, hosts merged',
    READING,
    conditionsTable(files, (file) => merged.hostOf(file)),
    ...merged.warnings.map((warning) => `**Note:** ${plain(warning)}`),
    ...gallery(pictures),
    '## Summary',
    'n counts hosts; mean, standard deviation (sd), least and largest are over hosts, and a host with several files has the mean of them.',
    tableOf(['figure', 'n', 'mean', 'sd', 'min', 'max', ...hosts.map(plain)], rows),
  ]);
}

function sectionOf({ label, pictures, summary, results, skipped, partial }: Section): string {
  const suites = [...new Set(results.map(({ suite }) => suite))];
  return join([
    `## ${plain(label)}`,
    ...(partial ? ['**Note:** the run was interrupted; only suites that it completed are here.'] : []),
    ...gallery(pictures),
    '### Summary',
    tableOf(
      ['figure', 'value'],
      [...summary].map(([name, value]) => [code(name), short(value)]),
    ),
    ...suites.map((suite) =>
      resultsOf(
        suite,
        results.filter((row) => row.suite === suite),
      ),
    ),
    ...(skipped.length > 0
      ? [
          '### Not measured',
          tableOf(
            ['suite', 'case', 'reason'],
            skipped.map((entry) => [entry.suite, entry.case, entry.reason].map(plain)),
          ),
        ]
      : []),
  ]);
}

/** All rows of a suite: fields that are the same in every row above the table, the others as its columns. */
function resultsOf(suite: string, rows: readonly Row[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter(
    (name) => name !== 'suite' && name !== 'case' && rows.some((row) => cellOf(row[name]) !== ''),
  );
  const constant = (name: string): boolean =>
    rows.length > 1 && rows.every((row) => cellOf(row[name]) === cellOf(rows[0][name]));
  const fixed = names.filter(constant).map((name) => `${name} ${cellOf(rows[0][name])}`);
  const columns = names.filter((name) => !constant(name));
  return join([
    `<details><summary>${plain(suite)}: ${rows.length} results</summary>`,
    ...(fixed.length > 0 ? [`In every row: ${plain(fixed.join(', '))}.`] : []),
    tableOf(
      ['case', ...columns.map(plain)],
      rows.map((row) => [row.case, ...columns.map((name) => cellOf(row[name]))].map(plain)),
    ),
    '</details>',
  ]);
}

function cellOf(field: unknown): string {
  if (typeof field === 'string') return field;
  if (typeof field === 'boolean') return field ? 'yes' : 'no';
  if (Array.isArray(field)) return field.every(Number.isFinite) ? field.map(short).join(' ') : '';
  const figure = figureOf(field);
  if (!figure) return '';
  const { value, low, high } = figure;
  if (typeof field === 'number') return Number.isInteger(value) ? String(value) : short(value);
  return `${short(value)} [${short(low)}, ${short(high)}]`;
}

const CONDITIONS = [
  'adapter',
  'device',
  'driver',
  'cpu',
  'robustness',
  'timer',
  'settings',
  'version',
  'commit',
  'grid',
  'date',
] as const;

function conditionsTable(files: readonly BenchFile[], hostOf?: (file: BenchFile) => string): string {
  const common = (name: (typeof CONDITIONS)[number]): boolean =>
    files.length > 1 && files.every(({ conditions }) => conditions[name] === files[0].conditions[name]);
  const own = CONDITIONS.filter((name) => !common(name));
  const all = CONDITIONS.filter(common).map((name) => `${name} ${files[0].conditions[name]}`);
  const bases = files.map(({ path }) => basename(path));
  const rows = files.map((file, i) => [
    // As short as tells it apart.
    bases.indexOf(bases[i]) === bases.lastIndexOf(bases[i]) ? bases[i] : file.path,
    ...(hostOf ? [hostOf(file)] : []),
    ...own.map((name) => file.conditions[name]),
  ]);
  const head = ['file', ...(hostOf ? ['host'] : []), ...own];
  return join([
    ...(all.length > 0 ? [`In every file: ${plain(all.join('; '))}.`] : []),
    tableOf(
      head,
      rows.map((row) => row.map(plain)),
    ),
  ]);
}

/** Cells come escaped. */
function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** Of each kind the first are shown, the others folded: a full run has hundreds. */
function gallery(pictures: readonly Picture[]): string[] {
  return [...new Set(pictures.map(({ kind }) => kind))].flatMap((kind) => {
    const images = pictures.filter((picture) => picture.kind === kind).map(imageOf);
    const rest = images.slice(SHOWN);
    return [
      ...images.slice(0, SHOWN),
      ...(rest.length > 0
        ? [`<details><summary>${rest.length} more of ${plain(kind)}</summary>`, ...rest, '</details>']
        : []),
    ];
  });
}

function imageOf({ file, alt }: Picture): string {
  return `![${plain(alt)}](${file})`;
}

function code(text: string): string {
  return `\`${text.replace(/[`|\s]+/g, ' ')}\``;
}

/** What others wrote is shown as it is, never as markup. */
function plain(text: string): string {
  return text
    .replace(/\s+/g, ' ')
    .replace(/[\\|[\]*`!~]/g, '\\$&')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
}

function join(parts: readonly string[]): string {
  return parts.join('\n\n');
}
