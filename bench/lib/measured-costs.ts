import type { RowStorage } from '../../src/gpu/storage.js';
import { type Costs, setTuning, type Tuning, tuningOf } from '../../src/gpu/tuning.js';
import { type CostOptions, type CostShape, measureCosts } from '../../src/tune/costs.js';

/** Gives `auto` the costs of this adapter, measured in this run, as `pairslab autotune` would; variants stay as they are. */
export class MeasuredCosts {
  private readonly device: GPUDevice;
  private readonly before: Tuning | null;
  private readonly costs = new Map<string, Costs>();

  constructor(device: GPUDevice) {
    this.device = device;
    this.before = tuningOf(device);
  }

  /** Once a shape, dtype and storage; four to six seconds on lavapipe. @returns what was measured. */
  async measure(
    { hidden, rows, dtype, storage }: CostShape & { storage: RowStorage },
    options: CostOptions = {},
  ): Promise<Costs> {
    const shape = { hidden, rows, dtype, storage };
    const key = Object.values(shape).join(' ');
    let found = this.costs.get(key);
    if (!found) {
      found = await measureCosts(this.device, shape, options);
      this.costs.set(key, found);
      setTuning(this.device, { entries: this.before?.entries ?? [], costs: [...this.costs.values()] });
    }
    return found;
  }

  restore(): void {
    setTuning(this.device, this.before);
  }
}
