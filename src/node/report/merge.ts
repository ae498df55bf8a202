import type { Source } from './chart-parts.js';
import type { BenchFile, Conditions, Row } from './read.js';

/** A summary figure over all hosts that have it. */
export interface MergedFigure {
  name: string;
  n: number;
  mean: number;
  /** Of the hosts' values, with n - 1; null for one host. */
  sd: number | null;
  min: number;
  max: number;
  /** In the order of the hosts. */
  values: readonly (number | null)[];
}

export interface Merged {
  hosts: readonly Source[];
  figures: readonly MergedFigure[];
  warnings: readonly string[];
  hostOf(file: BenchFile): string;
}

/** What makes figures comparable: files that agree in these are runs of one host. */
const HOST = [
  'adapter',
  'device',
  'driver',
  'cpu',
  'robustness',
  'settings',
  'grid',
] as const satisfies readonly (keyof Conditions)[];

/** Joins files: those of one host into a source, the hosts' summaries into figures with mean and spread. */
export function merge(files: readonly BenchFile[]): Merged {
  const groups = new Map<string, BenchFile[]>();
  for (const file of files) {
    const key = JSON.stringify(HOST.map((name) => file.conditions[name]));
    groups.set(key, [...(groups.get(key) ?? []), file]);
  }
  const members = [...groups.values()];
  const labels = labelsOf(members.map(([first]) => first.conditions));
  const hosts = members.map((runs, i) => sourceOf(labels[i], runs));
  const names = [...new Set(hosts.flatMap(({ summary }) => [...summary.keys()]))];
  return {
    hosts,
    figures: names.map((name) => figureOver(name, hosts)),
    warnings: (['version', 'commit', 'grid', 'robustness', 'settings'] as const).flatMap((name) => {
      const values = [...new Set(files.map(({ conditions }) => conditions[name]))];
      return values.length > 1 ? [`the files differ in ${name}: ${values.join(', ')}.`] : [];
    }),
    hostOf: (file) => labels[members.findIndex((runs) => runs.includes(file))],
  };
}

/** As short as tells the hosts apart: the adapter, and of the rest what they differ in. */
function labelsOf(conditions: readonly Conditions[]): string[] {
  const parts: ((conditions: Conditions) => string)[] = [
    ({ device }) => device,
    ({ cpu }) => cpu,
    ({ driver }) => driver,
    ({ grid }) => `${grid} grid`,
    ({ robustness }) => `robustness ${robustness}`,
    ({ settings }) => `settings ${settings}`,
  ];
  const telling = parts.filter((part) => new Set(conditions.map(part)).size > 1);
  const label = (host: Conditions, of: typeof parts) =>
    of.length === 0 ? host.adapter : `${host.adapter} (${of.map((part) => part(host)).join(', ')})`;
  for (let most = 0; most <= telling.length; most++) {
    const labels = conditions.map((host) => label(host, telling.slice(0, most)));
    if (new Set(labels).size === labels.length) return labels;
  }
  return conditions.map((host, i) => `${i + 1}: ${label(host, telling)}`);
}

/** A case measured more than once is shown as it was last; a summary figure is the mean of its runs. */
function sourceOf(label: string, runs: readonly BenchFile[]): Source {
  const byDate = [...runs].sort((a, b) => (a.conditions.date < b.conditions.date ? -1 : 1));
  const rows = new Map<string, Row>();
  const values = new Map<string, number[]>();
  for (const { results, summary } of byDate) {
    for (const row of results) rows.set(JSON.stringify([row.suite, row.case]), row);
    for (const [name, value] of summary) values.set(name, [...(values.get(name) ?? []), value]);
  }
  const summary = new Map([...values].map(([name, each]) => [name, meanOf(each)]));
  return { label, conditions: runs[0].conditions, results: [...rows.values()], summary };
}

function figureOver(name: string, hosts: readonly Source[]): MergedFigure {
  const values = hosts.map(({ summary }) => summary.get(name) ?? null);
  const known = values.filter((value) => value !== null);
  const mean = meanOf(known);
  const n = known.length;
  const squares = known.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {
    name,
    n,
    mean,
    sd: n > 1 ? Math.sqrt(squares / (n - 1)) : null,
    min: Math.min(...known),
    max: Math.max(...known),
    values,
  };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
