import { NonFiniteError, OptionError, ShapeError } from '../errors.js';
import { BufferGroup } from '../gpu/buffers.js';
import { Readback } from '../gpu/readback.js';
import type { Bitmask } from '../mask/index.js';
import { type Compute, checkCompute } from '../mlp/compute.js';
import type { Explanation } from '../mlp/cost-model.js';
import { checkStrategy, type Strategy } from '../mlp/strategy.js';
import { COUNT_WORDS } from '../slab/device-planner.js';
import type { Slab } from '../slab/slab.js';
import type { UpdateStats } from '../slab/update-stats.js';
import { AutoLayers } from './auto-layers.js';
import { BudgetedLayers, budgetedStrategy, type SessionResidency } from './budgeted-layers.js';
import { type Cache, LlamaGraph, MOST_TOKENS } from './graph.js';
import { encodeHostPlanned } from './host-planned.js';
import { headQuads, NO_TOKEN } from './kernels.js';
import { checkMode, type Mode } from './mode.js';
import { Prefill } from './prefill.js';
import { ResidentLayers } from './resident.js';
import { Sampler } from './sample.js';
import { checkSlabDtype, makeSlabs, type SlabsOptions } from './session-slabs.js';
import type { LlamaWeights } from './weights.js';
import { checkTokenIds } from './token-ids.js';
import type { Draws } from './token-drawer.js';
import { type Followed, WholeTokens } from './whole-tokens.js';

export interface SessionOptions extends SlabsOptions {
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
  /**
   * Where strategy paired finds out what its slabs must write. `device` (default): a token, or several, are one submit and
   * one readback. `host`: each layer's mask comes to the CPU and is waited for.
   */
  planOn?: 'device' | 'host';
  /** For weights loaded under a budget, where masks come to the host, whatever `planOn` says. */
  residency?: SessionResidency;
}

/** Strategy auto: how long a layer stays dense before its active rows are counted again. */
const TOKENS_BETWEEN_COUNTS = 32;

/** What one decode step did; submits and readbacks are shared by the tokens that went with them. Where there are no slabs (dense, indexed, auto) there are no updates. */
export interface StepStats {
  /** Active rows of each layer; null for dense, which does not count them. */
  active: number[] | null;
  /** What each layer's slab did; empty unless repack or paired. */
  updates: UpdateStats[];
  submits: number;
  readbacks: number;
  /** Layers whose rows did not fit in their slabs, so that the token was done again, through index lists. */
  redone?: readonly number[];
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
  readonly planOn: 'device' | 'host';
  /** What the last `next` did. */
  lastStep: StepStats = { active: null, updates: [], submits: 0, readbacks: 0 };
  /** Rows of each layer that the last chunk of the last `prefill` computed: of the union of its masks, or all. */
  lastUnions: number[] | null = null;
  /** Stands between a decode step's ops and its passes, where one is set: how a profiler sees what is dispatched. */
  tap: ((pass: GPUComputePassEncoder) => GPUComputePassEncoder) | null = null;
  /** Sees each layer's mask at each decode step that brings it to the CPU anyway: `repack`, and `paired` planned there. */
  onMask: ((layer: number, mask: Bitmask) => void) | null = null;
  private readonly memory: BufferGroup;
  private readonly slabs: readonly Slab[];
  /** Of paired that is planned on the device. */
  private readonly resident?: ResidentLayers;
  /** Where the weights are under a budget: all that concerns up and down. */
  private readonly budgeted?: BudgetedLayers;
  private readonly whole: WholeTokens;
  private readonly thresholds: readonly number[];
  private readonly cache: Cache;
  private readonly decode: LlamaGraph;
  private readonly readback: Readback;
  private readonly chunk: number;
  private prefiller?: Prefill;
  private at = 0;
  private readonly auto: AutoLayers;

  /** @throws OptionError for an unknown strategy, mode or slab dtype, or thresholds that do not fit the model. */
  constructor(device: GPUDevice, weights: LlamaWeights, options: SessionOptions = {}) {
    const { config, context } = weights;
    const strategy = checkStrategy(options.strategy ?? 'auto');
    this.strategy = weights.slots ? budgetedStrategy(strategy) : strategy;
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
    const { planOn = 'device' } = options;
    if (planOn !== 'device' && planOn !== 'host') {
      throw new OptionError(`planOn is "${String(planOn)}"; it must be device or host.`, { planOn });
    }
    this.planOn = planOn;
    if (weights.slots)
      this.budgeted = new BudgetedLayers(device, weights, budgetedStrategy(strategy), options.residency);
    const packs = !this.budgeted && (this.strategy === 'repack' || this.strategy === 'paired');
    checkSlabDtype(options.slabDtype, packs, this.compute);
    const slabs = packs ? makeSlabs(weights.layers, options) : [];
    this.slabs = slabs;
    if (packs && this.strategy === 'paired' && planOn === 'device')
      this.resident = new ResidentLayers(this.memory, slabs);
    const bytes = context * config.kvHeads * headQuads(config.headDim) * 16;
    const make = (what: string) =>
      weights.layers.map((_, l) => this.memory.storage(`layer ${l} ${what}`, bytes));
    this.cache = { keys: make('keys'), values: make('values') };
    this.decode = this.graph(1);
    // Logits or tokens, and after them each token's counts: at most one for every 32 rows, or what a slab's update leaves.
    const counts = config.layers * Math.max(COUNT_WORDS, Math.ceil(config.intermediateSize / 32));
    const words = Math.max(config.vocabSize + counts, MOST_TOKENS * (1 + counts));
    this.readback = new Readback(device, words * 4);
    this.whole = new WholeTokens(device, this.decode, this.readback, {
      countsNone: this.strategy === 'dense',
      isDense: (l) => this.isDense(l),
      resident: this.resident,
      begin: (encoder) => this.beginDecode(encoder),
    });
  }

  /** Tokens in the cache. */
  get position(): number {
    return this.at;
  }

  /** GPU bytes of the session: cache, activations, slabs. Weights are counted by themselves. */
  get bytes(): number {
    const slabs = this.slabs.reduce((sum, { bytes }) => sum + bytes, 0);
    return this.memory.bytes + slabs + (this.resident?.bytes ?? 0) + (this.budgeted?.bytes ?? 0);
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
      const encoder = await this.encodeChunk(ids, first, batch);
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
    const counted = this.prefilling.counted(new Uint32Array(read, logitBytes, words));
    this.lastUnions = this.budgeted?.unions ?? counted;
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
        const encoder = await this.encodeChunk(ids, first, batch);
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
    if (!this.waits) {
      const { logits, step } = await this.whole.next(id, this.at);
      this.at++;
      if (this.strategy === 'auto' && step.active) this.auto.counted(step.active, 1);
      this.lastStep = step;
      return logits;
    }
    const logitBytes = this.weights.config.vocabSize * 4;
    const stats: StepStats = { active: null, updates: [], submits: 1, readbacks: 1 };
    const strategy = this.strategy === 'repack' ? 'repack' : 'paired';
    this.decode.setTokens([id], this.at);
    const encoder = await (this.budgeted
      ? this.budgeted.encodeToken(this.decode, this.readback, stats, this)
      : encodeHostPlanned(this.decode, this.slabs, strategy, this.readback, stats, this));
    this.readback.encodeCopy(encoder, this.decode.logits, 0, 0, logitBytes);
    this.device.queue.submit([encoder.finish()]);
    const logits = new Float32Array(await this.readback.read(logitBytes));
    this.at++;
    this.lastStep = stats;
    return logits;
  }

  /**
   * Feeds `id`, then `count - 1` times the token that the sampler picks after what was fed; by default the likeliest, of
   * equals the lowest id. Unless each mask is needed on the CPU (under a budget, repack, and paired planned there), the
   * tokens never leave the device until all are made: one submit and one readback.
   * @returns the `count` tokens that were picked; the last of them is not fed yet. `steps`: what each step did.
   * @throws OptionError for a count outside 1 to MOST_TOKENS, ShapeError when they do not fit the context, RowError for
   * an unknown id, all before any work; NonFiniteError when logits are not finite; what `next` throws. Whatever is thrown,
   * session and sampler stand where they stood, and the same run can be tried again.
   */
  async follow(id: number, count: number, sampler = new Sampler()): Promise<Followed> {
    if (!Number.isInteger(count) || count < 1 || count > MOST_TOKENS)
      throw new OptionError(`count must be an integer from 1 to ${MOST_TOKENS}; it is ${count}.`, { count });
    this.checkIds(new Array<number>(count).fill(id));
    const started = this.at;
    const words = sampler.ahead(count);
    try {
      const made = this.waits
        ? await this.followByMask(id, count, (logits, i) => sampler.pickBy(logits, words[i]))
        : await this.followOnDevice(id, count, sampler.greedy ? undefined : { sampler, words });
      sampler.take(count);
      return made;
    } catch (error) {
      this.at = started;
      throw error;
    }
  }

  /** `follow` to the likeliest tokens. */
  greedy(id: number, count: number): Promise<Followed> {
    return this.follow(id, count);
  }

  private async followByMask(
    id: number,
    count: number,
    pick: (logits: Float32Array, i: number) => number,
  ): Promise<Followed> {
    const tokens: number[] = [];
    const steps: StepStats[] = [];
    for (let i = 0; i < count; i++) {
      tokens.push(pick(await this.next(i === 0 ? id : tokens[i - 1]), i));
      steps.push(this.lastStep);
    }
    return { tokens, steps };
  }

  private async followOnDevice(id: number, count: number, draws?: Draws): Promise<Followed> {
    const made = await this.whole.follow(id, this.at, count, draws);
    const position = this.at + made.tokens.indexOf(NO_TOKEN);
    if (position >= this.at)
      throw new NonFiniteError(`the logits after token ${position} are not finite.`, { position });
    this.at += count;
    this.lastStep = made.steps[count - 1];
    if (this.strategy === 'auto') this.auto.counted(meanActive(made.steps), count);
    return made;
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
    if (this.budgeted)
      throw new OptionError('weights under a budget cannot be calibrated: load them without one.');
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
    this.resident?.destroy();
    this.budgeted?.destroy();
    for (const slab of this.slabs) slab.destroy();
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

  private async encodeChunk(
    ids: ArrayLike<number>,
    first: number,
    batch: number,
  ): Promise<GPUCommandEncoder> {
    const chunk: number[] = Array.prototype.slice.call(ids, first, first + batch);
    if (this.budgeted) return this.budgeted.encodeChunk(this.prefilling.graph, chunk, this.at, this.readback);
    const encoder = this.device.createCommandEncoder({ label: 'pairslab prefill' });
    this.prefilling.encode(encoder, chunk, this.at);
    return encoder;
  }

  private beginDecode(encoder: GPUCommandEncoder): GPUComputePassEncoder {
    const pass = encoder.beginComputePass({ label: 'pairslab decode' });
    return this.tap ? this.tap(pass) : pass;
  }

  /** Whether masks must come to the CPU before a layer's rows can be reached. */
  private get waits(): boolean {
    if (this.budgeted) return true;
    return this.strategy === 'repack' || (this.strategy === 'paired' && !this.resident);
  }

  /** Whether layer l computes all its rows at this token (dense, indexed and auto). */
  private isDense(l: number): boolean {
    return this.strategy === 'dense' || (this.strategy === 'auto' && this.auto.isDense(l));
  }

  private checkIds(ids: ArrayLike<number>): void {
    checkTokenIds(ids, this.at, this.weights);
  }
}

function meanActive(steps: readonly StepStats[]): number[] {
  const [first] = steps.map(({ active }) => active as number[]);
  return first.map(
    (_, l) => steps.reduce((total, { active }) => total + (active as number[])[l], 0) / steps.length,
  );
}
