import type { StoredDtype } from '../../src/gpu/layout.js';
import { type Costs, setTuning, type Tuning, tuningOf } from '../../src/gpu/tuning.js';
import { measureCosts } from '../../src/tune/costs.js';

/** Gives `auto` the costs of this adapter, measured in this run, as `pairslab autotune` would; variants stay as they are. */
export class MeasuredCosts {
  private readonly device: GPUDevice;
  private readonly before: Tuning | null;
  private readonly costs = new Map<StoredDtype, Costs>();

  constructor(device: GPUDevice) {
    this.device = device;
    this.before = tuningOf(device);
  }

  /** Once a dtype; about two seconds on a software adapter. */
  async measure(dtype: StoredDtype): Promise<void> {
    if (this.costs.has(dtype)) return;
    this.costs.set(dtype, await measureCosts(this.device, dtype));
    setTuning(this.device, { entries: this.before?.entries ?? [], costs: [...this.costs.values()] });
  }

  restore(): void {
    setTuning(this.device, this.before);
  }
}
