import { DeviceLostError, NonFiniteError, OptionError, ShapeError } from '../errors.js';
import { allocate } from '../gpu/allocate.js';
import { checkLost } from '../gpu/lost.js';
import { Readback } from '../gpu/readback.js';
import type { Bitmask } from '../mask/index.js';
import { type Compute, checkCompute } from '../mlp/compute.js';
import type { Explanation } from '../mlp/cost-model.js';
import { checkStrategy, type Strategy } from '../mlp/strategy.js';
import type { ReadOptions } from '../pool/pool.js';
import type { Slab } from '../slab/slab.js';
import { BudgetedLayers, budgetedStrategy } from './budgeted-layers.js';
import { MOST_TOKENS } from './graph.js';
import { encodeHostPlanned } from './host-planned.js';
import { NO_TOKEN } from './kernels.js';
import { checkMode } from './mode.js';
import { type RowChoice, rowChoice } from './row-choice.js';
import { Sampler } from './sample.js';
import type { SessionOptions, StepStats } from './session-options.js';
import { SessionParts, type SessionShape } from './session-parts.js';
import { checkSlabDtype, makeSlabs } from './session-slabs.js';
import type { LlamaWeights } from './weights.js';
import { checkTokenIds } from './token-ids.js';
import type { Draws } from './token-drawer.js';
import { type LayerGates, visitGates } from './visit-gates.js';
import type { Followed } from './whole-tokens.js';

export type { SessionOptions, StepStats };

/**
 * One sequence on a loaded model: its key/value cache, its position, and (for repack and paired) the slabs that carry
 * over from token to token. Weights are shared and stay the caller's.
 */
export class LlamaSession {
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
  /** Under a budget: what ends reads of rows that are not in memory, and who is told of them. */
  reading: ReadOptions = {};
  /** Of repack and paired, one a layer. */
  readonly slabs: Slab[] = [];
  /** Where the weights are under a budget: all that concerns up and down. */
  readonly budgeted?: BudgetedLayers;
  /** Of modes that choose rows by other things than a threshold. */
  private readonly choice?: RowChoice;
  private readonly chunk: number;
  private readonly shape: SessionShape;
  /** The tokens whose keys and values the cache has. */
  private fed: number[] = [];
  private parts: SessionParts;
  /** A rebuild is under way, or failed. */
  private stale = false;

  /**
   * As `new`, and sure that the device has the memory.
   * @throws DeviceLimitError with the bytes, nothing stays allocated then; what the constructor throws; DeviceLostError.
   */
  static create(device: GPUDevice, weights: LlamaWeights, options?: SessionOptions): Promise<LlamaSession> {
    return allocate(device, () => new LlamaSession(device, weights, options), 'a session');
  }

  /** @throws OptionError for an unknown strategy, mode or slab dtype, or thresholds that do not fit the model. */
  constructor(device: GPUDevice, weights: LlamaWeights, options: SessionOptions = {}) {
    const { config } = weights;
    const strategy = checkStrategy(options.strategy ?? 'auto');
    const thresholds = checkMode(options.mode ?? 'exact', options.thresholds, config.layers);
    this.compute = checkCompute(options.compute ?? 'f32', weights.dtype, device);
    this.chunk = options.prefillChunk ?? 64;
    if (!Number.isInteger(this.chunk) || this.chunk < 1) {
      throw new OptionError(`prefillChunk must be an integer of 1 or more; it is ${this.chunk}.`);
    }
    this.weights = weights;
    const { planOn = 'device' } = options;
    if (planOn !== 'device' && planOn !== 'host') {
      throw new OptionError(`planOn is "${String(planOn)}"; it must be device or host.`, { planOn });
    }
    this.choice = rowChoice(device, weights, options);
    this.strategy = this.choice?.strategy ?? (weights.slots ? budgetedStrategy(strategy) : strategy);
    this.planOn = this.choice?.pick ? 'host' : planOn;
    const packs = !weights.slots && (this.strategy === 'repack' || this.strategy === 'paired');
    checkSlabDtype(options.slabDtype, packs, this.compute);
    if (weights.slots)
      this.budgeted = new BudgetedLayers(
        device,
        weights,
        budgetedStrategy(strategy),
        thresholds,
        options.residency,
      );
    try {
      if (packs) makeSlabs(weights.layers, options, this.slabs);
      const planned = this.strategy === 'paired' && this.planOn === 'device' && this.slabs.length > 0;
      const { slabs, compute, chunk, choice } = this;
      const begin = (encoder: GPUCommandEncoder) => this.beginDecode(encoder);
      const common = { weights, strategy: this.strategy, compute, thresholds, chunk };
      this.shape = { ...common, slabs, planned, choosers: () => choice?.layers, begin };
      this.parts = new SessionParts(device, this.shape);
    } catch (error) {
      this.choice?.destroy();
      this.budgeted?.destroy();
      for (const slab of this.slabs) slab.destroy();
      throw error;
    }
  }

  get device(): GPUDevice {
    return this.parts.device;
  }

  /** Tokens in the cache. */
  get position(): number {
    return this.fed.length;
  }

  /** GPU bytes of the session: cache, activations, slabs. Weights are counted by themselves. */
  get bytes(): number {
    const slabs = this.slabs.reduce((sum, { bytes }) => sum + bytes, 0);
    return this.parts.bytes + slabs + (this.budgeted?.bytes ?? 0) + (this.choice?.bytes ?? 0);
  }

  /**
   * Forgets the sequence, or what comes after its first `position` tokens. Slabs keep their rows: they belong to the
   * model, not to the text.
   * @throws OptionError for a position beyond the session's.
   */
  reset(position = 0): void {
    if (!Number.isInteger(position) || position < 0 || position > this.position) {
      throw new OptionError(`a session of ${this.position} tokens cannot go back to ${position}.`, {
        position,
      });
    }
    this.fed.length = position;
    this.choice?.reset();
  }

  /**
   * Feeds a prompt in chunks.
   * @returns the logits after its last token, [vocab].
   * @throws ShapeError when it is empty or does not fit the context, RowError for an unknown id: before any work. What
   * fails later (DeviceLostError, PoolError) leaves the session where it was.
   */
  async prefill(
    ids: ArrayLike<number>,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Float32Array> {
    this.checkIds(ids);
    return this.orBack(() => this.prefillNow(ids, onProgress));
  }

  private async prefillNow(
    ids: ArrayLike<number>,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Float32Array> {
    await this.parts.makePrefill();
    const logitBytes = this.weights.config.vocabSize * 4;
    let words = 0;
    for (let first = 0; first < ids.length; first += this.chunk) {
      const batch = Math.min(this.chunk, ids.length - first);
      const encoder = await this.encodeChunk(ids, first, batch);
      const last = first + batch === ids.length;
      if (last) {
        const { graph } = this.parts.prefilling;
        const row = this.parts.decode.xStride * 4;
        encoder.copyBufferToBuffer(graph.normed, (batch - 1) * row, this.parts.decode.normed, 0, row);
        this.parts.decode.setTokens([ids[ids.length - 1]], this.position + batch - 1);
        const pass = encoder.beginComputePass({ label: 'pairslab head' });
        this.parts.decode.encodeHeadOfNormed(pass);
        pass.end();
        this.parts.readback.encodeCopy(encoder, this.parts.decode.logits, 0, 0, logitBytes);
        words = this.parts.prefilling.encodeCounts(encoder, this.parts.readback, logitBytes);
      }
      this.device.queue.submit([encoder.finish()]);
      this.feed(ids, first, batch);
      onProgress?.(first + batch, ids.length);
    }
    const read = await this.parts.readback.read(logitBytes + words * 4);
    const counted = this.parts.prefilling.counted(new Uint32Array(read, logitBytes, words));
    this.lastUnions = this.budgeted?.unions ?? counted;
    return new Float32Array(read.slice(0, logitBytes));
  }

  /**
   * Feeds tokens as `prefill` does. @returns the logits after each of them, [ids, vocab].
   */
  async prefillAll(ids: ArrayLike<number>): Promise<Float32Array> {
    this.checkIds(ids);
    await this.parts.makePrefill();
    const { vocabSize } = this.weights.config;
    const all = new Float32Array(ids.length * vocabSize);
    const staging = new Readback(this.device, this.chunk * vocabSize * 4);
    return this.orBack(async () => {
      for (let first = 0; first < ids.length; first += this.chunk) {
        const batch = Math.min(this.chunk, ids.length - first);
        const encoder = await this.encodeChunk(ids, first, batch);
        const { graph } = this.parts.prefilling;
        const pass = encoder.beginComputePass({ label: 'pairslab head' });
        graph.encodeHead(pass, batch);
        pass.end();
        staging.encodeCopy(encoder, graph.logits, 0, 0, batch * vocabSize * 4);
        this.device.queue.submit([encoder.finish()]);
        this.feed(ids, first, batch);
        all.set(new Float32Array(await staging.read(batch * vocabSize * 4)), first * vocabSize);
      }
      return all;
    }).finally(() => staging.destroy());
  }

  /**
   * Feeds one token by the session's strategy.
   * @returns the logits after it, [vocab].
   * @throws ShapeError when the context is full, RowError for an unknown id; DeviceLostError. Position and slabs are then
   * as they were.
   */
  async next(id: number): Promise<Float32Array> {
    this.checkIds([id]);
    if (!this.waits) {
      const { logits, step } = await this.parts.whole.next(id, this.position);
      this.fed.push(id);
      if (this.strategy === 'auto' && step.active) this.parts.auto.counted(step.active, 1);
      this.lastStep = step;
      return logits;
    }
    const logitBytes = this.weights.config.vocabSize * 4;
    const stats: StepStats = { active: null, updates: [], submits: 1, readbacks: 1 };
    const strategy = this.strategy === 'repack' ? 'repack' : 'paired';
    const before = this.slabs.map(({ version }) => version);
    try {
      this.parts.decode.setTokens([id], this.position);
      const encoder = await (this.budgeted
        ? this.budgeted.encodeToken(this.parts.decode, stats, this)
        : encodeHostPlanned(
            this.parts.decode,
            this.slabs,
            strategy,
            this.parts.readback,
            stats,
            this,
            this.choice?.pick,
          ));
      this.parts.readback.encodeCopy(encoder, this.parts.decode.logits, 0, 0, logitBytes);
      this.device.queue.submit([encoder.finish()]);
      const logits = new Float32Array(await this.parts.readback.read(logitBytes));
      this.fed.push(id);
      this.lastStep = stats;
      return logits;
    } catch (error) {
      if (error instanceof DeviceLostError)
        for (const [l, slab] of this.slabs.entries()) if (slab.version !== before[l]) slab.takeBack();
      throw error;
    }
  }

  /**
   * Feeds `id`, then `count - 1` times the token that the sampler picks after what was fed; by default the likeliest, of
   * equals the lowest id. Unless each mask is needed on the CPU (under a budget, repack, and paired planned there), the
   * tokens never leave the device until all are made: one submit and one readback. Under a budget the likeliest tokens
   * do not either, but each layer's mask does.
   * @returns the `count` tokens that were picked; the last of them is not fed yet. `steps`: what each step did.
   * @throws OptionError for a count outside 1 to MOST_TOKENS, ShapeError when they do not fit the context, RowError for
   * an unknown id, all before any work; NonFiniteError when logits are not finite; what `next` throws. Whatever is thrown,
   * session and sampler stand where they stood, and the same run can be tried again.
   */
  async follow(id: number, count: number, sampler = new Sampler()): Promise<Followed> {
    if (!Number.isInteger(count) || count < 1 || count > MOST_TOKENS)
      throw new OptionError(`count must be an integer from 1 to ${MOST_TOKENS}; it is ${count}.`, { count });
    this.checkIds(new Array<number>(count).fill(id));
    const words = sampler.ahead(count);
    return this.orBack(async () => {
      // Under a budget only masks are waited for; what draws tokens on the device is not told of their layers.
      const onDevice = !this.waits || (this.budgeted && sampler.greedy);
      const made = !onDevice
        ? await this.followByMask(id, count, (logits, i) => sampler.pickBy(logits, words[i]))
        : await this.followOnDevice(id, count, sampler.greedy ? undefined : { sampler, words });
      sampler.take(count);
      return made;
    });
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
    const made = await (this.budgeted
      ? this.budgeted.follow(this.parts.decode, id, this.position, count, this)
      : this.parts.whole.follow(id, this.position, count, draws));
    const position = this.position + made.tokens.indexOf(NO_TOKEN);
    if (position >= this.position)
      throw new NonFiniteError(`the logits after token ${position} are not finite.`, { position });
    this.fed.push(id, ...made.tokens.slice(0, -1));
    this.lastStep = made.steps[count - 1];
    if (this.strategy === 'auto') this.parts.auto.counted(meanActive(made.steps), count);
    return made;
  }

  /**
   * What each layer's next token would cost by each strategy, and which is the cheapest, by the active rows of the last
   * token that counted them (all rows, before the first).
   */
  explain(): Explanation[] {
    return this.parts.auto.explain(this.lastStep.active);
  }

  /** Each layer's gates and inputs for a prompt of at most `prefillChunk` tokens, every row computed. For calibration. */
  async visitGates(ids: ArrayLike<number>, visit: (layer: number, found: LayerGates) => void): Promise<void> {
    this.checkIds(ids);
    if (this.budgeted)
      throw new OptionError('weights under a budget cannot be calibrated: load them without one.');
    if (ids.length > this.chunk)
      throw new ShapeError(`${ids.length} tokens; at most ${this.chunk} at a time.`);
    await this.parts.makePrefill();
    await visitGates(this.device, this.parts.prefilling.graph, ids, this.position, visit);
    this.feed(ids, 0, ids.length);
  }

  /**
   * Brings the session to `device`, and its weights too where they are not there yet (`LlamaWeights.rebuild`). The cache
   * is computed anew from the tokens that were fed; slabs hold the rows that the host knew in them. Position, strategy and
   * text go on as if nothing had been.
   * @throws what the weights' `rebuild`, the constructor and `prefill` throw; the session can then only be rebuilt.
   */
  async rebuild(device: GPUDevice): Promise<void> {
    const { weights, fed, slabs } = this;
    if (this.compute === 'f16') checkCompute('f16', weights.dtype, device);
    if (weights.device !== device) await weights.rebuild(device);
    this.stale = true;
    this.parts.destroy();
    await this.budgeted?.rebuild(device);
    for (const slab of slabs) await slab.rebuild(device);
    this.choice?.rebuild(device);
    this.parts = await allocate(device, () => new SessionParts(device, this.shape), 'a session');
    this.fed = [];
    try {
      if (fed.length > 0) await this.prefillNow(fed);
    } finally {
      this.fed = fed;
    }
    this.stale = false;
  }

  destroy(): void {
    this.parts.destroy();
    this.choice?.destroy();
    this.budgeted?.destroy();
    for (const slab of this.slabs) slab.destroy();
  }

  private feed(ids: ArrayLike<number>, first: number, count: number): void {
    for (let i = first; i < first + count; i++) this.fed.push(ids[i]);
  }

  /** Does `work`; when it fails the session is where it was before. */
  private async orBack<T>(work: () => Promise<T>): Promise<T> {
    const { fed } = this;
    const before = fed.length;
    try {
      return await work();
    } catch (error) {
      fed.length = before;
      throw error;
    }
  }

  private async encodeChunk(
    ids: ArrayLike<number>,
    first: number,
    batch: number,
  ): Promise<GPUCommandEncoder> {
    const chunk: number[] = Array.prototype.slice.call(ids, first, first + batch);
    if (this.budgeted)
      return this.budgeted.encodeChunk(this.parts.prefilling.graph, chunk, this.position, this);
    const encoder = this.device.createCommandEncoder({ label: 'pairslab prefill' });
    this.parts.prefilling.encode(encoder, chunk, this.position);
    return encoder;
  }

  private beginDecode(encoder: GPUCommandEncoder): GPUComputePassEncoder {
    const pass = encoder.beginComputePass({ label: 'pairslab decode' });
    return this.tap ? this.tap(pass) : pass;
  }

  /** Whether masks must come to the CPU before a layer's rows can be reached. */
  private get waits(): boolean {
    if (this.budgeted) return true;
    return this.strategy === 'repack' || (this.strategy === 'paired' && !this.parts.resident);
  }

  private checkIds(ids: ArrayLike<number>): void {
    checkLost(this.device);
    if (this.stale) {
      throw new DeviceLostError('the session lost its device and is not rebuilt yet: await rebuild(device).');
    }
    checkTokenIds(ids, this.position, this.weights);
  }
}

function meanActive(steps: readonly StepStats[]): number[] {
  const [first] = steps.map(({ active }) => active as number[]);
  return first.map(
    (_, l) => steps.reduce((total, { active }) => total + (active as number[])[l], 0) / steps.length,
  );
}
