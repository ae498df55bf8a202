import { stringify } from 'csv-stringify/sync';
import type { Report } from './report.js';

/** Columns that every row carries, so that rows of several files can be put together. */
const CONDITIONS = [
  'adapter',
  'device',
  'robustness',
  'timer',
  'version',
  'commit',
  'quick',
  'full',
  'date',
] as const;

type Cell = string | number | boolean | null;

/** One row a result and one a skipped case; statistics become columns such as `deviceMs.median`. */
export function toCsv({ provenance, results, skipped }: Report): string {
  const conditions = Object.fromEntries(CONDITIONS.map((name) => [name, provenance[name]]));
  const rows: Record<string, Cell>[] = [
    ...results.map((result) => flatten(result)),
    ...skipped.map(({ suite, case: name, reason }) => ({ suite, case: name, skipped: reason })),
  ];
  const columns = [...new Set([...rows.flatMap((row) => Object.keys(row)), ...CONDITIONS])];
  return stringify(
    rows.map((row) => ({ ...row, ...conditions })),
    // A spreadsheet would take a cell that begins with = or @ for a formula; booleans are empty or 1 by default.
    { header: true, columns, escape_formulas: true, cast: { boolean: String } },
  );
}

/** Nested objects as dotted columns, lists joined by blanks. */
function flatten(value: object, prefix = ''): Record<string, Cell> {
  const cells: Record<string, Cell> = {};
  for (const [name, field] of Object.entries(value)) {
    if (Array.isArray(field)) cells[prefix + name] = field.join(' ');
    else if (typeof field === 'object' && field !== null)
      Object.assign(cells, flatten(field, `${prefix}${name}.`));
    else cells[prefix + name] = field as Cell;
  }
  return cells;
}
