import { execFileSync } from 'node:child_process';
import { renameSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { traitsOf } from '../../src/gpu/traits.js';
import type { NodeDevice } from '../../src/node/device.js';
import { version } from '../../package.json';

/** One measured case: what it was, and its figures. */
export interface Result {
  suite: string;
  case: string;
  [key: string]: unknown;
}

/** What a suite gives back. `summary` is flat: name → number. */
export interface SuiteOutcome {
  results: Result[];
  summary: Record<string, number>;
}

/** What every suite runs on. */
export interface BenchContext {
  gpu: NodeDevice;
  robustness: boolean;
  quick: boolean;
  log(line: string): void;
}

export function provenance(
  context: BenchContext,
  timer: string,
  suites: readonly string[],
): Record<string, unknown> {
  const { adapter, device } = context.gpu;
  return {
    date: new Date().toISOString(),
    version,
    commit: git('rev-parse', 'HEAD'),
    dirty: git('status', '--porcelain') !== '',
    suites,
    adapter: adapter.name,
    device: adapter.deviceName,
    driver: adapter.info,
    features: [...device.features].sort(),
    traits: traitsOf(device),
    robustness: context.robustness,
    timer,
    quick: context.quick,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`,
  };
}

function git(...args: string[]): string | null {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}

/** Writes the file whole or not at all. */
export function writeReport(file: string, report: unknown): void {
  const partial = `${file}.${process.pid}`;
  writeFileSync(partial, `${JSON.stringify(report, null, 2)}\n`);
  renameSync(partial, file);
}
