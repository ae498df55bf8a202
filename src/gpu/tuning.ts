import type { StoredDtype } from './stored-dtype.js';
import type { RowStorage } from './storage.js';

/** What a variant was timed for. */
export interface TunedFor {
  /** The kernel's name. */
  readonly kernel: string;
  readonly dtype: StoredDtype;
  readonly batched: boolean;
  /** Values of a row. */
  readonly cols: number;
  /** What rows are read from. Default buffer. */
  readonly storage?: RowStorage;
}

/** One result of tuning: the fastest of a kernel's variants. */
export interface TunedEntry extends TunedFor {
  readonly variant: Readonly<Record<string, string | number>>;
}

/** An entry with what it was measured against. */
export interface MeasuredEntry extends TunedEntry {
  /** What runs without a tuning. */
  readonly default: TunedEntry['variant'];
  /** The default's time over the variant's. */
  readonly speedup: number;
}

/**
 * Milliseconds per gigabyte at shares of a layer's rows, shares ascending: between two points on a straight line, beyond
 * the ends as at the end.
 */
export type Rates = readonly (readonly [share: number, rate: number])[];

/** What it costs to multiply with rows, by how they are reached. */
export interface ReadCosts {
  /** A step's dispatches together, in milliseconds, when there is hardly a row to read. */
  readonly launch: number;
  readonly dense: Rates;
  /** Rows of a list, here and there, that no step before has just read. */
  readonly indexed: Rates;
  /** The same for rows that the step before has read, and that a cache may still hold. */
  readonly again: Rates;
  readonly packed: Rates;
}

/** What it costs to write rows to a slab: the dispatch in milliseconds, and bytes written. */
export interface CopyCosts {
  readonly launch: number;
  readonly rates: Rates;
}

/** What a step's parts cost on one adapter, for rows like those they were measured on. Milliseconds of device time. */
export interface Costs {
  readonly dtype: StoredDtype;
  /** What they were measured on: bytes of a row, all fields together, and rows. */
  readonly rowBytes: number;
  readonly rows: number;
  /**
   * What the rows were read from where they are not packed, and copied from; packed ones are in a slab's buffers always.
   * Default buffer.
   */
  readonly storage?: RowStorage;
  /** A submit that is waited for, wall time: what a mask costs that has to come to the CPU. */
  readonly wait: number;
  /** For one token, and for a tile of eight. */
  readonly read: ReadCosts;
  readonly readBatched: ReadCosts;
  /** The moves of a plan. */
  readonly move: CopyCosts;
  /** A gather by ids. */
  readonly select: CopyCosts;
}

/** What was found out about a device. */
export interface Tuning {
  readonly entries: readonly TunedEntry[];
  /** What the parts of a step cost, by dtype and shape; see mlp/cost-model. */
  readonly costs?: readonly Costs[];
}

/** null: the defaults, by choice. */
const tunings = new WeakMap<GPUDevice, Tuning | null>();

/** From now on kernels made for `device` take these variants; `null` returns to the defaults. */
export function setTuning(device: GPUDevice, tuning: Tuning | null): void {
  tunings.set(device, tuning);
}

/** Whether anybody chose for `device`: a tuning, or none. */
export function tuningSettled(device: GPUDevice): boolean {
  return tunings.has(device);
}

export function tuningOf(device: GPUDevice): Tuning | null {
  return tunings.get(device) ?? null;
}

/**
 * The costs measured on `device` for rows stored as `dtype` in a layer like this one, read from the same storage: of
 * several, the nearest in size.
 */
export function measuredCosts(
  device: GPUDevice,
  dtype: StoredDtype,
  { rowBytes, rows, storage }: Pick<Costs, 'rowBytes' | 'rows' | 'storage'>,
): Costs | undefined {
  const far = (costs: Costs) =>
    Math.abs(Math.log2(costs.rowBytes / rowBytes)) + Math.abs(Math.log2(costs.rows / rows));
  let best: Costs | undefined;
  for (const costs of tuningOf(device)?.costs ?? []) {
    if (costs.dtype !== dtype || !sameStorage(costs.storage, storage)) continue;
    if (!best || far(costs) < far(best)) best = costs;
  }
  return best;
}

/**
 * The tuned one of `variants` for the entry nearest in columns; undefined when nothing was tuned, or what was is not
 * among them (a cache of another version).
 */
export function tuned<V extends object>(
  device: GPUDevice,
  wanted: TunedFor,
  variants: readonly V[],
): V | undefined {
  let best: TunedEntry | undefined;
  const far = (entry: TunedEntry) => Math.abs(Math.log2(entry.cols / wanted.cols));
  for (const entry of tunings.get(device)?.entries ?? []) {
    if (entry.kernel !== wanted.kernel || entry.dtype !== wanted.dtype || entry.batched !== wanted.batched)
      continue;
    if (!sameStorage(entry.storage, wanted.storage)) continue;
    if (!best || far(entry) < far(best)) best = entry;
  }
  const found = best?.variant as Readonly<Record<string, unknown>> | undefined;
  return found && variants.find((variant) => same(variant as Readonly<Record<string, unknown>>, found));
}

const sameStorage = (a: RowStorage = 'buffer', b: RowStorage = 'buffer'): boolean => a === b;

function same(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
