import { OptionError } from '../errors.js';
import { BufferGroup } from '../gpu/buffers.js';
import { Readback } from '../gpu/readback.js';
import { Bitmask, nonZero } from '../mask/index.js';
import { type PieceScratch, SlotsLayer } from '../mlp/slots-layer.js';
import type { Strategy } from '../mlp/strategy.js';
import { DevicePool } from '../pool/device-pool.js';
import type { OffDevicePool } from '../pool/pool.js';
import { type PolicyFactory, policyNamed } from '../residency/index.js';
import { ArrivingRows } from '../slab/arriving-rows.js';
import { ResidentSlab } from '../slab/resident-slab.js';
import type { UpdateStats } from '../slab/update-stats.js';
import { UploadRing } from '../slab/upload-ring.js';
import { type LlamaGraph, MOST_TOKENS } from './graph.js';
import { NextGates } from './next-gates.js';
import { Recorder } from './recorder.js';
import type { LlamaSession, StepStats } from './session.js';
import type { LlamaWeights } from './weights.js';
import type { Followed } from './whole-tokens.js';

/** What a session under a budget may choose. */
export interface SessionResidency {
  /** Who gives up a slot: see `policyNamed`. Default `lfu`: hardly more uploads than `adaptive`, and less time on the CPU. */
  policy?: string | PolicyFactory;
  /** For policy `pinned`: [layers][N], how often each row was used where it was measured. */
  counts?: readonly ArrayLike<number>[];
  /** Staging memory for uploads, shared by all layers. Default: what the largest layer's slots hold, at most 4 MiB. */
  ringBytes?: number;
  /**
   * Guesses each layer's rows by its own gate over the hidden state that the layer before it starts from, and fetches
   * them while that one computes (decode only). It costs a gate a layer; a wrong guess costs bandwidth. Default false.
   */
  prefetch?: boolean;
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
/** What of a session looks on, or has a say in how rows are read. */
type Watch = Pick<LlamaSession, 'tap' | 'onMask' | 'reading'>;

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
  private readback: Readback;
  private readonly thresholds: readonly number[];
  private readonly prefetch: boolean;
  private guesses?: NextGates;
  private readonly arriving = new ArrivingRows();
  private lastUpdates: readonly UpdateStats[] = [];
  private readonly layers = new Map<LlamaGraph, SlotsLayer[]>();

  /** @throws OptionError for an unknown policy or a ring that cannot hold a row. */
  constructor(
    device: GPUDevice,
    weights: LlamaWeights,
    strategy: BudgetedStrategy,
    thresholds: readonly number[],
    options: SessionResidency = {},
  ) {
    const slots = weights.slots ?? [];
    const pools = weights.layers.map(({ mlp }) => offDevice(mlp));
    const { policy: named = 'lfu' } = options;
    const policies = pools.map((_, l) =>
      typeof named === 'string' ? policyNamed(named, options.counts?.[l]) : named,
    );
    const { rowBytes } = pools[0];
    const bytes =
      options.ringBytes ?? Math.max(rowBytes, Math.min(MOST_RING_BYTES, Math.max(...slots) * rowBytes));
    this.weights = weights;
    this.strategy = strategy;
    this.thresholds = thresholds;
    this.prefetch = options.prefetch ?? false;
    this.memory = new BufferGroup(device);
    this.ring = new UploadRing(device, { bytes });
    const slabs: ResidentSlab[] = [];
    try {
      for (const [l, pool] of pools.entries())
        slabs.push(
          new ResidentSlab(pool, {
            capacity: slots[l],
            policy: policies[l],
            ring: this.ring,
            label: `layer ${l} slab`,
          }),
        );
    } catch (error) {
      for (const slab of slabs) slab.destroy();
      this.ring.destroy();
      throw error;
    }
    this.slabs = slabs;
    // A layer's gate and the guess of the next one's, or the tokens of a run.
    this.readback = new Readback(device, Math.max(2 * weights.config.intermediateSize, MOST_TOKENS) * 4);
  }

  /** GPU bytes: slabs, ring, and what steps in pieces need. */
  get bytes(): number {
    const { memory, ring, readback } = this;
    return memory.bytes + ring.bytes + readback.bytes + this.slabs.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Rows of each layer that the last step used. */
  get unions(): number[] {
    return this.lastUpdates.map(({ active }) => active);
  }

  /**
   * Records one token that was set on the graph, up to its logits; what the host must know on the way is submitted and
   * waited for. When it throws nothing is lost: the same token can be fed again.
   * @returns the rest, for the caller to add to and submit.
   */
  async encodeToken(graph: LlamaGraph, stats: StepStats, watch: Watch): Promise<GPUCommandEncoder> {
    const recorder = this.recorder('pairslab decode', stats, watch.tap);
    await this.encodeLayers(graph, 1, recorder, stats, watch);
    graph.encodeHead(recorder.pass, 1);
    stats.active = this.unions;
    return recorder.finish();
  }

  /**
   * Feeds `id` at `position`, then `count - 1` times the likeliest token, each chosen on the device: the end of one token
   * is submitted with the beginning of the next. When it throws, the same call can be made again.
   */
  async follow(
    graph: LlamaGraph,
    id: number,
    position: number,
    count: number,
    watch: Watch,
  ): Promise<Followed> {
    const { readback } = this;
    const steps: StepStats[] = [];
    let stats: StepStats = { active: null, updates: [], submits: 0, readbacks: 0 };
    const shared = { submits: 0, readbacks: 0 };
    graph.setTokens([id], position);
    const recorder = this.recorder('pairslab decode', shared, watch.tap);
    for (let i = 0; i < count; i++) {
      stats = { active: null, updates: [], submits: 0, readbacks: 0 };
      await this.encodeLayers(graph, 1, recorder, stats, watch);
      graph.encodeHead(recorder.pass, 1);
      graph.encodeNextToken(recorder.pass);
      stats.active = this.unions;
      shared.readbacks += stats.readbacks;
      steps.push(stats);
    }
    recorder.flush((encoder) => readback.encodeCopy(encoder, graph.made, 0, 0, count * 4));
    const tokens = [...new Uint32Array(await readback.read(count * 4))];
    const each = { submits: shared.submits / count, readbacks: (shared.readbacks + 1) / count };
    return { tokens, steps: steps.map((step) => ({ ...step, ...each })) };
  }

  /** The same for a chunk of a prompt that begins at `position`, up to the last norm. */
  async encodeChunk(
    graph: LlamaGraph,
    ids: readonly number[],
    position: number,
    watch: Watch,
  ): Promise<GPUCommandEncoder> {
    const stats = { updates: [], submits: 0, readbacks: 0 };
    graph.setTokens(ids, position);
    const recorder = this.recorder('pairslab prefill', stats, null);
    await this.encodeLayers(graph, ids.length, recorder, stats, {
      tap: null,
      onMask: null,
      reading: watch.reading,
    });
    return recorder.finish();
  }

  /**
   * Brings slabs and ring to `device`: the rows that were resident are uploaded again.
   * @throws DeviceLimitError, DeviceLostError; what the pools' `read` throws. It can then be called again.
   */
  async rebuild(device: GPUDevice): Promise<void> {
    this.ring.rebuild(device);
    for (const slab of this.slabs) await slab.rebuild(this.arriving);
    const readback = new Readback(device, this.readback.bytes);
    this.readback.destroy();
    this.readback = readback;
    this.memory.destroy();
    this.memory = new BufferGroup(device);
    this.guesses = undefined;
    this.layers.clear();
  }

  destroy(): void {
    this.readback.destroy();
    for (const slab of this.slabs) slab.destroy();
    this.ring.destroy();
    this.memory.destroy();
  }

  private recorder(label: string, stats: Pick<Counted, 'submits'>, tap: LlamaSession['tap']): Recorder {
    // What a run before this one recorded last was submitted by the caller, or thrown away.
    this.submitted();
    const onSubmit = () => {
      stats.submits++;
      this.submitted();
    };
    return new Recorder(this.ring.device, label, onSubmit, tap);
  }

  private async encodeLayers(
    graph: LlamaGraph,
    batch: number,
    recorder: Recorder,
    stats: Counted,
    { onMask, reading }: Watch,
  ): Promise<void> {
    this.arriving.reading = reading;
    const run = graph.layerRun(batch);
    const ops = this.opsOf(graph);
    graph.encodeEmbed(recorder.pass, batch);
    for (const [l, { mlp }] of graph.layers.entries()) {
      const slab = this.slabs[l];
      graph.encodeAttention(recorder.pass, l, batch);
      mlp.encodeGate(recorder.pass, run);
      let mask = Bitmask.full(mlp.rows);
      let guess: Bitmask | undefined;
      if (this.strategy === 'dense') recorder.flush();
      else {
        [mask, guess] = await (batch === 1
          ? this.masksByGates(recorder, graph, l)
          : this.union(recorder, graph, l));
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
      if (guess) this.slabs[l + 1].prefetch(recorder, guess);
    }
    graph.encodeFinalNorm(recorder.pass, batch);
    this.lastUpdates = stats.updates;
  }

  /**
   * A token's rows of layer l, and a guess of the next layer's where that is asked for. The gate's values are read as they
   * are: 4 bytes a row take less time than another dispatch.
   */
  private async masksByGates(recorder: Recorder, graph: LlamaGraph, l: number): Promise<[Bitmask, Bitmask?]> {
    const { readback, prefetch } = this;
    const { rows } = graph.layers[l].mlp;
    const guesses = prefetch && l + 1 < graph.layers.length && this.strategy === 'paired';
    if (guesses) {
      this.guesses ??= new NextGates(this.memory, graph, this.weights, this.thresholds);
      this.guesses.encode(recorder.pass, l + 1);
    }
    const bytes = rows * 4;
    recorder.flush((encoder) => {
      readback.encodeCopy(encoder, graph.gate, 0, 0, bytes);
      if (guesses) readback.encodeCopy(encoder, (this.guesses as NextGates).gate, 0, bytes, bytes);
    });
    const read = await readback.read(guesses ? 2 * bytes : bytes);
    const mask = nonZero(new Float32Array(read, 0, rows));
    return guesses ? [mask, nonZero(new Float32Array(read, bytes, rows))] : [mask];
  }

  /** The rows of layer l that any of a batch uses. */
  private async union(recorder: Recorder, graph: LlamaGraph, l: number): Promise<[Bitmask]> {
    const { readback } = this;
    const { mlp } = graph.layers[l];
    const bits = mlp.encodeMask(recorder.pass, graph.step);
    const bytes = Math.ceil(mlp.rows / 32) * 4;
    recorder.flush((encoder) => readback.encodeCopy(encoder, bits, 0, 0, bytes));
    return [Bitmask.fromWords(new Uint32Array(await readback.read(bytes)), mlp.rows)];
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
