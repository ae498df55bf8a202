import { OptionError } from '../errors.js';

/** Measured on the shipped model's traces: flat between 0.96 and 0.98. */
export const LFU_DECAY = 0.97;

const LEAST_DECAY = 2 ** -10;
/** When a use weighs more than this, all weights are divided by it: a power of two, so that no bit changes. */
const HEAVY = 2 ** 256;

/**
 * How often each row was used, a use counting `decay` to the power of its age in steps. Kept the other way round, so
 * that nothing changes for a row that is not used: each use weighs 1 / decay times as much as one a step before.
 */
export class DecayedCounts {
  readonly decay: number;
  /** `[N]`: counts, all times the same factor. */
  readonly counts: Float64Array;
  #weight = 1;

  /** @throws OptionError when decay is not from 2^-10 to 1. */
  constructor(rows: number, decay: number) {
    if (!(decay >= LEAST_DECAY && decay <= 1)) {
      throw new OptionError(`decay is ${decay}; it must be from ${LEAST_DECAY} to 1, which counts for ever`, {
        decay,
      });
    }
    this.decay = decay;
    this.counts = new Float64Array(rows);
  }

  note(rows: Uint32Array): void {
    for (const row of rows) this.counts[row] += this.#weight;
  }

  /** @returns true when all counts were scaled down: rows that were unequal may be equal now, at 0. */
  endStep(): boolean {
    this.#weight /= this.decay;
    if (this.#weight <= HEAVY) return false;
    this.#weight /= HEAVY;
    const { counts } = this;
    for (let row = 0; row < counts.length; row++) counts[row] /= HEAVY;
    return true;
  }
}
