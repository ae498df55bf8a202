import { NonFiniteError, OptionError, RowError, ShapeError } from '../errors.js';
import { BufferGroup } from '../gpu/buffers.js';
import { Readback } from '../gpu/readback.js';
import { Bitmask } from '../mask/index.js';
import { type Compute, checkCompute } from '../mlp/compute.js';
import type { Explanation } from '../mlp/cost-model.js';
import { checkStrategy, type Strategy } from '../mlp/strategy.js';
import { Slab } from '../slab/slab.js';
import type { UpdateStats } from '../slab/update-stats.js';
import { AutoLayers } from './auto-layers.js';
import { type Cache, LlamaGraph, MOST_TOKENS } from './graph.js';
import { headQuads, NO_TOKEN } from './kernels.js';
import { checkMode, type Mode } from './mode.js';
import { Prefill } from './prefill.js';
import { Sampler } from './sample.js';
import type { LlamaWeights } from './weights.js';

export interface SessionOptions {
  /** Default auto. Decides how decode and (dense, indexed and auto; see `Prefill`) prefill reach their rows. */
  strategy?: Strategy;
  /** `exact` (default) leaves out what contributes nothing; `threshold` what `thresholds` says. */
  mode?: Mode;
  /** Per layer: rows with |act(gate)| at or below it are left out. Needed by, and only for, mode `threshold`. */
  thresholds?: readonly number[];
  /**
   * What all matrices but down are multiplied in. Default f32. f16 needs weights stored as f16 and a device with
   * `shader-f16`. Logits change by about 1e-3 of their size, so that near ties strategies may choose other tokens.
   */
  compute?: Compute;
  /** Tokens prefilled at once. Default 64. */
  prefillChunk?: number;
}

/** Strategy auto: how long a layer stays dense before its active rows are counted again. */
const TOKENS_BETWEEN_COUNTS = 32;

/** What one decode step did; submits and readbacks are shared by the tokens that went with them. Where no mask reaches the CPU (dense, indexed) there are no updates. */
export interface StepStats {
  /** Active rows of each layer; null for dense, which does not count them. */
  active: number[] | null;
  /** What each layer's slab did; empty unless repack or paired. */
  updates: UpdateStats[];
  submits: number;
  readbacks: number;
}

/**
 * One sequence on a loaded model: its key/value cache, its position, and (for repack and paired) the slabs that carry
 * over from token to token. Weights are shared and stay the caller's.
 */
export class LlamaSession {
  readonly device: GPUDevice;
  readonly weights: LlamaWeights;
  readonly strategy: Strategy;
  readonly compute: Compute;
  /** What the last `next` did. */
  lastStep: StepStats = { active: null, updates: [], submits: 0, readbacks: 0 };
  /** Rows of each layer that the last chunk of the last `prefill` computed: of the union of its masks, or all. */
  lastUnions: number[] | null = null;
  /** Stands between a decode step's ops and its passes, where one is set: how a profiler sees what is dispatched. */
  tap: ((pass: GPUComputePassEncoder) => GPUComputePassEncoder) | null = null;
  /** Sees each layer's mask at each decode step of `repack` and `paired`, which bring it to the CPU anyway. */
  onMask: ((layer: number, mask: Bitmask) => void) | null = null;
  private readonly memory: BufferGroup;
  private readonly slabs: (Slab | undefined)[];
  private readonly thresholds: readonly number[];
  private readonly cache: Cache;
  private readonly decode: LlamaGraph;
  private readonly readback: Readback;
  private readonly chunk: number;
  private prefiller?: Prefill;
  private at = 0;
  private readonly auto: AutoLayers;

  /** @throws OptionError for an unknown strategy or mode, or thresholds that do not fit the model. */
  constructor(device: GPUDevice, weights: LlamaWeights, options: SessionOptions = {}) {
    const { config, context } = weights;
    this.strategy = checkStrategy(options.strategy ?? 'auto');
    this.auto = new AutoLayers(device, weights.layers, 1, TOKENS_BETWEEN_COUNTS);
    this.thresholds = checkMode(options.mode ?? 'exact', options.thresholds, config.layers);
    this.compute = checkCompute(options.compute ?? 'f32', weights.dtype, device);
    this.chunk = options.prefillChunk ?? 64;
    if (!Number.isInteger(this.chunk) || this.chunk < 1) {
      throw new OptionError(`prefillChunk must be an integer of 1 or more; it is ${this.chunk}.`);
    }
    this.device = device;
    this.weights = weights;
    this.memory = new BufferGroup(device);
    this.slabs = weights.layers.map((layer, l) =>
      this.waits ? new Slab(layer.mlp, { label: `layer ${l} slab`, pendingUpdates: 1 }) : undefined,
    );
    const bytes = context * config.kvHeads * headQuads(config.headDim) * 16;
    const make = (what: string) =>
      weights.layers.map((_, l) => this.memory.storage(`layer ${l} ${what}`, bytes));
    this.cache = { keys: make('keys'), values: make('values') };
    this.decode = this.graph(1);
    // Logits or tokens, and after them at most one count for every 32 rows of each token.
    const counts = config.layers * Math.ceil(config.intermediateSize / 32);
    const words = Math.max(config.vocabSize + counts, MOST_TOKENS * (1 + counts));
    this.readback = new Readback(device, words * 4);
  }

  /** Tokens in the cache. */
  get position(): number {
    return this.at;
  }

  /** GPU bytes of the session: cache, activations, slabs. Weights are counted by themselves. */
  get bytes(): number {
    return this.memory.bytes + this.slabs.reduce((sum, slab) => sum + (slab?.bytes ?? 0), 0);
  }

  /**
   * Forgets the sequence, or what comes after its first `position` tokens. Slabs keep their rows: they belong to the
   * model, not to the text.
   * @throws OptionError for a position beyond the session's.
   */
  reset(position = 0): void {
    if (!Number.isInteger(position) || position < 0 || position > this.at) {
      throw new OptionError(`a session of ${this.at} tokens cannot go back to ${position}.`, { position });
    }
    this.at = position;
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
    const logitBytes = this.weights.config.vocabSize * 4;
    let words = 0;
    for (let first = 0; first < ids.length; first += this.chunk) {
      const batch = Math.min(this.chunk, ids.length - first);
      const encoder = this.encodeChunk(ids, first, batch);
      const last = first + batch === ids.length;
      if (last) {
        const { graph } = this.prefilling;
        const row = this.decode.xStride * 4;
        encoder.copyBufferToBuffer(graph.normed, (batch - 1) * row, this.decode.normed, 0, row);
        this.decode.setTokens([ids[ids.length - 1]], this.at + batch - 1);
        const pass = encoder.beginComputePass({ label: 'pairslab head' });
        this.decode.encodeHeadOfNormed(pass);
        pass.end();
        this.readback.encodeCopy(encoder, this.decode.logits, 0, 0, logitBytes);
        words = this.prefilling.encodeCounts(encoder, this.readback, logitBytes);
      }
      this.device.queue.submit([encoder.finish()]);
      this.at += batch;
      onProgress?.(first + batch, ids.length);
    }
    const read = await this.readback.read(logitBytes + words * 4);
    this.lastUnions = this.prefilling.counted(new Uint32Array(read, logitBytes, words));
    return new Float32Array(read.slice(0, logitBytes));
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
        const encoder = this.encodeChunk(ids, first, batch);
        const { graph } = this.prefilling;
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
    const { vocabSize } = this.weights.config;
    const stats: StepStats = { active: null, updates: [], submits: 1, readbacks: 1 };
    if (this.waits) {
      const encoder = await this.encodeByMask(stats);
      this.readback.encodeCopy(encoder, this.decode.logits, 0, 0, vocabSize * 4);
      this.device.queue.submit([encoder.finish()]);
      const logits = new Float32Array(await this.readback.read(vocabSize * 4));
      this.at++;
      this.lastStep = stats;
      return logits;
    }
    const encoder = this.device.createCommandEncoder({ label: 'pairslab decode' });
    this.encodeWhole(encoder);
    this.readback.encodeCopy(encoder, this.decode.logits, 0, 0, vocabSize * 4);
    const words = this.encodeCounts(encoder, vocabSize * 4);
    this.device.queue.submit([encoder.finish()]);
    const read = await this.readback.read((vocabSize + words) * 4);
    this.at++;
    stats.active = this.activeRows(new Uint32Array(read, vocabSize * 4, words));
    if (this.strategy === 'auto' && stats.active) this.auto.counted(stats.active, 1);
    this.lastStep = stats;
    return new Float32Array(read, 0, vocabSize);
  }

  /**
   * Feeds `id`, then `count - 1` times the likeliest token (the lowest id among equals) after what was fed. Unless the
   * strategy needs each mask on the CPU (repack, paired), the tokens never leave the device until all are made: one
   * submit and one readback.
   * @returns the `count` tokens that were the likeliest; the last of them is not fed yet. `steps`: what each step did.
   * @throws OptionError for a count outside 1 to MOST_TOKENS, ShapeError when they do not fit the context, RowError for
   * an unknown id, all before any work; NonFiniteError when logits are not finite.
   */
  async greedy(id: number, count: number): Promise<{ tokens: number[]; steps: StepStats[] }> {
    if (!Number.isInteger(count) || count < 1 || count > MOST_TOKENS)
      throw new OptionError(`count must be an integer from 1 to ${MOST_TOKENS}; it is ${count}.`, { count });
    this.checkIds(new Array<number>(count).fill(id));
    const started = this.at;
    const made = this.waits ? await this.greedyByMask(id, count) : await this.greedyOnDevice(id, count);
    const bad = made.tokens.indexOf(NO_TOKEN);
    if (bad >= 0) {
      this.at = started;
      throw new NonFiniteError(`the logits after token ${started + bad} are not finite.`, {
        position: started + bad,
      });
    }
    return made;
  }

  private async greedyByMask(id: number, count: number): Promise<{ tokens: number[]; steps: StepStats[] }> {
    const sampler = new Sampler();
    const tokens: number[] = [];
    const steps: StepStats[] = [];
    for (let i = 0; i < count; i++) {
      tokens.push(sampler.pick(await this.next(i === 0 ? id : tokens[i - 1])));
      steps.push(this.lastStep);
    }
    return { tokens, steps };
  }

  private async greedyOnDevice(id: number, count: number): Promise<{ tokens: number[]; steps: StepStats[] }> {
    this.decode.setTokens([id], this.at);
    const encoder = this.device.createCommandEncoder({ label: 'pairslab decode' });
    let words = 0;
    for (let i = 0; i < count; i++) {
      this.encodeWhole(encoder, true);
      words += this.encodeCounts(encoder, (MOST_TOKENS + words) * 4);
    }
    this.readback.encodeCopy(encoder, this.decode.made, 0, 0, MOST_TOKENS * 4);
    this.device.queue.submit([encoder.finish()]);
    const read = await this.readback.read((MOST_TOKENS + words) * 4);
    this.at += count;
    const each = words / count;
    const steps = Array.from({ length: count }, (_, i): StepStats => {
      const counts = new Uint32Array(read, (MOST_TOKENS + i * each) * 4, each);
      return { active: this.activeRows(counts), updates: [], submits: 1 / count, readbacks: 1 / count };
    });
    this.lastStep = steps[count - 1];
    if (this.strategy === 'auto') this.auto.counted(meanActive(steps), count);
    return { tokens: [...new Uint32Array(read, 0, count)], steps };
  }

  /**
   * What each layer's next token would cost by each strategy, and which is the cheapest, by the active rows of the last
   * token that counted them (all rows, before the first).
   */
  explain(): Explanation[] {
    return this.auto.explain(this.lastStep.active);
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
    const { graph } = this.prefilling;
    const batch = ids.length;
    graph.setTokens(ids, this.at);
    const bytes = batch * graph.gateStride * 4;
    const staging = new Readback(this.device, bytes);
    try {
      for (let l = 0; l < graph.layers.length; l++) {
        const encoder = this.device.createCommandEncoder({ label: 'pairslab calibrate' });
        const pass = encoder.beginComputePass({ label: `pairslab layer ${l}` });
        if (l === 0) graph.encodeEmbed(pass, batch);
        graph.encodeAttention(pass, l, batch);
        graph.layers[l].mlp.encodeDense(pass, graph.layerRun(batch));
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
    const { thresholds, slabs, compute } = this;
    return new LlamaGraph(this.memory, this.weights, this.cache, { maxBatch, thresholds, slabs, compute });
  }

  private get prefilling(): Prefill {
    // Two tokens at least: one alone would be the decode graph, which this one must not be.
    this.prefiller ??= new Prefill(
      this.device,
      this.weights,
      this.graph(Math.max(2, this.chunk)),
      this.strategy,
    );
    return this.prefiller;
  }

  private encodeChunk(ids: ArrayLike<number>, first: number, batch: number): GPUCommandEncoder {
    const encoder = this.device.createCommandEncoder({ label: 'pairslab prefill' });
    this.prefilling.encode(encoder, Array.prototype.slice.call(ids, first, first + batch), this.at);
    return encoder;
  }

  /**
   * Dense, indexed and auto: a whole token in one pass, nothing waits for the CPU. `follow`: the likeliest token after
   * it becomes the one that the next pass is for.
   */
  private encodeWhole(encoder: GPUCommandEncoder, follow = false): void {
    const graph = this.decode;
    const pass = this.beginDecode(encoder);
    const run = graph.layerRun(1);
    graph.encodeEmbed(pass, 1);
    graph.layers.forEach(({ mlp }, l) => {
      graph.encodeAttention(pass, l, 1);
      if (this.isDense(l)) mlp.encodeDense(pass, run);
      else mlp.encodeActive(pass, run);
    });
    graph.encodeFinalNorm(pass, 1);
    graph.encodeHead(pass, 1);
    if (follow) graph.encodeNextToken(pass);
    pass.end();
  }

  private beginDecode(encoder: GPUCommandEncoder): GPUComputePassEncoder {
    const pass = encoder.beginComputePass({ label: 'pairslab decode' });
    return this.tap ? this.tap(pass) : pass;
  }

  /**
   * Has the counts of active rows that the last token left on the device copied to byte `at` of the readback.
   * @returns how many words they are.
   */
  private encodeCounts(encoder: GPUCommandEncoder, at: number): number {
    let words = 0;
    for (const [l, { mlp }] of this.decode.layers.entries()) {
      if (this.isDense(l)) continue;
      const counts = mlp.counts;
      this.readback.encodeCopy(encoder, counts.buffer, 0, at + words * 4, counts.words * 4);
      words += counts.words;
    }
    return words;
  }

  /** Active rows of each layer, of the words that `encodeCounts` had copied; null for dense, which counts none. */
  private activeRows(words: Uint32Array): number[] | null {
    if (this.strategy === 'dense') return null;
    let at = 0;
    return this.decode.layers.map(({ mlp }, l) => {
      if (this.isDense(l)) return mlp.rows;
      const first = at;
      at += mlp.counts.words;
      return sum(words.subarray(first, at));
    });
  }

  /** Repack and paired: each layer's mask comes to the CPU, which plans what its slab must write. */
  private async encodeByMask(stats: StepStats): Promise<GPUCommandEncoder> {
    const graph = this.decode;
    const { device } = this;
    const strategy = this.strategy === 'repack' ? 'repack' : 'paired';
    const run = graph.layerRun(1);
    stats.active = [];
    let encoder = device.createCommandEncoder({ label: 'pairslab decode' });
    let pass = this.beginDecode(encoder);
    graph.encodeEmbed(pass, 1);
    for (let l = 0; l < graph.layers.length; l++) {
      const { mlp } = graph.layers[l];
      graph.encodeAttention(pass, l, 1);
      mlp.encodeGate(pass, run);
      const mask = mlp.encodeMask(pass);
      pass.end();
      const bytes = Math.ceil(mlp.rows / 32) * 4;
      this.readback.encodeCopy(encoder, mask, 0, 0, bytes);
      device.queue.submit([encoder.finish()]);
      stats.submits++;
      const active = Bitmask.fromWords(new Uint32Array(await this.readback.read(bytes)), mlp.rows);
      stats.readbacks++;
      this.onMask?.(l, active);
      const slab = this.slabs[l] as Slab;
      slab.submitted();
      encoder = device.createCommandEncoder({ label: 'pairslab decode' });
      pass = this.beginDecode(encoder);
      const update = slab.encodeUpdate(pass, active, { strategy });
      stats.updates.push(update);
      stats.active.push(slab.active);
      mlp.encodePacked(pass, run);
    }
    graph.encodeFinalNorm(pass, 1);
    graph.encodeHead(pass, 1);
    pass.end();
    return encoder;
  }

  /** Whether masks must come to the CPU before a layer's rows can be reached. */
  private get waits(): boolean {
    return this.strategy === 'repack' || this.strategy === 'paired';
  }

  /** Whether layer l computes all its rows at this token (dense, indexed and auto). */
  private isDense(l: number): boolean {
    return this.strategy === 'dense' || (this.strategy === 'auto' && this.auto.isDense(l));
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

function meanActive(steps: readonly StepStats[]): number[] {
  const [first] = steps.map(({ active }) => active as number[]);
  return first.map(
    (_, l) => steps.reduce((total, { active }) => total + (active as number[])[l], 0) / steps.length,
  );
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}
