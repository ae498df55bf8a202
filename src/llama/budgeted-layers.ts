import { OptionError } from '../errors.js';
import { BufferGroup } from '../gpu/buffers.js';
import type { Readback } from '../gpu/readback.js';
import { Bitmask } from '../mask/index.js';
import { type PieceScratch, SlotsLayer } from '../mlp/slots-layer.js';
import type { Strategy } from '../mlp/strategy.js';
import { DevicePool } from '../pool/device-pool.js';
import type { OffDevicePool } from '../pool/pool.js';
import { type PolicyFactory, policyNamed } from '../residency/index.js';
import { ArrivingRows } from '../slab/arriving-rows.js';
import { ResidentSlab } from '../slab/resident-slab.js';
import type { UpdateStats } from '../slab/update-stats.js';
import { UploadRing } from '../slab/upload-ring.js';
import type { LlamaGraph } from './graph.js';
import { Recorder } from './recorder.js';
import type { LlamaSession, StepStats } from './session.js';
import type { LlamaWeights } from './weights.js';

/** What a session under a budget may choose. */
export interface SessionResidency {
  /** Who gives up a slot: see `policyNamed`. Default `adaptive`, which uploads least on the shipped model's traces. */
  policy?: string | PolicyFactory;
  /** Staging memory for uploads, shared by all layers. Default: what the largest layer's slots hold, at most 4 MiB. */
  ringBytes?: number;
}

/** How rows are reached where up and down are not on the device. */
export type BudgetedStrategy = 'dense' | 'repack' | 'paired';

const MOST_RING_BYTES = 4 << 20;

/**
 * What a strategy is under a budget: `auto` is `paired`, which keeps rows for later steps; `repack` uploads every active
 * row at every step; `dense` computes all rows, in pieces.
 * @throws OptionError for `indexed`, which reads the pool on the device.
 */
export function budgetedStrategy(strategy: Strategy): BudgetedStrategy {
  if (strategy === 'auto') return 'paired';
  if (strategy !== 'indexed') return strategy;
  throw new OptionError(
    'strategy indexed reads every row where it lies, on the device; under a budget use paired, or load the weights without one.',
    { strategy },
  );
}

type Counted = Pick<StepStats, 'updates' | 'submits' | 'readbacks'>;

/**
 * The MLPs of a model whose up and down rows are not on the device: a slab for each layer and one upload ring, shared by
 * a session's decode and prefill. Each layer's mask comes to the host, which uploads what is missing.
 */
export class BudgetedLayers {
  readonly strategy: BudgetedStrategy;
  readonly slabs: readonly ResidentSlab[];
  readonly ring: UploadRing;
  private readonly weights: LlamaWeights;
  private memory: BufferGroup;
  private readonly arriving = new ArrivingRows();
  private lastUpdates: readonly UpdateStats[] = [];
  private readonly layers = new Map<LlamaGraph, SlotsLayer[]>();

  /** @throws OptionError for an unknown policy or a ring that cannot hold a row. */
  constructor(
    device: GPUDevice,
    weights: LlamaWeights,
    strategy: BudgetedStrategy,
    options: SessionResidency = {},
  ) {
    const slots = weights.slots ?? [];
    const pools = weights.layers.map(({ mlp }) => offDevice(mlp));
    const { policy: named = 'adaptive' } = options;
    const policy = typeof named === 'string' ? policyNamed(named) : named;
    const { rowBytes } = pools[0];
    const bytes =
      options.ringBytes ?? Math.max(rowBytes, Math.min(MOST_RING_BYTES, Math.max(...slots) * rowBytes));
    this.weights = weights;
    this.strategy = strategy;
    this.memory = new BufferGroup(device);
    this.ring = new UploadRing(device, { bytes });
    const slabs: ResidentSlab[] = [];
    try {
      for (const [l, pool] of pools.entries())
        slabs.push(
          new ResidentSlab(pool, { capacity: slots[l], policy, ring: this.ring, label: `layer ${l} slab` }),
        );
    } catch (error) {
      for (const slab of slabs) slab.destroy();
      this.ring.destroy();
      throw error;
    }
    this.slabs = slabs;
  }

  /** GPU bytes: slabs, ring, and what steps in pieces need. */
  get bytes(): number {
    return this.memory.bytes + this.ring.bytes + this.slabs.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Rows of each layer that the last step used. */
  get unions(): number[] {
    return this.lastUpdates.map(({ active }) => active);
  }

  /**
   * Records one token that was set on the graph, up to its logits; what the host must know on the way is submitted and
   * waited for. When it throws nothing is lost: the same token can be fed again.
   * @param watch Sees passes and masks.
   * @returns the rest, for the caller to add to and submit.
   */
  async encodeToken(
    graph: LlamaGraph,
    readback: Readback,
    stats: StepStats,
    watch: Pick<LlamaSession, 'tap' | 'onMask'>,
  ): Promise<GPUCommandEncoder> {
    const recorder = this.recorder('pairslab decode', stats, watch.tap);
    await this.encodeLayers(graph, 1, readback, recorder, stats, watch.onMask);
    graph.encodeHead(recorder.pass, 1);
    stats.active = this.unions;
    return recorder.finish();
  }

  /** The same for a chunk of a prompt that begins at `position`, up to the last norm. */
  async encodeChunk(
    graph: LlamaGraph,
    ids: readonly number[],
    position: number,
    readback: Readback,
  ): Promise<GPUCommandEncoder> {
    const stats = { updates: [], submits: 0, readbacks: 0 };
    graph.setTokens(ids, position);
    const recorder = this.recorder('pairslab prefill', stats, null);
    await this.encodeLayers(graph, ids.length, readback, recorder, stats, null);
    return recorder.finish();
  }

  /**
   * Brings slabs and ring to `device`: the rows that were resident are uploaded again.
   * @throws DeviceLimitError, DeviceLostError; what the pools' `read` throws. It can then be called again.
   */
  async rebuild(device: GPUDevice): Promise<void> {
    this.ring.rebuild(device);
    for (const slab of this.slabs) await slab.rebuild(this.arriving);
    this.memory.destroy();
    this.memory = new BufferGroup(device);
    this.layers.clear();
  }

  destroy(): void {
    for (const slab of this.slabs) slab.destroy();
    this.ring.destroy();
    this.memory.destroy();
  }

  private recorder(label: string, stats: Counted, tap: LlamaSession['tap']): Recorder {
    const onSubmit = () => {
      stats.submits++;
      this.submitted();
    };
    return new Recorder(this.ring.device, label, onSubmit, tap);
  }

  private async encodeLayers(
    graph: LlamaGraph,
    batch: number,
    readback: Readback,
    recorder: Recorder,
    stats: Counted,
    onMask: LlamaSession['onMask'],
  ): Promise<void> {
    // The last step's end was submitted by the caller, or thrown away.
    this.submitted();
    const run = graph.layerRun(batch);
    const ops = this.opsOf(graph);
    graph.encodeEmbed(recorder.pass, batch);
    for (const [l, { mlp }] of graph.layers.entries()) {
      const slab = this.slabs[l];
      graph.encodeAttention(recorder.pass, l, batch);
      mlp.encodeGate(recorder.pass, run);
      let mask = Bitmask.full(mlp.rows);
      if (this.strategy === 'dense') recorder.flush();
      else {
        const bits = mlp.encodeMask(recorder.pass, run.step);
        const bytes = Math.ceil(mlp.rows / 32) * 4;
        recorder.flush((encoder) => readback.encodeCopy(encoder, bits, 0, 0, bytes));
        mask = Bitmask.fromWords(new Uint32Array(await readback.read(bytes)), mlp.rows);
        stats.readbacks++;
      }
      onMask?.(l, mask);
      if (this.strategy === 'repack') slab.forget();
      stats.updates.push(
        await slab.encodeStep(recorder, mask, this.arriving, ({ list, count, index, of }) => {
          if (of > 1 && index === 0) recorder.between((encoder) => ops[l].encodeKeep(encoder));
          ops[l].encode(recorder.pass, run, list, count, of > 1 ? index : null);
        }),
      );
    }
    graph.encodeFinalNorm(recorder.pass, batch);
    this.lastUpdates = stats.updates;
  }

  private submitted(): void {
    for (const slab of this.slabs) slab.submitted();
  }

  private opsOf(graph: LlamaGraph): SlotsLayer[] {
    let ops = this.layers.get(graph);
    if (!ops) {
      const { memory } = this;
      const { xStride, scratch } = graph;
      const noBias = memory.storage('no bias', xStride * 4);
      const keep = (what: string) => memory.storage(`${what} kept`, xStride * 4);
      const kept = scratch.norm ? { x: keep('input'), residual: keep('residual') } : undefined;
      const pieces: PieceScratch = { noBias, kept };
      ops = this.weights.layers.map(({ downBias }, l) => {
        const parts = { slab: this.slabs[l], downBias, compute: graph.compute, next: graph.nextNorm(l) };
        return new SlotsLayer(memory, parts, scratch, pieces);
      });
      this.layers.set(graph, ops);
    }
    return ops;
  }
}

function offDevice(pool: DevicePool | OffDevicePool): OffDevicePool {
  if (pool instanceof DevicePool)
    throw new OptionError(`${pool.label} is on the device as a whole: load the weights with a budget.`);
  return pool;
}
