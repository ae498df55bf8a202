import type { BarChart, Chart, Heading, LineChart } from './draw.js';
import type { Figure } from './figure.js';
import type { Conditions, Row } from './read.js';

/** What one section of a report draws from: a file, or all files of a host. */
export interface Source {
  /** Told apart by this where several hosts share a chart. */
  label: string;
  conditions: Conditions;
  results: readonly Row[];
  summary: ReadonlyMap<string, number>;
}

export interface NamedChart {
  /** Charts of a kind show the same for other shapes. */
  kind: string;
  /** Tells it apart from the others of its kind. */
  name: string;
  chart: Chart;
}

export interface Entry {
  source: Source;
  row: Row;
}

export function lineChart(
  kind: string,
  name: string,
  { title, subtitle }: Heading,
  x: string,
  values: readonly number[],
  lines: LineChart['lines'],
): NamedChart[] {
  // A log axis has no place for what is not positive; a line of nothing has none in the legend.
  const drawable = lines
    .map((line) => ({ ...line, points: line.points.map((point) => (point && point.low > 0 ? point : null)) }))
    .filter(({ points }) => points.some((point) => point !== null));
  if (drawable.length === 0) return [];
  const reference = { value: 1, name: 'no gain' };
  return [
    {
      kind,
      name,
      chart: {
        kind: 'lines',
        title,
        subtitle,
        x: { name: x, values },
        y: 'speed-up',
        lines: drawable,
        reference,
      },
    },
  ];
}

export function barChart(
  kind: string,
  name: string,
  title: string,
  shape: string,
  y: string,
  entries: readonly (Entry & { bar: BarChart['bars'][number] })[],
): NamedChart[] {
  if (entries.length === 0) return [];
  const alone = ofOne(entries);
  const bars = entries.map(({ source, bar }) =>
    alone ? bar : { ...bar, group: source.label, name: `${bar.name}, ${source.label}` },
  );
  return [{ kind, name, chart: { kind: 'bars', ...heading(title, shape, entries), y, bars } }];
}

/** Whether one source has all of them: then a chart need not say whose each is. */
export function ofOne(entries: readonly Entry[]): boolean {
  return entries.every(({ source }) => source === entries[0].source);
}

/** Every chart says under which conditions its figures were measured. */
export function heading(title: string, shape: string, entries: readonly Entry[]): Heading {
  const sources = [...new Set(entries.map(({ source }) => source))];
  const each = (of: (source: Source) => string): string => [...new Set(sources.map(of))].join(' / ');
  const dtypes = [
    ...new Set(entries.flatMap(({ row }) => (typeof row.dtype === 'string' ? [row.dtype] : []))),
  ];
  const adapter =
    sources.length === 1
      ? `${sources[0].conditions.adapter} (${sources[0].conditions.device})`
      : `${sources.length} hosts: ${each(({ conditions }) => conditions.adapter)}`;
  const subtitle = [
    brief(adapter, 60),
    brief(dtypes.join(' / '), 40),
    `robustness ${each(({ conditions }) => conditions.robustness)}`,
    `timer ${brief(
      each(({ conditions }) => conditions.timer),
      40,
    )}`,
    ...(sources.some(({ conditions }) => conditions.grid === 'quick') ? ['quick'] : []),
  ];
  const rest = shape
    .split(', ')
    .filter((part) => !part.startsWith('dtype '))
    .join(', ');
  return {
    title,
    subtitle: [subtitle.filter((part) => part !== '').join(' · '), ...(rest ? [brief(rest, 110)] : [])],
  };
}

/** No part of a line may push the others out of the chart. */
export function brief(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

export function ofSuite(sources: readonly Source[], suite: string): Entry[] {
  return sources.flatMap((source) =>
    source.results.filter((row) => row.suite === suite).map((row) => ({ source, row })),
  );
}

/** What a chart holds fixed, in words; fields that are absent are left out. */
export function shapeOf(row: Row, fields: readonly string[]): string {
  return fields
    .filter((name) => isNumber(row[name]) || typeof row[name] === 'string')
    .map((name) => `${NAMES[name] ?? name} ${row[name]}`.trim())
    .join(', ');
}

/** Names of fields as a reader knows them; a shape's own name needs none. */
const NAMES: Readonly<Record<string, string>> = { shape: '', n: 'N', writesPerM: 'writes/m' };

/** In the order in which the keys come up. */
export function byKey<T>(items: readonly T[], keyOf: (item: T) => string): [string, T[]][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return [...groups];
}

export function sorted(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

export function percent({ value, low, high }: Figure): Figure {
  return { value: 100 * value, low: 100 * low, high: 100 * high };
}

export function words(value: unknown): string {
  return typeof value === 'string' || isNumber(value) ? String(value) : 'unknown';
}

export function isNumber(value: unknown): value is number {
  return Number.isFinite(value);
}
