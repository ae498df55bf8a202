import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Source } from '../report/chart-parts.js';
import { chartsOf } from '../report/charts.js';
import { type Drawing, openDrawing } from '../report/draw.js';
import { mergedReportOf, type Picture, reportOf, type Section } from '../report/markdown.js';
import { merge } from '../report/merge.js';
import { type BenchFile, readBenchFile } from '../report/read.js';
import { writeWhole } from '../write-whole.js';

export interface ReportFlags {
  out: string;
  merge?: boolean;
  charts: boolean;
}

/** Reads every file before anything is written. */
export async function runReport(paths: readonly string[], flags: ReportFlags): Promise<void> {
  const files = await Promise.all(paths.map(readBenchFile));
  const draw = flags.charts ? await openDrawing() : null;
  await mkdir(flags.out, { recursive: true });
  const report = flags.merge ? await merged(files, draw, flags.out) : await oneByOne(files, draw, flags.out);
  const file = join(flags.out, 'report.md');
  await writeWhole(file, `${report}\n`);
  process.stdout.write(`${file}\n`);
}

async function merged(files: readonly BenchFile[], draw: Drawing | null, out: string): Promise<string> {
  const all = merge(files);
  return mergedReportOf(files, all, await drawAll(all.hosts, draw, out, ''));
}

async function oneByOne(files: readonly BenchFile[], draw: Drawing | null, out: string): Promise<string> {
  const sections: Section[] = [];
  for (const [i, file] of files.entries()) {
    const { conditions } = file;
    const label = `${basename(file.path)}: ${conditions.adapter} (${conditions.device})`;
    const prefix = files.length > 1 ? `${i + 1}-` : '';
    const pictures = await drawAll([{ ...file, label }], draw, out, prefix);
    sections.push({ ...file, label, pictures });
  }
  return reportOf(files, sections);
}

async function drawAll(
  sources: readonly Source[],
  draw: Drawing | null,
  out: string,
  prefix: string,
): Promise<Picture[]> {
  if (!draw) return [];
  const pictures: Picture[] = [];
  for (const { kind, name, chart } of chartsOf(sources)) {
    const file = `${prefix}${name}.svg`;
    await writeWhole(join(out, file), draw(chart));
    pictures.push({ kind, file, alt: [chart.title, ...chart.subtitle].join('; ') });
  }
  return pictures;
}
