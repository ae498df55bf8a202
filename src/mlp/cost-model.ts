import { softwareKernels } from '../gpu/storage.js';
import type { StoredDtype } from '../gpu/layout.js';
import { rateAt } from '../gpu/rates.js';
import type { RowStorage } from '../gpu/storage.js';
import { traitsOf } from '../gpu/traits.js';
import { type Costs, measuredCosts, type Rates, type ReadCosts } from '../gpu/tuning.js';
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
  /** What rows are read from that are not in the slab. Default buffer. */
  storage?: RowStorage;
  batch: number;
  /** Times that this set of rows will be used, this one included. */
  reuse: number;
  /** Active rows that the step before did not use: the others may come from a cache. Default: all. */
  fresh?: number;
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

/** ms per gigabyte of weights on a software adapter: widening narrow ones costs more than reading them. */
const SOFTWARE: Readonly<Record<StoredDtype, number>> = { f32: 155, f16: 240, bf16: 240, q8: 320, q4: 680 };

/**
 * Costs of an adapter on which nothing was measured. Software: as measured on lavapipe, on two cores. A GPU: 400 GB/s and
 * launches of 5 µs, a middle-class one (not measured; only their ratios matter).
 */
export function defaultCosts(
  device: GPUDevice,
  dtype: StoredDtype,
  { rowBytes, rows, storage = 'buffer' }: StepShape,
): Costs {
  const { software } = traitsOf(device);
  const textures = storage === 'texture' ? softwareKernels(device)?.textureCosts(device) : undefined;
  // A slab is in buffers, whatever its rows come from.
  const packed = software ? SOFTWARE[dtype] : 2.5;
  const read = textures?.read[dtype] ?? packed;
  const copy = textures?.copy ?? (software ? 230 : 6);
  const launch = software ? 0.1 : 0.01;
  // To find a row somewhere in memory takes so long, in ms, and less where it was found a moment ago.
  const seek = (textures?.seek ?? (software ? 1e-3 : 3e-6)) / (rowBytes / 1e9);
  const reads = (tile: number): ReadCosts => ({
    launch,
    dense: [[1, tile * read]],
    // A list of all rows is no different from none.
    indexed: [
      [0.5, tile * (read + seek)],
      [1, tile * read],
    ],
    again: [
      [0.5, tile * (read + 0.4 * seek)],
      [1, tile * read],
    ],
    packed: [[1, tile * packed]],
  });
  const copies = { launch, rates: [[1, copy + 0.4 * seek]] as Rates };
  return {
    dtype,
    rowBytes,
    rows,
    ...(storage === 'texture' ? { storage } : {}),
    wait: software ? 0.3 : 0.1,
    read: reads(1),
    readBatched: reads(software ? 5 : 2),
    move: copies,
    select: copies,
  };
}

/** The costs measured on `device` for a layer of `dtype` like the step's, else those of its kind. */
export function costsOf(
  device: GPUDevice,
  dtype: StoredDtype,
  step: StepShape,
): { costs: Costs; measured: boolean } {
  const found = measuredCosts(device, dtype, step);
  return found
    ? { costs: found, measured: true }
    : { costs: defaultCosts(device, dtype, step), measured: false };
}

/** Milliseconds of one use of the rows by each strategy; an update is shared by the uses of its set. */
export function estimate(costs: Costs, step: StepShape): Estimates {
  const { rows, active, writes, fresh = active, rowBytes, slabRowBytes, batch, reuse, waits } = step;
  const read = batch === 1 ? costs.read : costs.readBatched;
  const tiles = batch === 1 ? 1 : Math.ceil(batch / 8);
  const over = (rates: Rates, count: number, bytes: number) =>
    ((count * bytes) / 1e9) * rateAt(rates, count / rows);
  const { launch, dense, indexed, again, packed } = read;
  const anew = over(indexed, active, rowBytes);
  const hot = over(again, active, rowBytes);
  // Of its uses only the first finds rows that were not read a moment ago.
  const share = active === 0 ? 0 : fresh / active / reuse;
  const inSlab = launch + (waits ? costs.wait : 0) + tiles * over(packed, active, slabRowBytes);
  const moved = writes === 0 ? 0 : costs.move.launch + over(costs.move.rates, writes, slabRowBytes);
  const gathered = costs.select.launch + over(costs.select.rates, active, slabRowBytes);
  return {
    dense: launch + tiles * over(dense, rows, rowBytes),
    indexed: launch + tiles * (share * anew + (1 - share) * hot),
    repack: inSlab + gathered / reuse,
    paired: inSlab + moved / reuse,
  };
}

/** What keeps more state must be cheaper by this: costs are not known to less. */
const MARGIN = 0.97;

/**
 * The cheapest strategy, by measured costs or the defaults. Where two are as good as equal, the one that keeps less
 * state: dense, indexed, paired, repack.
 */
export function choose(device: GPUDevice, dtype: StoredDtype, step: StepShape) {
  const { costs, measured } = costsOf(device, dtype, step);
  const estimates = estimate(costs, step);
  let strategy: FixedStrategy = 'dense';
  for (const name of ['indexed', 'paired', 'repack'] as const) {
    if ((name === 'paired' || name === 'repack') && step.fits === false) continue;
    if (estimates[name] < MARGIN * estimates[strategy]) strategy = name;
  }
  return { strategy, estimates, costs, measured };
}

/** As `choose`, with what it came from and why. */
export function decide(device: GPUDevice, dtype: StoredDtype, step: StepShape): Explanation {
  const { strategy, estimates, costs, measured } = choose(device, dtype, step);
  const tau = measured ? tauOf(costs) : 1;
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
