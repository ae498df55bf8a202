import { barChart, byKey, isNumber, type NamedChart, ofSuite, type Source } from './chart-parts.js';
import { figureOf, perSecond } from './figure.js';

/** Formulations of a ceiling that are shown: only the fastest is one. */
const SHOWN = 8;

/** What the memory gives at most. */
export function ceilingCharts(sources: readonly Source[]): NamedChart[] {
  const bars = ofSuite(sources, 'ceilings').flatMap(({ source, row }) => {
    const figure = figureOf(row.gbps);
    return figure ? [{ source, row, bar: { ...figure, group: row.case.split(' ')[0], name: row.case } }] : [];
  });
  const fastest = byKey(bars, ({ source, bar }) => `${source.label} ${bar.group}`).flatMap(([, some]) =>
    [...some].sort((a, b) => b.bar.value - a.bar.value).slice(0, SHOWN),
  );
  const title = `Memory ceilings: the fastest ${SHOWN} ways of each`;
  return barChart('ceilings', '', title, '', 'GB/s', fastest);
}

/** Tokens a second of every suite that generates text. */
export function tokenCharts(sources: readonly Source[]): NamedChart[] {
  const all = sources.flatMap((source) =>
    source.results.filter((row) => isNumber(row.tokensPerSecond)).map((row) => ({ source, row })),
  );
  return byKey(all, ({ row }) => row.suite).flatMap(([suite, entries]) => {
    const bars = entries.flatMap(({ source, row }) => {
      const value = row.tokensPerSecond as number;
      const perToken = figureOf(row.msPerToken);
      const { low, high } = perToken ? perSecond(perToken) : { low: value, high: value };
      const group = typeof row.strategy === 'string' ? row.strategy : row.case;
      return [{ source, row, bar: { value, low, high, group, name: row.case } }];
    });
    return barChart(`${suite}-tokens`, '', `${suite}: tokens a second`, '', 'tokens/s', bars);
  });
}
