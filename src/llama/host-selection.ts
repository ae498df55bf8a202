import { OptionError } from '../errors.js';
import { type Bitmask, Smoother, sigma, sticky, topK } from '../mask/index.js';
import type { Selection } from '../slab/row-selector.js';

/** Rules that rank rows among one another. */
export type RankedSelection = Exclude<Selection, { by: 'threshold' }>;

/** A selection on the CPU, for rules that remember: which rows were chosen before, and what scores were. */
export class HostSelection {
  private readonly selection: RankedSelection;
  private readonly share?: number;
  private readonly alpha?: number;
  private readonly rows: number;
  private readonly before: (Bitmask | null)[];
  private readonly smoothers: (Smoother | null)[];

  /** @throws OptionError for a share outside 0 to 1, or a smoothing outside 0 to below 1. */
  constructor(
    selection: RankedSelection,
    options: { layers: number; rows: number; sticky?: number; smooth?: number },
  ) {
    const { layers, rows, sticky: share, smooth: alpha } = options;
    if (share !== undefined && !(share >= 0 && share <= 1))
      throw new OptionError(`sticky is ${share}; it must be from 0 to 1.`, { share });
    this.selection = selection;
    this.share = share;
    this.alpha = alpha;
    this.rows = rows;
    this.before = new Array<null>(layers).fill(null);
    this.smoothers = new Array<null>(layers).fill(null);
    this.reset();
  }

  /** Forgets what was chosen before. */
  reset(): void {
    this.before.fill(null);
    const { alpha, rows } = this;
    if (alpha !== undefined)
      for (const l of this.smoothers.keys()) this.smoothers[l] = new Smoother(rows, alpha);
  }

  /** The rows of a layer, by act(gate) of all of them. @throws NonFiniteError where one of them is not finite. */
  pick(layer: number, gates: Float32Array): Bitmask {
    const sizes = gates.map(Math.abs);
    const scores = this.smoothers[layer]?.push(sizes) ?? sizes;
    const mask = this.choose(scores, this.before[layer]);
    if (this.share !== undefined) this.before[layer] = mask;
    return mask;
  }

  private choose(scores: Float32Array, before: Bitmask | null): Bitmask {
    const { selection, share } = this;
    if (selection.by === 'sigma') return sigma(scores, { k: selection.k });
    return share === undefined ? topK(scores, selection.k) : sticky(before, scores, selection.k, share);
  }
}
