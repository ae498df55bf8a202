import type { StoredDtype } from '../gpu/layout.js';
import { traitsOf } from '../gpu/traits.js';
import { type Costs, measuredCosts } from '../gpu/tuning.js';
import { tauOf } from '../slab/tau.js';
import type { Strategy } from './strategy.js';

/** A strategy that `auto` can settle on. */
export type FixedStrategy = Exclude<Strategy, 'auto'>;

/** What a step is, as far as its cost goes. */
export interface StepShape {
  /** N */
  rows: number;
  /** m */
  active: number;
  /** Rows that a paired update would write; 0 when the slab holds the mask already. */
  writes: number;
  /** Bytes of a row, all fields together: in the pool, and in the slab. */
  rowBytes: number;
  slabRowBytes: number;
  batch: number;
  /** Times that this set of rows will be used, this one included. */
  reuse: number;
  /** Whether the active rows fit in the slab; default true. */
  fits?: boolean;
  /** Whether a packed step must first wait for the mask to come from the device. */
  waits?: boolean;
}

/** Estimated milliseconds of one use, by strategy. */
export type Estimates = Readonly<Record<FixedStrategy, number>>;

/** What was chosen, from what, and why. */
export interface Explanation {
  readonly strategy: FixedStrategy;
  readonly estimates: Estimates;
  readonly step: Readonly<StepShape>;
  /** The hybrid plan's: repack when writes / m' is above it. */
  readonly tau: number;
  /** Whether the costs were measured on this adapter or are the defaults of its kind. */
  readonly measured: boolean;
  /** One sentence. */
  readonly because: string;
}

/** The first pass over a layer and the second. */
const LAYER_DISPATCHES = 2;

/**
 * Costs of an adapter on which nothing was measured. Software: as measured on lavapipe, on two cores. A GPU: launches
 * of 5 µs and 400 GB/s, a middle-class one; only their ratios matter.
 */
export function defaultCosts(device: GPUDevice, dtype: StoredDtype): Costs {
  const software = traitsOf(device).software;
  const gigabyte = software ? 150 : 2.5;
  return {
    dtype,
    launch: software ? 0.04 : 0.005,
    wait: software ? 0.3 : 0.1,
    read: { dense: gigabyte, indexed: gigabyte * 1.05, packed: gigabyte },
    readBatched: { dense: gigabyte * 2, indexed: gigabyte * 2.1, packed: gigabyte * 2 },
    move: { each: software ? 2e-4 : 2e-6, gigabyte: gigabyte * 1.5 },
    select: { each: software ? 2e-4 : 2e-6, gigabyte: gigabyte * 1.5 },
  };
}

/** The costs measured on `device` for `dtype`, else those of its kind. */
export function costsOf(device: GPUDevice, dtype: StoredDtype): { costs: Costs; measured: boolean } {
  const found = measuredCosts(device, dtype);
  return found ? { costs: found, measured: true } : { costs: defaultCosts(device, dtype), measured: false };
}

/** Milliseconds of one use of the rows by each strategy; an update is shared by the uses of its set. */
export function estimate(costs: Costs, step: StepShape): Estimates {
  const { rows, active, writes, rowBytes, slabRowBytes, batch, reuse, waits } = step;
  const { launch, move, select } = costs;
  const read = batch === 1 ? costs.read : costs.readBatched;
  const tiles = batch === 1 ? 1 : Math.ceil(batch / 8);
  const compute = LAYER_DISPATCHES * launch;
  const gigabytes = (count: number, bytes: number) => (count * bytes) / 1e9;
  const packed = compute + (waits ? costs.wait : 0) + tiles * gigabytes(active, slabRowBytes) * read.packed;
  const moved =
    writes === 0 ? 0 : launch + writes * move.each + gigabytes(writes, slabRowBytes) * move.gigabyte;
  const gathered = launch + active * select.each + gigabytes(active, slabRowBytes) * select.gigabyte;
  return {
    dense: compute + tiles * gigabytes(rows, rowBytes) * read.dense,
    indexed: compute + tiles * gigabytes(active, rowBytes) * read.indexed,
    repack: packed + gathered / reuse,
    paired: packed + moved / reuse,
  };
}

/**
 * The cheapest strategy, by measured costs or the defaults. Where two are equal, the one that keeps less state: dense,
 * indexed, paired, repack.
 */
export function choose(device: GPUDevice, dtype: StoredDtype, step: StepShape) {
  const { costs, measured } = costsOf(device, dtype);
  const estimates = estimate(costs, step);
  let strategy: FixedStrategy = 'dense';
  for (const name of ['indexed', 'paired', 'repack'] as const) {
    if ((name === 'paired' || name === 'repack') && step.fits === false) continue;
    if (estimates[name] < estimates[strategy]) strategy = name;
  }
  return { strategy, estimates, costs, measured };
}

/** As `choose`, with what it came from and why. */
export function decide(device: GPUDevice, dtype: StoredDtype, step: StepShape): Explanation {
  const { strategy, estimates, costs, measured } = choose(device, dtype, step);
  const tau = measured ? tauOf(costs, step.slabRowBytes) : 1;
  return { strategy, estimates, step, tau, measured, because: reason(strategy, estimates, step) };
}

function reason(strategy: FixedStrategy, estimates: Estimates, step: StepShape): string {
  const { rows, active, writes, reuse, batch } = step;
  const share = `${active} of ${rows} rows are active`;
  const costs = Object.entries(estimates).map(([name, ms]) => `${name} ${ms.toFixed(3)} ms`);
  const why = {
    dense: `${share}: too many for a list to pay`,
    indexed: `${share} and are used ${reuse === 1 ? 'once' : `${reuse} times`}: a copy would not pay`,
    repack: `${share}, ${writes} of them new: gathering all costs less than moving`,
    paired: `${share}, ${writes} to write, used ${reuse === 1 ? 'once' : `${reuse} times`}: packed rows pay`,
  }[strategy];
  return `${why} (batch ${batch}; ${costs.join(', ')})`;
}
