import type { Bitmask } from '../mask/index.js';
import { beladyLoads } from './belady.js';
import type { Budget } from './budget.js';
import { splitEvenly } from './budget.js';
import { policyNamed } from './policies.js';
import { type ChurnStep, churn, type ReplayStep, replay, useCounts } from './replay.js';
import type { Trace } from './trace.js';

/** Means over a layer's steps but the first, which follows none. */
export interface LayerChurn {
  readonly layer: number;
  /** m, and the most of any step. */
  readonly active: number;
  readonly mostActive: number;
  /** Rows that stay active, over m. */
  readonly persistence: number;
  /** k / m and h / m: rows that change, and the fewest that must be written, both summed over the steps. */
  readonly changedPerActive: number;
  readonly writesPerActive: number;
}

/** What a policy does with a trace under a budget, summed over layers and steps. */
export interface PolicyFigures {
  /** `packed` is the packed mode, which needs no policy. */
  readonly policy: string;
  /** m, summed; of them hits were resident and loads came from the pool. */
  readonly active: number;
  readonly hits: number;
  readonly loads: number;
  /** Rows written to slabs: loads, and in packed mode copies within the slab. */
  readonly writes: number;
  /** Steps (of a layer) that did not fit and were computed in pieces. */
  readonly inPieces: number;
  readonly uploadBytes: number;
  readonly hitRate: number;
  readonly writesPerActive: number;
  /** Loads over the offline optimum's with the same slots. */
  readonly versusBelady: number;
  /** Bytes that loading all active rows at each step takes, over this. */
  readonly repackOverThis: number;
}

export function layerChurn(trace: Trace): LayerChurn[] {
  return Array.from({ length: trace.info.layers }, (_, layer) => {
    const steps = churn(trace.layer(layer)).slice(1);
    const sum = (value: (step: ChurnStep) => number) => steps.reduce((total, step) => total + value(step), 0);
    const active = sum((step) => step.active);
    const per = (value: number, count: number) => (count > 0 ? value / count : 0);
    return {
      layer,
      active: per(active, steps.length),
      mostActive: steps.reduce((most, step) => Math.max(most, step.active), 0),
      persistence: per(active - sum((step) => step.added), active),
      changedPerActive: per(
        sum((step) => step.added + step.removed),
        active,
      ),
      writesPerActive: per(
        sum((step) => step.writes),
        active,
      ),
    };
  });
}

/** A trace under a budget: per layer the masks and the slots. Belady's optimum is computed once for all policies. */
export class BudgetedTrace {
  readonly trace: Trace;
  /** By layer. */
  readonly slots: readonly number[];
  /** Rows that the offline optimum loads, over all layers and steps. */
  readonly beladyLoads: number;
  readonly #layers: readonly (readonly Bitmask[])[];

  /** The budget is split evenly; or give each layer's slots. @throws OptionError as `splitEvenly`. */
  constructor(trace: Trace, budget: Budget | readonly number[]) {
    this.trace = trace;
    this.slots = 'length' in budget ? budget : splitEvenly(budget, trace.info);
    this.#layers = layersOf(trace);
    this.beladyLoads = this.#layers.reduce(
      (sum, masks, l) => sum + total(beladyLoads(masks, this.slots[l])),
      0,
    );
  }

  /**
   * Steps of every layer under a policy (see `policyNamed`), or `packed`. `measured` is another trace of the model, for
   * pinned, which must not know this one.
   *
   * @throws OptionError as `policyNamed`.
   */
  steps(policy: string, measured?: Trace): ReplayStep[][] {
    const counts = measured && layersOf(measured).map(useCounts);
    return this.#layers.map((masks, l) => {
      const capacity = this.slots[l];
      return policy === 'packed'
        ? replay(masks, { capacity, mode: 'packed' })
        : replay(masks, { capacity, mode: 'indexed', policy: policyNamed(policy, counts?.[l]) });
    });
  }

  /** @throws OptionError as `policyNamed`. */
  figures(policy: string, measured?: Trace): PolicyFigures {
    const steps = this.steps(policy, measured).flat();
    const sum = (value: (step: ReplayStep) => number) => steps.reduce((all, step) => all + value(step), 0);
    const active = sum((step) => step.active);
    const loads = sum((step) => step.loads);
    const hits = sum((step) => step.hits);
    const writes = sum((step) => step.writes);
    return {
      policy,
      active,
      hits,
      loads,
      writes,
      inPieces: sum((step) => Number(step.pieces > 1)),
      uploadBytes: loads * this.trace.info.rowBytes,
      hitRate: hits / active,
      writesPerActive: writes / active,
      versusBelady: loads / this.beladyLoads,
      repackOverThis: active / loads,
    };
  }
}

function layersOf(trace: Trace): Bitmask[][] {
  return Array.from({ length: trace.info.layers }, (_, l) => trace.layer(l));
}

function total(values: Uint32Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}
