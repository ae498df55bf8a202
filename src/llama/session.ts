import { OptionError, RowError, ShapeError } from '../errors.js';
import { BufferGroup } from '../gpu/buffers.js';
import { Readback } from '../gpu/readback.js';
import { Bitmask } from '../mask/index.js';
import { resolveStrategy, type Strategy } from '../mlp/strategy.js';
import { Slab, type UpdateStats } from '../slab/slab.js';
import { type Cache, LlamaGraph } from './graph.js';
import { headQuads } from './kernels.js';
import type { LlamaWeights } from './weights.js';

/** How a session finds the rows to leave out. */
export type Mode = 'exact' | 'threshold';
export const MODES: readonly Mode[] = ['exact', 'threshold'];

export interface SessionOptions {
  /** Default auto. Decides how decode reaches its rows; a prompt's tokens together use nearly all, so prefill is dense. */
  strategy?: Strategy;
  /** `exact` (default) leaves out what contributes nothing; `threshold` what `thresholds` says. */
  mode?: Mode;
  /** Per layer: rows with |act(gate)| at or below it are left out. Needed by, and only for, mode `threshold`. */
  thresholds?: readonly number[];
  /** Tokens prefilled at once. Default 64. */
  prefillChunk?: number;
}

/** What one decode step did. Where no mask reaches the CPU (dense, indexed) there are no updates. */
export interface StepStats {
  /** Active rows of each layer; null for dense, which does not count them. */
  active: number[] | null;
  /** What each layer's slab did; empty unless repack or paired. */
  updates: UpdateStats[];
  submits: number;
  readbacks: number;
}

/** Checks a mode and its thresholds. @throws OptionError */
export function checkMode(
  mode: string,
  thresholds: readonly number[] | undefined,
  layers: number,
): readonly number[] {
  if (!(MODES as readonly string[]).includes(mode)) {
    throw new OptionError(`mode "${mode}" is unknown; use one of ${MODES.join(', ')}.`, { mode });
  }
  if (mode === 'exact') return new Array<number>(layers).fill(0);
  if (!thresholds) {
    throw new OptionError(
      'mode threshold needs a threshold per layer: run `pairslab calibrate` on the model first.',
    );
  }
  if (thresholds.length !== layers || !thresholds.every((t) => Number.isFinite(t) && t >= 0)) {
    throw new OptionError(
      `mode threshold needs ${layers} finite thresholds of 0 or more; got [${thresholds}].`,
      {
        thresholds,
        layers,
      },
    );
  }
  return thresholds;
}

/**
 * One sequence on a loaded model: its key/value cache, its position, and (for repack and paired) the slabs that carry
 * over from token to token. Weights are shared and stay the caller's.
 */
export class LlamaSession {
  readonly device: GPUDevice;
  readonly weights: LlamaWeights;
  readonly strategy: Exclude<Strategy, 'auto'>;
  /** What the last `next` did. */
  lastStep: StepStats = { active: null, updates: [], submits: 0, readbacks: 0 };
  private readonly memory: BufferGroup;
  private readonly slabs: (Slab | undefined)[];
  private readonly thresholds: readonly number[];
  private readonly cache: Cache;
  private readonly decode: LlamaGraph;
  private readonly readback: Readback;
  private readonly chunk: number;
  private prefiller?: LlamaGraph;
  private at = 0;

  /** @throws OptionError for an unknown strategy or mode, or thresholds that do not fit the model. */
  constructor(device: GPUDevice, weights: LlamaWeights, options: SessionOptions = {}) {
    const { config, context } = weights;
    this.strategy = resolveStrategy(options.strategy ?? 'auto');
    this.thresholds = checkMode(options.mode ?? 'exact', options.thresholds, config.layers);
    this.chunk = options.prefillChunk ?? 64;
    if (!Number.isInteger(this.chunk) || this.chunk < 1) {
      throw new OptionError(`prefillChunk must be an integer of 1 or more; it is ${this.chunk}.`);
    }
    this.device = device;
    this.weights = weights;
    this.memory = new BufferGroup(device);
    const packed = this.strategy === 'repack' || this.strategy === 'paired';
    this.slabs = weights.layers.map((layer, l) =>
      packed ? new Slab(layer.mlp, { label: `layer ${l} slab`, pendingUpdates: 1 }) : undefined,
    );
    const bytes = context * config.kvHeads * headQuads(config.headDim) * 16;
    const make = (what: string) =>
      weights.layers.map((_, l) => this.memory.storage(`layer ${l} ${what}`, bytes));
    this.cache = { keys: make('keys'), values: make('values') };
    this.decode = this.graph(1);
    this.readback = new Readback(device, (config.vocabSize + config.layers) * 4);
  }

  /** Tokens in the cache. */
  get position(): number {
    return this.at;
  }

  /** GPU bytes of the session: cache, activations, slabs. Weights are counted by themselves. */
  get bytes(): number {
    return this.memory.bytes + this.slabs.reduce((sum, slab) => sum + (slab?.bytes ?? 0), 0);
  }

  /** Forgets the sequence. Slabs keep their rows: they belong to the model, not to the text. */
  reset(): void {
    this.at = 0;
  }

  /**
   * Feeds a prompt in chunks.
   * @returns the logits after its last token, [vocab].
   * @throws ShapeError when it is empty or does not fit the context, RowError for an unknown id: before any work.
   */
  async prefill(
    ids: ArrayLike<number>,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Float32Array> {
    this.checkIds(ids);
    for (let first = 0; first < ids.length; first += this.chunk) {
      const batch = Math.min(this.chunk, ids.length - first);
      const encoder = this.encodeChunk(Array.prototype.slice.call(ids, first, first + batch));
      const last = first + batch === ids.length;
      if (last) {
        const graph = this.prefillGraph();
        const row = this.decode.xStride * 4;
        encoder.copyBufferToBuffer(graph.normed, (batch - 1) * row, this.decode.normed, 0, row);
        this.decode.setTokens([ids[ids.length - 1]], this.at + batch - 1);
        const pass = encoder.beginComputePass({ label: 'pairslab head' });
        this.decode.encodeHead(pass, 1);
        pass.end();
        this.readback.encodeCopy(encoder, this.decode.logits, 0, 0, this.weights.config.vocabSize * 4);
      }
      this.device.queue.submit([encoder.finish()]);
      this.at += batch;
      onProgress?.(first + batch, ids.length);
    }
    return new Float32Array(await this.readback.read(this.weights.config.vocabSize * 4));
  }

  /**
   * Feeds tokens as `prefill` does. @returns the logits after each of them, [ids, vocab].
   */
  async prefillAll(ids: ArrayLike<number>): Promise<Float32Array> {
    this.checkIds(ids);
    const { vocabSize } = this.weights.config;
    const all = new Float32Array(ids.length * vocabSize);
    const staging = new Readback(this.device, this.chunk * vocabSize * 4);
    try {
      for (let first = 0; first < ids.length; first += this.chunk) {
        const batch = Math.min(this.chunk, ids.length - first);
        const encoder = this.encodeChunk(Array.prototype.slice.call(ids, first, first + batch));
        const graph = this.prefillGraph();
        const pass = encoder.beginComputePass({ label: 'pairslab head' });
        graph.encodeHead(pass, batch);
        pass.end();
        staging.encodeCopy(encoder, graph.logits, 0, 0, batch * vocabSize * 4);
        this.device.queue.submit([encoder.finish()]);
        this.at += batch;
        all.set(new Float32Array(await staging.read(batch * vocabSize * 4)), first * vocabSize);
      }
    } finally {
      staging.destroy();
    }
    return all;
  }

  /**
   * Feeds one token by the session's strategy.
   * @returns the logits after it, [vocab].
   * @throws ShapeError when the context is full, RowError for an unknown id.
   */
  async next(id: number): Promise<Float32Array> {
    this.checkIds([id]);
    this.decode.setTokens([id], this.at);
    const stats: StepStats = { active: null, updates: [], submits: 0, readbacks: 0 };
    const masked = this.strategy === 'repack' || this.strategy === 'paired';
    const commands = masked ? this.finishStep(await this.encodeByMask(stats)) : this.encodeWhole();
    this.device.queue.submit([commands]);
    stats.submits++;
    const { vocabSize, layers } = this.weights.config;
    const counts = this.strategy === 'indexed' ? layers * 4 : 0;
    const read = await this.readback.read(vocabSize * 4 + counts);
    stats.readbacks++;
    if (counts > 0) stats.active = [...new Uint32Array(read, vocabSize * 4, layers)];
    this.at++;
    this.lastStep = stats;
    return new Float32Array(read, 0, vocabSize);
  }

  /**
   * act(gate) of every layer for a prompt of at most `prefillChunk` tokens, as `threshold` mode would look at it:
   * `visit` gets [tokens, N] values per layer, rows `stride` apart. For calibration.
   */
  async visitGates(
    ids: ArrayLike<number>,
    visit: (layer: number, values: Float32Array, stride: number) => void,
  ): Promise<void> {
    this.checkIds(ids);
    if (ids.length > this.chunk)
      throw new ShapeError(`${ids.length} tokens; at most ${this.chunk} at a time.`);
    const graph = this.prefillGraph();
    const batch = ids.length;
    graph.setTokens(ids, this.at);
    const bytes = batch * graph.gateStride * 4;
    const staging = new Readback(this.device, bytes);
    try {
      for (let l = 0; l < graph.layers.length; l++) {
        const encoder = this.device.createCommandEncoder({ label: 'pairslab calibrate' });
        const pass = encoder.beginComputePass({ label: `pairslab layer ${l}` });
        if (l === 0) graph.encodeEmbed(pass, batch);
        this.encodeDenseLayer(graph, pass, l, batch);
        pass.end();
        staging.encodeCopy(encoder, graph.gate, 0, 0, bytes);
        this.device.queue.submit([encoder.finish()]);
        visit(l, new Float32Array(await staging.read(bytes)), graph.gateStride);
      }
      this.at += batch;
    } finally {
      staging.destroy();
    }
  }

  destroy(): void {
    for (const slab of this.slabs) slab?.destroy();
    this.readback.destroy();
    this.memory.destroy();
  }

  private graph(maxBatch: number): LlamaGraph {
    const { thresholds, slabs } = this;
    return new LlamaGraph(this.memory, this.weights, this.cache, { maxBatch, thresholds, slabs });
  }

  private prefillGraph(): LlamaGraph {
    // Two tokens at least: one alone would be the decode graph, which this one must not be.
    this.prefiller ??= this.graph(Math.max(2, this.chunk));
    return this.prefiller;
  }

  private encodeDenseLayer(graph: LlamaGraph, pass: GPUComputePassEncoder, l: number, batch: number): void {
    graph.encodeAttention(pass, l, batch);
    const run = graph.layerRun(batch);
    graph.layers[l].mlp.encodeGate(pass, run);
    graph.layers[l].mlp.encodeDense(pass, run);
  }

  private encodeChunk(ids: readonly number[]): GPUCommandEncoder {
    const graph = this.prefillGraph();
    graph.setTokens(ids, this.at);
    const encoder = this.device.createCommandEncoder({ label: 'pairslab prefill' });
    const pass = encoder.beginComputePass({ label: 'pairslab prefill' });
    graph.encodeEmbed(pass, ids.length);
    for (let l = 0; l < graph.layers.length; l++) this.encodeDenseLayer(graph, pass, l, ids.length);
    graph.encodeFinalNorm(pass, ids.length);
    pass.end();
    return encoder;
  }

  /** Dense and indexed: a whole token in one pass, nothing waits for the CPU. */
  private encodeWhole(): GPUCommandBuffer {
    const graph = this.decode;
    const encoder = this.device.createCommandEncoder({ label: 'pairslab decode' });
    const pass = encoder.beginComputePass({ label: 'pairslab decode' });
    const run = graph.layerRun(1);
    graph.encodeEmbed(pass, 1);
    graph.layers.forEach(({ mlp }, l) => {
      graph.encodeAttention(pass, l, 1);
      mlp.encodeGate(pass, run);
      if (this.strategy === 'dense') mlp.encodeDense(pass, run);
      else {
        mlp.encodeCompact(pass);
        mlp.encodeIndexed(pass, run);
      }
    });
    graph.encodeFinalNorm(pass, 1);
    graph.encodeHead(pass, 1);
    pass.end();
    return this.finishStep(encoder);
  }

  /** Has the logits, and the counts that stayed on the device, copied to where they are read. */
  private finishStep(encoder: GPUCommandEncoder): GPUCommandBuffer {
    const { vocabSize } = this.weights.config;
    this.readback.encodeCopy(encoder, this.decode.logits, 0, 0, vocabSize * 4);
    if (this.strategy === 'indexed') {
      this.decode.layers.forEach(({ mlp }, l) => {
        this.readback.encodeCopy(encoder, mlp.list, 0, vocabSize * 4 + l * 4, 4);
      });
    }
    return encoder.finish();
  }

  /** Repack and paired: each layer's mask comes to the CPU, which plans what its slab must write. */
  private async encodeByMask(stats: StepStats): Promise<GPUCommandEncoder> {
    const graph = this.decode;
    const { device } = this;
    const strategy = this.strategy === 'repack' ? 'repack' : 'paired';
    const run = graph.layerRun(1);
    stats.active = [];
    let encoder = device.createCommandEncoder({ label: 'pairslab decode' });
    let pass = encoder.beginComputePass({ label: 'pairslab decode' });
    graph.encodeEmbed(pass, 1);
    for (let l = 0; l < graph.layers.length; l++) {
      const { mlp } = graph.layers[l];
      graph.encodeAttention(pass, l, 1);
      mlp.encodeGate(pass, run);
      mlp.encodeMask(pass);
      pass.end();
      const bytes = Math.ceil(mlp.rows / 32) * 4;
      this.readback.encodeCopy(encoder, mlp.mask, 0, 0, bytes);
      device.queue.submit([encoder.finish()]);
      stats.submits++;
      const words = new Uint32Array(await this.readback.read(bytes));
      stats.readbacks++;
      const slab = this.slabs[l] as Slab;
      slab.submitted();
      encoder = device.createCommandEncoder({ label: 'pairslab decode' });
      pass = encoder.beginComputePass({ label: 'pairslab decode' });
      const update = slab.encodeUpdate(pass, Bitmask.fromWords(words, mlp.rows), { strategy });
      stats.updates.push(update);
      stats.active.push(slab.active);
      mlp.encodePacked(pass, run);
    }
    graph.encodeFinalNorm(pass, 1);
    graph.encodeHead(pass, 1);
    pass.end();
    return encoder;
  }

  private checkIds(ids: ArrayLike<number>): void {
    const { vocabSize } = this.weights.config;
    const { context } = this.weights;
    if (ids.length === 0) throw new ShapeError('there are no tokens to feed.');
    if (this.at + ids.length > context) {
      throw new ShapeError(
        `${ids.length} more tokens after ${this.at} do not fit the context of ${context}; use a shorter prompt.`,
        { tokens: ids.length, position: this.at, context },
      );
    }
    for (let i = 0; i < ids.length; i++) {
      if (!Number.isInteger(ids[i]) || ids[i] < 0 || ids[i] >= vocabSize) {
        throw new RowError(`token ${i} is ${ids[i]}; ids are integers from 0 to ${vocabSize - 1}.`, {
          id: ids[i],
          i,
        });
      }
    }
  }
}
