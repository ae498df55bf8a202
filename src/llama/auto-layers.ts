import type { StoredDtype } from '../gpu/layout.js';
import { choose, decide, type Explanation, type StepShape } from '../mlp/cost-model.js';
import type { LayerWeights } from './weights.js';

/** Strategy auto of a model: which layers compute all their rows at the next step, by what the last ones had active. */
export class AutoLayers {
  private readonly device: GPUDevice;
  private readonly layers: readonly LayerWeights[];
  private readonly batch: number;
  private readonly period: number;
  /** For how many more steps each layer computes all its rows before they are counted again. */
  private readonly denseFor: number[];

  /** `batch`: tokens of a step. `period`: steps that a layer stays dense before its active rows are counted again. */
  constructor(device: GPUDevice, layers: readonly LayerWeights[], batch: number, period: number) {
    this.device = device;
    this.layers = layers;
    this.batch = batch;
    this.period = period;
    this.denseFor = layers.map(() => 0);
  }

  isDense(l: number): boolean {
    return this.denseFor[l] > 0;
  }

  /**
   * Takes note of `steps` steps: a layer most of whose rows were active computes all of them for a while.
   * `active`: mean active rows of each layer, for any token of a step; of a dense layer any number.
   */
  counted(active: readonly number[], steps: number): void {
    for (const [l, rows] of active.entries()) {
      if (this.denseFor[l] > 0) {
        this.denseFor[l] = Math.max(0, this.denseFor[l] - steps);
        continue;
      }
      const { dense, indexed } = choose(this.device, ...this.stepOf(l, rows)).estimates;
      if (dense <= indexed) this.denseFor[l] = this.period;
    }
  }

  /** What each layer's next step would cost with `active` rows (default: all), and which strategy is the cheapest. */
  explain(active?: readonly number[] | null): Explanation[] {
    return this.layers.map((_, l) => decide(this.device, ...this.stepOf(l, active?.[l])));
  }

  private stepOf(l: number, active?: number): [StoredDtype, StepShape] {
    const { mlp, gate } = this.layers[l];
    const { rows, rowBytes } = mlp;
    const m = active ?? rows;
    // Of the rows of one token hardly any are sure to be in a slab: count all as written, as at a change of subject.
    const step = {
      rows,
      active: m,
      writes: m,
      rowBytes,
      slabRowBytes: rowBytes,
      storage: gate.storage,
      batch: this.batch,
      reuse: 1,
      waits: true,
    };
    return [mlp.field('up').dtype, step];
  }
}
