import { allocate } from '../gpu/allocate.js';
import { BufferGroup } from '../gpu/buffers.js';
import { Readback } from '../gpu/readback.js';
import type { Compute } from '../mlp/compute.js';
import type { Strategy } from '../mlp/strategy.js';
import { COUNT_WORDS } from '../slab/device-planner.js';
import type { Slab } from '../slab/slab.js';
import { AutoLayers } from './auto-layers.js';
import { type Cache, LlamaGraph, MOST_TOKENS } from './graph.js';
import { headQuads } from './kernels.js';
import { Prefill } from './prefill.js';
import { ResidentLayers } from './resident.js';
import type { RowChooser } from './row-choice.js';
import type { LlamaWeights } from './weights.js';
import { WholeTokens } from './whole-tokens.js';

/** Strategy auto: how long a layer stays dense before its active rows are counted again. */
const TOKENS_BETWEEN_COUNTS = 32;

/** What a session's parts are made for. */
export interface SessionShape {
  readonly weights: LlamaWeights;
  readonly strategy: Strategy;
  readonly compute: Compute;
  readonly thresholds: readonly number[];
  /** Of repack and paired where all rows are on the device; else none. */
  readonly slabs: readonly Slab[];
  /** Whether the slabs are planned on the device. */
  readonly planned: boolean;
  /** Tokens prefilled at once. */
  readonly chunk: number;
  /** What chooses each layer's rows on the device, where it is not a threshold. */
  choosers(): readonly RowChooser[] | undefined;
  /** Begins a decode step's pass. */
  begin(encoder: GPUCommandEncoder): GPUComputePassEncoder;
}

/** What a session has on a device beside its slabs: made with it, and made anew when it is rebuilt on another one. */
export class SessionParts {
  readonly cache: Cache;
  /** For a single token. */
  readonly decode: LlamaGraph;
  readonly readback: Readback;
  readonly whole: WholeTokens;
  readonly auto: AutoLayers;
  /** Of paired that is planned on the device. */
  readonly resident?: ResidentLayers;
  private readonly memory: BufferGroup;
  private readonly shape: SessionShape;
  private prefiller?: { readonly prefill: Prefill; readonly memory: BufferGroup };

  /** @throws DeviceLimitError, DeviceLostError; nothing stays allocated then. */
  constructor(device: GPUDevice, shape: SessionShape) {
    const { weights, slabs, strategy } = shape;
    const { config, context } = weights;
    const memory = new BufferGroup(device);
    this.shape = shape;
    this.memory = memory;
    this.auto = new AutoLayers(device, weights.layers, 1, TOKENS_BETWEEN_COUNTS);
    try {
      if (shape.planned) this.resident = new ResidentLayers(memory, slabs);
      const bytes = context * config.kvHeads * headQuads(config.headDim) * 16;
      const make = (what: string) =>
        weights.layers.map((_, l) => memory.storage(`layer ${l} ${what}`, bytes));
      this.cache = { keys: make('keys'), values: make('values') };
      this.decode = this.graph(1, memory);
      // Logits or tokens, and after them each token's counts: at most one for every 32 rows (two for 64 where
      // they are predicted), or what a slab's update leaves.
      const counts = config.layers * Math.max(COUNT_WORDS, 2 + Math.ceil(config.intermediateSize / 32));
      const words = Math.max(config.vocabSize + counts, MOST_TOKENS * (1 + counts), config.intermediateSize);
      this.readback = new Readback(device, words * 4);
    } catch (error) {
      this.destroy();
      throw error;
    }
    this.whole = new WholeTokens(device, this.decode, this.readback, {
      countsNone: strategy === 'dense',
      isDense: (l) => strategy === 'dense' || (strategy === 'auto' && this.auto.isDense(l)),
      resident: this.resident,
      begin: (encoder) => shape.begin(encoder),
    });
  }

  get device(): GPUDevice {
    return this.memory.device;
  }

  /** GPU bytes: cache and activations. */
  get bytes(): number {
    return this.memory.bytes + (this.prefiller?.memory.bytes ?? 0) + (this.resident?.bytes ?? 0);
  }

  /** There once `makePrefill` has been waited for. */
  get prefilling(): Prefill {
    return (this.prefiller as NonNullable<typeof this.prefiller>).prefill;
  }

  /** @throws DeviceLimitError when the device has not the memory to prefill; the session works on. */
  async makePrefill(): Promise<void> {
    if (this.prefiller) return;
    const { chunk } = this.shape;
    const what = `prefilling ${chunk} tokens at a time`;
    this.prefiller = await allocate(this.device, () => this.newPrefill(), what);
  }

  destroy(): void {
    this.prefiller?.memory.destroy();
    this.resident?.destroy();
    this.readback?.destroy();
    this.memory.destroy();
  }

  private newPrefill() {
    const { device, shape } = this;
    const memory = new BufferGroup(device);
    const destroy = () => memory.destroy();
    try {
      // Two tokens at least: one alone would be the decode graph, which this one must not be.
      const graph = this.graph(Math.max(2, shape.chunk), memory);
      return { prefill: new Prefill(device, shape.weights, graph, shape.strategy), memory, destroy };
    } catch (error) {
      destroy();
      throw error;
    }
  }

  private graph(maxBatch: number, memory: BufferGroup): LlamaGraph {
    const { weights, thresholds, slabs, compute } = this.shape;
    return new LlamaGraph(memory, weights, this.cache, {
      maxBatch,
      thresholds,
      slabs,
      compute,
      choosers: this.shape.choosers(),
    });
  }
}
