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
  words,
} from './chart-parts.js';
import { figureOf } from './figure.js';

const LAYER = ['shape', 'hidden', 'rows', 'dtype'];
const DENSITY = 'density (active of all rows)';

/** Speed-up of each strategy over dense, over the density: the share of rows that are active. */
export function mlpCharts(sources: readonly Source[]): NamedChart[] {
  const all = ofSuite(sources, 'mlp').filter(({ row }) => isNumber(row.density) && row.strategy !== 'dense');
  // With every row active no row changes: such a case belongs to every share of writes.
  const whole = all.filter(({ row }) => row.writesPerM === 0);
  const changing = all.filter(({ row }) => row.writesPerM !== 0);
  const layer = ({ row }: Entry): string => shapeOf(row, [...LAYER, 'reuse']);
  const charts: NamedChart[] = [];
  const single: Entry[] = [];
  for (const [shape, some] of byKey(changing, ({ row }) => shapeOf(row, [...LAYER, 'reuse', 'writesPerM']))) {
    const entries = [...some, ...whole.filter((entry) => layer(entry) === layer(some[0]))];
    const densities = sorted(entries.map(({ row }) => row.density as number));
    if (densities.length === 1) {
      single.push(...entries);
      continue;
    }
    const alone = ofOne(entries);
    const lines = byKey(entries, ({ source, row }) =>
      alone ? words(row.strategy) : `${source.label}: ${words(row.strategy)}`,
    ).map(([name, rows]) => ({
      name,
      group: alone ? name : rows[0].source.label,
      points: densities.map((density) =>
        figureOf(rows.find(({ row }) => row.density === density)?.row.speedupOverDense),
      ),
    }));
    const title = heading('Sparse MLP: speed-up over dense', shape, entries);
    charts.push(...lineChart('mlp-speedup', shape, title, DENSITY, densities, lines));
  }
  for (const [shape, entries] of byKey(single, ({ row }) => shapeOf(row, [...LAYER, 'density']))) {
    const bars = entries.flatMap(({ source, row }) => {
      const figure = figureOf(row.speedupOverDense);
      const name = `${shapeOf(row, ['writesPerM', 'reuse'])} ${words(row.strategy)}`.trim();
      return figure ? [{ source, row, bar: { ...figure, group: words(row.strategy), name } }] : [];
    });
    const title = 'Sparse MLP: speed-up over dense';
    charts.push(...barChart('mlp-speedup', shape, title, shape, 'speed-up', bars));
  }
  return charts;
}

/** Speed-up over dense of a batch that shares one mask, over the batch. */
export function batchCharts(sources: readonly Source[]): NamedChart[] {
  const all = ofSuite(sources, 'batch').filter(({ row }) => isNumber(row.batch) && row.strategy !== 'dense');
  return byKey(all, ({ row }) => shapeOf(row, [...LAYER, 'density'])).flatMap(([shape, entries]) => {
    const alone = ofOne(entries);
    const batches = sorted(entries.map(({ row }) => row.batch as number));
    const lines = byKey(entries, ({ source, row }) =>
      alone ? words(row.strategy) : `${source.label}: ${words(row.strategy)}`,
    ).map(([name, rows]) => ({
      name,
      group: alone ? name : rows[0].source.label,
      points: batches.map((batch) =>
        figureOf(rows.find(({ row }) => row.batch === batch)?.row.speedupOverDense),
      ),
    }));
    const title = heading('Batch with one mask: speed-up over dense', shape, entries);
    return lineChart('batch-speedup', shape, title, 'batch', batches, lines);
  });
}

/** How much of what the memory gives at most is reached: the roofline of kernels that are bound by it. */
export function readFractionCharts(sources: readonly Source[]): NamedChart[] {
  const reads = ofSuite(sources, 'mlp').flatMap(({ source, row }) => {
    const figure = figureOf(row.readFraction);
    // Rows that are read again soon come from a cache, and then the memory's ceiling says nothing.
    const again = (row.reuse ?? 1) !== 1 || ((row.writesPerM ?? 1) !== 1 && row.writesPerM !== 0);
    if (!figure || again) return [];
    const group = words(row.strategy);
    return [
      { source, row, bar: { ...percent(figure), group, name: `density ${words(row.density)} ${group}` } },
    ];
  });
  return byKey(reads, ({ row }) => shapeOf(row, LAYER)).flatMap(([shape, bars]) =>
    barChart(
      'mlp-ceiling',
      shape,
      'Sparse MLP: share of the read ceiling',
      shape,
      '% of the read ceiling',
      bars,
    ),
  );
}
