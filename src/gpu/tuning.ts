import type { StoredDtype } from './layout.js';

/** What a variant was timed for. */
export interface TunedFor {
  /** The kernel's name. */
  readonly kernel: string;
  readonly dtype: StoredDtype;
  readonly batched: boolean;
  /** Values of a row. */
  readonly cols: number;
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

/** Milliseconds per gigabyte of weights, by how rows are reached. */
export interface ReadCosts {
  readonly dense: number;
  readonly indexed: number;
  readonly packed: number;
}

/** What a step's parts cost on one adapter, for rows stored as one dtype. Times in milliseconds of device time. */
export interface Costs {
  readonly dtype: StoredDtype;
  /** One more dispatch in a pass. */
  readonly launch: number;
  /** A submit that is waited for, wall time: what a mask costs that has to come to the CPU. */
  readonly wait: number;
  /** Per gigabyte of weights for one token, and for a tile of eight. */
  readonly read: ReadCosts;
  readonly readBatched: ReadCosts;
  /** One move of a plan, and a gigabyte of rows moved (bytes written). */
  readonly move: { readonly each: number; readonly gigabyte: number };
  /** One row of a gather by ids, and a gigabyte of rows gathered (bytes written). */
  readonly select: { readonly each: number; readonly gigabyte: number };
}

/** What was found out about a device. */
export interface Tuning {
  readonly entries: readonly TunedEntry[];
  /** What the parts of a step cost, by dtype; see mlp/cost-model. */
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

/** The costs measured on `device` for rows stored as `dtype`, if they were. */
export function measuredCosts(device: GPUDevice, dtype: StoredDtype): Costs | undefined {
  return tuningOf(device)?.costs?.find((costs) => costs.dtype === dtype);
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
    if (!best || far(entry) < far(best)) best = entry;
  }
  const found = best?.variant as Readonly<Record<string, unknown>> | undefined;
  return found && variants.find((variant) => same(variant as Readonly<Record<string, unknown>>, found));
}

function same(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
