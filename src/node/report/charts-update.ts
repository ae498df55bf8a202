import {
  barChart,
  byKey,
  type Entry,
  heading,
  isNumber,
  lineChart,
  type NamedChart,
  ofOne,
  ofSuite,
  percent,
  shapeOf,
  type Source,
  sorted,
} from './chart-parts.js';
import { type Figure, figureOf } from './figure.js';
import type { Row } from './read.js';

const CHANGED = 'rows that change (k)';
const POOL = ['n', 'm', 'hidden', 'dtype'];
const MEASURES = [
  { field: 'speedupOfPairedOnDevice', name: 'device time' },
  { field: 'speedupOfPairedWall', name: 'wall time' },
];

/** Speed-up of paired over the faster of both repacks, over k. */
export function updateCharts(sources: readonly Source[]): NamedChart[] {
  return byKey(overK(sources, 'update'), ({ row }) => shapeOf(row, POOL)).flatMap(([shape, entries]) => {
    const alone = ofOne(entries);
    const ks = sorted(entries.map(({ row }) => row.k as number));
    const lines = [...new Set(entries.map(({ source }) => source))].flatMap((source) =>
      MEASURES.slice(0, alone ? 2 : 1).flatMap(({ field, name }) =>
        (alone ? [true, false] : [true]).map((gated) => {
          const rows = entries.filter(
            (entry) => entry.source === source && (entry.row.gated ?? true) === gated,
          );
          const own = `${gated ? 'gated' : 'ungated'}, ${name}`;
          const points = speedups(rows, ks, field);
          return { name: alone ? own : source.label, group: alone ? name : source.label, points };
        }),
      ),
    );
    const title = `Update: paired over the fastest repack${alone ? '' : ', gated, device time'}`;
    return lineChart('update-speedup', shape, heading(title, shape, entries), CHANGED, ks, lines);
  });
}

/** The same for large pools: a chart for each pattern of the mask, a line for each N and m. */
export function sweepCharts(sources: readonly Source[]): NamedChart[] {
  return byKey(overK(sources, 'sweep'), ({ row }) => shapeOf(row, ['pattern', 'hidden', 'dtype'])).flatMap(
    ([shape, entries]) => {
      const alone = ofOne(entries);
      const ks = sorted(entries.map(({ row }) => row.k as number));
      const lines = byKey(entries, ({ source, row }) =>
        [...(alone ? [] : [source.label]), shapeOf(row, ['n', 'm'])].join(': '),
      ).map(([name, rows]) => ({
        name,
        group: alone ? shapeOf(rows[0].row, ['n']) : rows[0].source.label,
        points: speedups(rows, ks, MEASURES[0].field),
      }));
      const title = 'Update of large pools: paired over the fastest repack, device time';
      return lineChart('sweep-speedup', shape, heading(title, shape, entries), CHANGED, ks, lines);
    },
  );
}

/** The row copy beside one large copy: what the update is bound by. */
export function copyFractionCharts(sources: readonly Source[]): NamedChart[] {
  const copies = sources.flatMap((source) =>
    [...source.summary].flatMap(([name, value]) => {
      const match = /^update\.(ungated\.)?k(\d+)\.copy_fraction$/.exec(name);
      if (!match) return [];
      const group = match[1] ? 'ungated' : 'gated';
      const bar = { ...percent({ value, low: value, high: value }), group, name: `${group} k=${match[2]}` };
      return [{ source, row: { suite: 'update', case: name, dtype: 'f32' } as Row, bar }];
    }),
  );
  const title = 'Row copy: share of one large copy\u2019s GB/s';
  return barChart('update-ceiling', '', title, '', '% of the copy ceiling', copies);
}

function overK(sources: readonly Source[], suite: string): Entry[] {
  return ofSuite(sources, suite).filter(
    ({ row }) => isNumber(row.k) && typeof row.arm === 'string' && row.arm.startsWith('repack'),
  );
}

/** At each k, against the repack that is least behind. */
function speedups(rows: readonly Entry[], ks: readonly number[], field: string): (Figure | null)[] {
  return ks.map((k) =>
    rows
      .filter(({ row }) => row.k === k)
      .map(({ row }) => figureOf(row[field]))
      .reduce((least, figure) => (figure && (!least || figure.value < least.value) ? figure : least), null),
  );
}
