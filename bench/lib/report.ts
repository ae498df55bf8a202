import { execFileSync } from 'node:child_process';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import type { StorageChoice } from '../../src/gpu/storage.js';
import { traitsOf } from '../../src/gpu/traits.js';
import type { NodeDevice } from '../../src/node/device.js';
import { version } from '../../package.json';

/** One measured case: what it was, and its figures. */
export interface Result {
  suite: string;
  case: string;
  [key: string]: unknown;
}

/** A case of the grid that was not measured, and why. */
export interface Skipped {
  case: string;
  reason: string;
}

/** What a suite gives back. `summary` is flat: name → number. */
export interface SuiteOutcome {
  results: Result[];
  summary: Record<string, number>;
  skipped?: Skipped[];
}

export type Suite = (context: BenchContext) => Promise<SuiteOutcome>;

/** What a suite runs on. */
export interface BenchContext<Gpu = NodeDevice> {
  readonly gpu: Gpu;
  readonly robustness: boolean;
  /** Fewer steps and repeats: all default suites together in under a minute. */
  readonly quick: boolean;
  /** The whole grid; without it, the part that the summary needs. */
  readonly full: boolean;
  /** What layers read their rows from, where a case is not about one of the two; see lib/storage.ts. */
  readonly storage: StorageChoice;
  log(line: string): void;
  /** Says on stderr how far the suite is; call it before every case. */
  progress(done: number, total: number, label: string): void;
  /**
   * Runs one case and keeps its result under the suite and `key`; a resumed bench gives back what was kept without
   * running. What comes back has been through JSON either way (undefined is gone, NaN is null), so that a suite sees
   * the same after a resume. A key serves once in a run and names all that the case depends on, flags apart.
   */
  measured<T>(key: string, run: () => Promise<T>): Promise<T>;
}

/** For suites that ask no more of where they run than a device: they run in a page too. */
export type DeviceContext = BenchContext<Pick<NodeDevice, 'device'>>;

/** Under which conditions a file's figures were measured. */
export interface Provenance {
  date: string;
  version: string;
  commit: string | null;
  dirty: boolean;
  suites: readonly string[];
  adapter: string;
  device: string;
  driver: unknown;
  features: readonly string[];
  traits: unknown;
  robustness: boolean;
  timer: string;
  /** Settings of the environment that change what is measured. */
  settings: Readonly<Record<string, string>>;
  quick: boolean;
  full: boolean;
  /** `--storage`; files that are older lack it and were measured with buffers. */
  storage?: StorageChoice;
  node: string;
  platform: string;
  cpu: string;
}

/** A bench's whole file. */
export interface Report {
  provenance: Provenance;
  results: Result[];
  summary: Record<string, number>;
  skipped: (Skipped & { suite: string })[];
}

export interface Conditions {
  gpu: NodeDevice;
  robustness: boolean;
  quick: boolean;
  full: boolean;
  storage?: StorageChoice;
  timer: string;
  suites: readonly string[];
}

export function provenance(conditions: Conditions): Provenance {
  const { gpu, robustness, quick, full, storage, timer, suites } = conditions;
  const { adapter, device } = gpu;
  return {
    date: new Date().toISOString(),
    version,
    ...source(),
    suites,
    adapter: adapter.name,
    device: adapter.deviceName,
    driver: adapter.info,
    features: [...device.features].sort(),
    traits: traitsOf(device),
    robustness,
    timer,
    settings: settings(),
    quick,
    full,
    storage,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`,
  };
}

function settings(): Record<string, string> {
  const own = ([name, value]: [string, string | undefined]): boolean =>
    name.startsWith('PAIRSLAB_') && name !== 'PAIRSLAB_ADAPTER' && value !== undefined;
  return Object.fromEntries(Object.entries(process.env).filter(own).sort()) as Record<string, string>;
}

/** Set by the build: a packed checkout on another host has no git to ask, and it is the built code that runs. */
declare const PAIRSLAB_SOURCE: { commit: string | null; dirty: boolean };

/** The commit that the running code was built from. */
function source(): { commit: string | null; dirty: boolean } {
  if (typeof PAIRSLAB_SOURCE !== 'undefined') return PAIRSLAB_SOURCE;
  return { commit: git('rev-parse', 'HEAD'), dirty: Boolean(git('status', '--porcelain')) };
}

function git(...args: string[]): string | null {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}

/** Writes the file whole or not at all. */
export function writeWhole(file: string, text: string): void {
  const partial = `${file}.${process.pid}`;
  try {
    writeFileSync(partial, text);
    renameSync(partial, file);
  } finally {
    rmSync(partial, { force: true });
  }
}

export function writeReport(file: string, report: Report): void {
  writeWhole(file, `${JSON.stringify(report, null, 2)}\n`);
}
