import { BufferGroup, roundUp, upload } from '../gpu/buffers.js';
import { Regions } from '../gpu/regions.js';
import { ForwardBuffers } from './forward-buffers.js';
import type { SparseGraph } from './sparse-graph.js';
import { MaskRegions } from './step-masks.js';

/** What a layer's parts are made for. */
export interface MlpShape {
  /** N. */
  readonly rows: number;
  readonly hidden: number;
  readonly inputStride: number;
  /** Steps that may be encoded before one submit. */
  readonly pending: number;
  /** [hidden], where there is one. */
  readonly downBias: Float32Array<ArrayBuffer> | undefined;
}

/** What a layer has on a device beside its pool and its slab: made with it, and made anew when it is rebuilt. */
export class MlpParts {
  /** Where lists and masks of all rows go. */
  readonly regions: Regions;
  /** Where the masks of a batch's elements go. */
  readonly masks: MaskRegions;
  /** [hidden], zeros when there is none. */
  readonly downBias: GPUBuffer;
  readonly forwards: ForwardBuffers;
  readonly graphs = new Map<string, SparseGraph>();
  private readonly memory: BufferGroup;
  private readonly steps = new Map<number, GPUBuffer>();
  /** What `mark` gave last, good as long as nothing is made or dropped. */
  private marked?: { readonly made: number; readonly undo: () => void };

  /** @throws DeviceLimitError, OptionError, DeviceLostError; nothing stays allocated then. */
  constructor(device: GPUDevice, { rows, hidden, inputStride, pending, downBias }: MlpShape) {
    this.memory = new BufferGroup(device);
    this.forwards = new ForwardBuffers(device, hidden, inputStride);
    try {
      this.regions = new Regions(this.memory, 'mlp rows', 4 + rows, pending);
      this.masks = new MaskRegions(this.memory, pending);
      this.downBias = this.memory.storage('down bias', roundUp(hidden, 4) * 4);
    } catch (error) {
      this.memory.destroy();
      throw error;
    }
    if (downBias) upload(device, this.downBias, 0, downBias);
  }

  get device(): GPUDevice {
    return this.memory.device;
  }

  /** GPU bytes held. */
  get bytes(): number {
    let bytes = this.memory.bytes + this.forwards.bytes;
    for (const graph of this.graphs.values()) bytes += graph.bytes;
    return bytes;
  }

  /** The uniform that tells kernels of a batch. */
  stepBuffer(batch: number): GPUBuffer {
    let buffer = this.steps.get(batch);
    if (!buffer) {
      buffer = this.memory.uniform('mlp step', [batch, 0, 0, 0]);
      this.steps.set(batch, buffer);
    }
    return buffer;
  }

  /**
   * @returns what takes back all that was made for steps since this call: of a device without more memory some of it may
   * be no buffer at all.
   */
  mark(): () => void {
    const { graphs, steps, masks, memory } = this;
    const made = graphs.size + steps.size + memory.count;
    if (this.marked?.made === made) return this.marked.undo;
    const had = { graphs: new Set(graphs.keys()), steps: new Set(steps.keys()), buffers: memory.count };
    const forgetMasks = masks.mark();
    const undo = () => {
      this.dropGraphs((key) => !had.graphs.has(key));
      for (const key of [...steps.keys()]) if (!had.steps.has(key)) steps.delete(key);
      forgetMasks();
      memory.destroy(had.buffers);
      this.marked = undefined;
    };
    this.marked = { made, undo };
    return undo;
  }

  /** Destroys graphs by their keys. */
  dropGraphs(which: (key: string) => boolean): void {
    this.marked = undefined;
    for (const [key, graph] of [...this.graphs]) {
      if (!which(key)) continue;
      graph.destroy();
      this.graphs.delete(key);
    }
  }

  submitted(): void {
    this.regions.submitted();
    this.masks.submitted();
  }

  destroy(): void {
    for (const graph of this.graphs.values()) graph.destroy();
    this.graphs.clear();
    this.forwards.destroy();
    this.memory.destroy();
  }
}
