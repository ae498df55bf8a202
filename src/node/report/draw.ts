import type { EChartsOption } from 'echarts';
import { PairslabError } from '../../errors.js';
import type { Figure } from './figure.js';
import { short } from './figure.js';

/** A package that only this command needs is not installed. */
export class MissingPackageError extends PairslabError {
  override name: string = 'MissingPackageError';
}

export interface Heading {
  title: string;
  /** Lines: under what conditions (adapter, dtype, robustness, timer), and what the chart holds fixed. */
  subtitle: readonly string[];
}

/** Figures over a few measured values of x, one line for each arm. */
export interface LineChart extends Heading {
  kind: 'lines';
  x: { name: string; values: readonly (number | string)[] };
  y: string;
  /** Lines of a group share a colour and differ in their dashes. */
  lines: readonly { name: string; group: string; points: readonly (Figure | null)[] }[];
  /** Where nothing is gained. */
  reference?: { value: number; name: string };
}

/** One bar a case; those of a group share a colour. */
export interface BarChart extends Heading {
  kind: 'bars';
  y: string;
  bars: readonly (Figure & { name: string; group: string })[];
}

export type Chart = LineChart | BarChart;

/** Colours that tell apart on white and on black; light ones stand in the SVG, dark ones in a style that replaces them. */
const PALETTE = ['#7d8590', '#3b82c4', '#2e9e6b', '#d97b29', '#a371d0', '#cf5750', '#b8860b', '#2aa1b3'];
/** A strategy has the same colour in every chart. */
const ALWAYS = ['dense', 'indexed', 'repack', 'paired'];
const DASHES = ['solid', 'dashed', 'dotted'] as const;
const INK = { light: '#1f2328', dark: '#e6edf3' };
const MUTED = { light: '#59636e', dark: '#9198a1' };
const GRID = { light: '#d1d9e0', dark: '#3d444d' };
const PAPER = { light: '#ffffff', dark: '#0d1117' };

const WIDTH = 760;
/** The heading's height. */
const topOf = ({ subtitle }: Heading): number => 44 + 15 * subtitle.length;
const LEGEND = { row: 22, gap: 24, mark: 30, letter: 6.6 };

/** The legend's height: names that do not fit beside one another stand in rows. */
function legendOf({ lines }: LineChart): number {
  let [rows, at] = [1, 0];
  for (const { name } of lines) {
    const width = LEGEND.mark + LEGEND.letter * name.length;
    if (at > 0 && at + width > WIDTH - 32) [rows, at] = [rows + 1, 0];
    at += width + LEGEND.gap;
  }
  return rows * LEGEND.row;
}

export type Drawing = (chart: Chart) => string;

/** Loads the chart library. @throws MissingPackageError when it is not installed. */
export async function openDrawing(): Promise<Drawing> {
  let echarts: typeof import('echarts');
  try {
    echarts = await import('echarts');
  } catch (error) {
    throw new MissingPackageError(
      `charts are drawn by the npm package "echarts", which cannot be loaded (${(error as Error).message.split('\n')[0]}): ` +
        'npm install echarts, or report without charts: --no-charts.',
    );
  }
  return (chart) => {
    const body = chart.kind === 'lines' ? 318 + legendOf(chart) : 60 + 26 * chart.bars.length;
    const height = topOf(chart) + body;
    const canvas = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
    try {
      canvas.setOption({ ...common(chart), ...(chart.kind === 'lines' ? linesOf(chart) : barsOf(chart)) });
      return withDarkMode(canvas.renderToSVGString());
    } finally {
      canvas.dispose();
    }
  };
}

function common({ title, subtitle }: Chart): EChartsOption {
  return {
    animation: false,
    backgroundColor: PAPER.light,
    color: PALETTE,
    textStyle: { color: INK.light, fontFamily: 'system-ui, sans-serif' },
    title: {
      text: title,
      subtext: subtitle.join('\n'),
      left: 16,
      top: 10,
      itemGap: 6,
      textStyle: { color: INK.light, fontSize: 15, fontWeight: 600, width: WIDTH - 32, overflow: 'truncate' },
      subtextStyle: {
        color: MUTED.light,
        fontSize: 11,
        lineHeight: 15,
        width: WIDTH - 32,
        overflow: 'truncate',
      },
    },
  };
}

const axis = {
  nameTextStyle: { color: MUTED.light },
  axisLabel: { color: MUTED.light },
  axisLine: { lineStyle: { color: GRID.light } },
  axisTick: { lineStyle: { color: GRID.light } },
  splitLine: { lineStyle: { color: GRID.light, width: 0.6 } },
} as const;

function linesOf(chart: LineChart): EChartsOption {
  const { x, y, lines, reference } = chart;
  const values = lines.flatMap(({ points }) => points.flatMap((point) => (point ? [point.value] : [])));
  // Speed-ups of 50 and of 1.5 are both read only where equal factors are equal distances.
  const wide = Math.min(...values) > 0 && Math.max(...values) > 8 * Math.min(...values);
  const label = { formatter: (value: number) => String(Number(short(value))) };
  const colorOf = colors(lines.map(({ group }) => group));
  const drawn = new Map<string, number>();
  return {
    grid: { left: 64, right: 24, top: topOf(chart) + 18 + legendOf(chart), bottom: 52 },
    legend: {
      top: topOf(chart),
      left: 16,
      right: 16,
      textStyle: { color: INK.light },
      itemHeight: 8,
      itemGap: LEGEND.gap,
    },
    xAxis: {
      ...axis,
      type: 'category',
      data: x.values.map(String),
      name: x.name,
      nameLocation: 'middle',
      nameGap: 30,
    },
    yAxis: {
      ...axis,
      type: wide ? 'log' : 'value',
      ...(wide ? { logBase: 2 } : { min: 0 }),
      name: y,
      nameLocation: 'middle',
      nameRotate: 90,
      nameGap: 44,
      axisLabel: { ...axis.axisLabel, ...label },
    },
    series: lines.flatMap(({ name, group, points }, i) => {
      const color = colorOf(group);
      const dash = drawn.get(group) ?? 0;
      drawn.set(group, dash + 1);
      return [
        {
          type: 'line' as const,
          name,
          data: points.map((point) => point?.value ?? null),
          symbolSize: 7,
          symbol: 'circle',
          lineStyle: { width: 2, type: DASHES[dash % DASHES.length] },
          color,
          ...(i === 0 && reference ? { markLine: markOf(reference) } : {}),
        },
        spread(
          points.map((point, at) => (point ? [at, point.low, point.high] : [at, Number.NaN, Number.NaN])),
          color,
          'up',
        ),
      ];
    }),
  };
}

function colors(groups: readonly string[]): (group: string) => string {
  const known = [...new Set([...ALWAYS, ...groups])];
  // Where no strategy is shown, its colours are free.
  const used = groups.some((group) => ALWAYS.includes(group)) ? known : known.slice(ALWAYS.length);
  const offset = used === known ? 0 : 1;
  return (group) => PALETTE[(used.indexOf(group) + offset) % PALETTE.length];
}

function markOf({ value, name }: { value: number; name: string }): object {
  return {
    silent: true,
    symbol: 'none',
    lineStyle: { color: MUTED.light, type: 'dashed', width: 1 },
    label: { formatter: name, position: 'insideEndTop', color: MUTED.light },
    data: [{ yAxis: value }],
  };
}

function barsOf(chart: BarChart): EChartsOption {
  const { y, bars } = chart;
  const colorOf = colors(bars.map(({ group }) => group));
  return {
    // Fonts are wider than the library takes them to be, and names end at the axis.
    grid: { left: 48, right: 72, top: topOf(chart) + 6, bottom: 40, containLabel: true },
    xAxis: { ...axis, type: 'value', min: 0, name: y, nameLocation: 'middle', nameGap: 28 },
    yAxis: {
      ...axis,
      type: 'category',
      inverse: true,
      data: bars.map(({ name }) => name),
      axisLabel: { color: INK.light, width: 250, overflow: 'truncate' },
    },
    series: [
      {
        type: 'bar',
        barWidth: 15,
        data: bars.map(({ value, group }) => ({
          value,
          itemStyle: { color: colorOf(group), borderRadius: [0, 3, 3, 0] },
        })),
        // To the right of the spread, not under it.
        label: { show: false },
      },
      spread(
        bars.map(({ low, high }, i) => [i, low, high]),
        INK.light,
        'along',
        bars.map(({ value }) => short(value)),
      ),
    ],
  };
}

/** Whiskers from low to high at each place of the category axis, with a text behind them where there is one. */
function spread(
  data: readonly number[][],
  color: string,
  direction: 'up' | 'along',
  texts: readonly string[] = [],
): object {
  const up = direction === 'up';
  return {
    type: 'custom',
    data,
    silent: true,
    z: 5,
    encode: up ? { x: 0, y: [1, 2] } : { y: 0, x: [1, 2] },
    renderItem: (
      params: { dataIndex: number },
      api: { value(dimension: number): number; coord(point: number[]): number[] },
    ) => {
      const [at, low, high] = [api.value(0), api.value(1), api.value(2)];
      if (!Number.isFinite(low) || !Number.isFinite(high)) return null;
      const [a, b] = up
        ? [api.coord([at, low]), api.coord([at, high])]
        : [api.coord([low, at]), api.coord([high, at])];
      const cap = 3;
      const line = (x1: number, y1: number, x2: number, y2: number): object => ({
        type: 'line',
        shape: { x1, y1, x2, y2 },
        style: { stroke: color, lineWidth: 1.2 },
      });
      const [cx, cy] = up ? [cap, 0] : [0, cap];
      const text = texts[params.dataIndex];
      return {
        type: 'group',
        children: [
          ...(low === high
            ? []
            : [
                line(a[0], a[1], b[0], b[1]),
                line(a[0] - cx, a[1] - cy, a[0] + cx, a[1] + cy),
                line(b[0] - cx, b[1] - cy, b[0] + cx, b[1] + cy),
              ]),
          ...(text === undefined
            ? []
            : [
                {
                  type: 'text',
                  style: { text, x: b[0] + 8, y: b[1], fill: color, fontSize: 11, verticalAlign: 'middle' },
                },
              ]),
        ],
      };
    },
  };
}

/**
 * Colours are attributes, which every viewer reads; where the reader prefers dark, a style, which comes before
 * attributes, replaces them.
 */
function withDarkMode(svg: string): string {
  const rules = [INK, MUTED, GRID, PAPER].flatMap(({ light, dark }) => [
    `[fill="${light}"]{fill:${dark}}`,
    `[stroke="${light}"]{stroke:${dark}}`,
  ]);
  const style = `<style>@media (prefers-color-scheme:dark){${rules.join('')}}</style>`;
  const start = svg.indexOf('>') + 1;
  return `${svg.slice(0, start)}${style}${svg.slice(start)}\n`;
}
