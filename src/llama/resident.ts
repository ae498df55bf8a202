import type { BufferGroup } from '../gpu/buffers.js';
import type { Readback } from '../gpu/readback.js';
import type { LayerRun, ThresholdLayer } from '../mlp/threshold-layer.js';
import { canFuseResident, type UpdateWay, updateWay } from '../mlp/update-way.js';
import { COUNT_WORDS, DevicePlanner } from '../slab/device-planner.js';
import type { Slab } from '../slab/slab.js';
import type { UpdateStats } from '../slab/update-stats.js';

/** What a token did to each layer's slab. */
export interface ResidentStep {
  active: number[];
  updates: UpdateStats[];
  /** Layers whose rows did not fit, at this token or one before it since `forgive`: what came out is of no use. */
  refused: number[];
}

/** The layers' slabs, planned on the device: a token's masks, plans and copies are made there, and only counts come back. */
export class ResidentLayers {
  private readonly planners: readonly DevicePlanner[];
  private readonly device: GPUDevice;
  private readonly fusible: boolean;
  /** How the next token brings rows in, by what the last ones brought. */
  private way: UpdateWay = 'copy';
  /** [layers, COUNT_WORDS] */
  private readonly counts: GPUBuffer;

  constructor(memory: BufferGroup, slabs: readonly Slab[]) {
    const counts = memory.storage('slab counts', slabs.length * COUNT_WORDS * 4);
    this.counts = counts;
    this.device = memory.device;
    this.fusible = slabs.every(canFuseResident);
    this.planners = slabs.map(
      (slab, l) => new DevicePlanner(slab, { counts: { buffer: counts, at: l * COUNT_WORDS } }),
    );
  }

  /** GPU bytes held beside the slabs'. */
  get bytes(): number {
    return this.planners.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The MLP of layer l over the rows that its gate leaves, which its slab takes in on the way. */
  encodeLayer(pass: GPUComputePassEncoder, l: number, mlp: ThresholdLayer, run: LayerRun): void {
    mlp.encodeResident(pass, run, this.planners[l], this.way);
  }

  /** Has the last token's counts copied to byte `at` of `readback`. @returns how many words they are. */
  encodeCounts(encoder: GPUCommandEncoder, readback: Readback, at: number): number {
    const words = this.planners.length * COUNT_WORDS;
    readback.encodeCopy(encoder, this.counts, 0, at, words * 4);
    return words;
  }

  /** What the words say that `encodeCounts` had copied. */
  describe(words: Uint32Array): ResidentStep {
    const layers = this.planners.map((planner, l) =>
      planner.describe(words.subarray(l * COUNT_WORDS, (l + 1) * COUNT_WORDS)),
    );
    return {
      active: layers.map(({ update }) => update.active),
      updates: layers.map(({ update }) => update),
      refused: layers.flatMap(({ refused }, l) => (refused > 0 ? [l] : [])),
    };
  }

  /** Chooses how the next tokens bring rows in, by what these did. */
  learn(steps: readonly Pick<ResidentStep, 'updates'>[]): void {
    const updates = steps.flatMap((step) => step.updates);
    const total = (of: 'writes' | 'active') => updates.reduce((sum, update) => sum + update[of], 0);
    const arriving = () => total('writes') / Math.max(1, total('active'));
    this.way = this.fusible ? updateWay(this.device, arriving) : 'copy';
  }

  /** Forgets what was refused, before what is submitted next. */
  forgive(): void {
    for (const planner of this.planners) planner.forgive();
  }

  destroy(): void {
    for (const planner of this.planners) planner.destroy();
  }
}
