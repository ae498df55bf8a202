import { copyFractionCharts, sweepCharts, updateCharts } from './charts-update.js';
import { batchCharts, mlpCharts, readFractionCharts } from './charts-mlp.js';
import { ceilingCharts, tokenCharts } from './charts-rates.js';
import type { NamedChart, Source } from './chart-parts.js';

/** Another chart is another line. */
const CHARTS: readonly ((sources: readonly Source[]) => NamedChart[])[] = [
  updateCharts,
  copyFractionCharts,
  sweepCharts,
  mlpCharts,
  readFractionCharts,
  batchCharts,
  ceilingCharts,
  tokenCharts,
];

/**
 * Every chart that the sources have figures for; with several sources, they share each chart. `name` is then a file
 * name without its ending: letters, digits, points and hyphens, and each once.
 */
export function chartsOf(sources: readonly Source[]): NamedChart[] {
  const seen = new Map<string, number>();
  const charts = CHARTS.flatMap((draw) => draw(sources));
  return charts.map(({ kind, name, chart }) => {
    const only = charts.filter((other) => other.kind === kind).length === 1;
    const plain = (only ? kind : `${kind} ${name}`)
      .toLowerCase()
      .replace(/[^a-z0-9.]+/g, '-')
      .replace(/^[-.]+|[-.]+$/g, '')
      .slice(0, 120);
    const count = (seen.get(plain) ?? 0) + 1;
    seen.set(plain, count);
    return { kind, name: count > 1 ? `${plain}-${count}` : plain, chart };
  });
}
