import uPlot from 'uplot';
import { type Figures, formatBytes } from './figures.js';

/** Tokens that are shown. */
const SHOWN = 192;

interface Line {
  label: string;
  /** A colour of the page: a custom property. */
  colour: string;
  value(figures: Figures): number | null;
}

interface ChartKind {
  id: string;
  title: string;
  lines: readonly Line[];
  /** What the last figures are, in words. */
  say(figures: Figures): string;
  /** A value on the axis. */
  axis(value: number): string;
  /** The range, where it is not that of the values. */
  range?: [number, number];
}

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
const NONE = 'none here';

const KINDS: readonly ChartKind[] = [
  {
    id: 'rate',
    title: 'Tokens a second',
    lines: [{ label: 'tokens/s', colour: '--line-1', value: (f) => f.tokensPerSecond }],
    say: (f) => f.tokensPerSecond.toFixed(1),
    axis: (v) => v.toFixed(0),
  },
  {
    id: 'active',
    title: 'Active rows, mean of the layers',
    lines: [{ label: 'rows', colour: '--line-1', value: (f) => f.activeRows }],
    say: (f) => (f.activeRows === null ? 'all' : f.activeRows.toFixed(0)),
    axis: (v) => v.toFixed(0),
  },
  {
    id: 'writes',
    title: 'Rows written, of those active',
    lines: [{ label: 'writes/m', colour: '--line-1', value: (f) => f.writesPerRow }],
    say: (f) => (f.writesPerRow === null ? NONE : f.writesPerRow.toFixed(2)),
    axis: (v) => v.toFixed(1),
    range: [0, 1.05],
  },
  {
    id: 'hits',
    title: 'Active rows found in the slab',
    lines: [{ label: 'hit rate', colour: '--line-1', value: (f) => f.hitRate }],
    say: (f) => (f.hitRate === null ? NONE : percent(f.hitRate)),
    axis: percent,
    range: [0, 1.02],
  },
  {
    id: 'bytes',
    title: 'Bytes written a token',
    lines: [
      { label: 'a full gather', colour: '--line-3', value: (f) => f.bytes?.gather ?? null },
      { label: 'the minimum', colour: '--line-2', value: (f) => f.bytes?.minimum ?? null },
      { label: 'written', colour: '--line-1', value: (f) => f.bytes?.written ?? null },
    ],
    say: (f) => (f.bytes === null ? NONE : formatBytes(f.bytes.written)),
    axis: formatBytes,
  },
];

interface Chart {
  kind: ChartKind;
  plot: uPlot;
  holder: HTMLElement;
  /** Where the last figure stands, and those of each line where they are several. */
  now: HTMLElement;
  values: readonly HTMLElement[];
}

/** Live charts over the last tokens, each with its figure in words. */
export class Charts {
  private readonly charts: Chart[];
  private readonly shown: { at: number; figures: Figures }[] = [];
  private tokens = 0;

  /** Makes a `figure` for each chart in `parent`. */
  constructor(parent: HTMLElement) {
    this.charts = KINDS.map((kind) => makeChart(kind, parent));
    const resize = new ResizeObserver(() => {
      for (const { plot, holder } of this.charts) plot.setSize(sizeOf(holder));
    });
    resize.observe(parent);
    // Colours are looked up at each drawing.
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
  }

  /** Takes in the figures of a token; `draw` shows them. */
  add(figures: Figures): void {
    this.shown.push({ at: ++this.tokens, figures });
    if (this.shown.length > SHOWN) this.shown.shift();
  }

  clear(): void {
    this.shown.length = 0;
    this.tokens = 0;
    this.draw();
  }

  draw(): void {
    const last = this.shown.at(-1)?.figures;
    const x = this.shown.map(({ at }) => at);
    for (const { kind, plot, now, holder, values } of this.charts) {
      plot.setData([x, ...kind.lines.map(({ value }) => this.shown.map(({ figures }) => value(figures)))]);
      now.textContent = last ? kind.say(last) : '–';
      for (const [i, value] of values.entries()) {
        const figure = last && kind.lines[i].value(last);
        value.textContent = typeof figure === 'number' ? kind.axis(figure) : '';
      }
      holder.setAttribute('aria-label', `${kind.title}: ${last ? kind.say(last) : 'nothing yet'}`);
    }
  }
}

function makeChart(kind: ChartKind, parent: HTMLElement): Chart {
  const figure = document.createElement('figure');
  figure.id = `chart-${kind.id}`;
  const caption = document.createElement('figcaption');
  const title = document.createElement('span');
  title.textContent = kind.title;
  const now = document.createElement('output');
  now.textContent = '–';
  caption.append(title, now);
  const holder = document.createElement('div');
  holder.className = 'plot';
  holder.setAttribute('role', 'img');
  holder.setAttribute('aria-label', `${kind.title}: nothing yet`);
  figure.append(caption, holder);
  const values = kind.lines.length > 1 ? addKey(figure, kind.lines) : [];
  parent.append(figure);
  const axis = {
    stroke: () => colour('--soft'),
    grid: { stroke: () => colour('--grid'), width: 1 },
    ticks: { show: false },
  };
  const plot = new uPlot(
    {
      ...sizeOf(holder),
      legend: { show: false },
      cursor: { show: false },
      padding: [6, 8, 0, 0],
      scales: {
        x: { time: false },
        y: { range: (_, __, most) => kind.range ?? [0, Math.max(most ?? 0, 1e-9) * 1.15] },
      },
      axes: [
        { ...axis, size: 22, font: '11px system-ui', grid: { show: false } },
        { ...axis, size: 52, font: '11px system-ui', values: (_, values) => values.map(kind.axis) },
      ],
      series: [
        {},
        ...kind.lines.map(({ label, colour: name }) => ({
          label,
          stroke: () => colour(name),
          width: 1.5,
          points: { show: false },
        })),
      ],
    },
    [[], ...kind.lines.map(() => [])],
    holder,
  );
  return { kind, plot, holder, now, values };
}

/** What the lines are. @returns where the last figure of each goes. */
function addKey(figure: HTMLElement, lines: readonly Line[]): HTMLElement[] {
  const key = document.createElement('ul');
  key.className = 'key';
  const values = lines.map(({ label, colour: name }) => {
    const item = document.createElement('li');
    const swatch = document.createElement('i');
    swatch.style.background = `var(${name})`;
    const value = document.createElement('b');
    item.append(swatch, `${label} `, value);
    key.append(item);
    return value;
  });
  figure.append(key);
  return values;
}

const sizeOf = (holder: HTMLElement) => ({ width: Math.max(120, holder.clientWidth), height: 92 });

const colour = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();
