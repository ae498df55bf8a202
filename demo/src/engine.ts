import {
  type Checkpoint,
  calibrate,
  type DecodeRun,
  generate,
  type GenerateStats,
  LlamaSession,
  type LlamaWeights,
  loadWeights,
  openCheckpoint,
  Sampler,
} from '../../src/llama/index.js';
import { checkLost } from '../../src/gpu/lost.js';
import { DeviceLostError, type Recover, recovering } from '../../src/index.js';
import type { ModelFolder } from '../../src/pool/index.js';
import { parseBudget } from '../../src/residency/index.js';
// Of the command line's, but it asks nothing of Node.
import { openTokenizer, type TextCodec, TextStream } from '../../src/node/text.js';
import { needsSession, needsWeights, type Settings } from './settings.js';

/** Tokens that thresholds are found on. */
const CALIBRATION_TOKENS = 256;

export interface EngineEvents {
  /** How far a model's weights are. */
  onLoad(done: number, total: number, name: string): void;
  /** A short word on what is being done; empty when it is done. */
  onBusy(what: string): void;
  /**
   * There is a session with these settings, or it was brought to another device; null when there is none any more: its
   * buffers are about to go.
   */
  onSession(session: LlamaSession | null): void;
  /** Settings could not be taken up; those before stay in force. */
  onRefused(error: unknown): void;
}

export interface Request {
  prompt: string;
  maxTokens: number;
  temperature: number;
  seed: number;
  signal: AbortSignal;
  onText(text: string): void;
  onRun(run: DecodeRun): void | Promise<void>;
}

/** What a request came to. */
export interface Answer {
  tokens: number[];
  stoppedBy: GenerateStats['stoppedBy'];
  /** Seconds from the request to its first token, of a prompt of so many tokens. */
  timeToFirstToken: number;
  promptTokens: number;
  /** Of the last settings that were in force. */
  stats: GenerateStats;
}

/**
 * One model on one device, with what is switched while it writes: a switch makes a new session, fed the text so far. When
 * the device is lost all goes on on the one that `recover` gives.
 */
export class Engine {
  readonly checkpoint: Checkpoint;
  readonly codec: TextCodec;
  /** The device that was seen last. */
  private base: GPUDevice;
  private readonly events: EngineEvents;
  private readonly recover: Recover;
  /** A text to find thresholds on. */
  private readonly sample: () => Promise<string>;
  private readonly thresholds = new Map<number, readonly number[]>();
  private weights: LlamaWeights | null = null;
  private session: LlamaSession | null = null;
  /** In force, and wanted. */
  private now: Settings | null = null;
  private wanted: Settings;
  /** Ends the run that is under way, for a switch. */
  private turn = new AbortController();
  /** What comes after what is under way. */
  private queue: Promise<unknown> = Promise.resolve();

  private constructor(
    device: GPUDevice,
    checkpoint: Checkpoint,
    codec: TextCodec,
    settings: Settings,
    sample: () => Promise<string>,
    events: EngineEvents,
    recover: Recover,
  ) {
    this.base = device;
    this.checkpoint = checkpoint;
    this.codec = codec;
    this.wanted = settings;
    this.sample = sample;
    this.events = events;
    this.recover = recover;
  }

  /** Reads the model's description and loads its weights. @throws what reading and loading throw. */
  static async open(
    device: GPUDevice,
    folder: ModelFolder,
    settings: Settings,
    sample: () => Promise<string>,
    events: EngineEvents,
    recover: Recover,
  ): Promise<Engine> {
    const checkpoint = await openCheckpoint(folder);
    const codec = await openTokenizer(folder);
    const engine = new Engine(device, checkpoint, codec, settings, sample, events, recover);
    await engine.apply(settings);
    return engine;
  }

  /** Where the model is, or will be. */
  get device(): GPUDevice {
    return this.session?.device ?? this.base;
  }

  get current(): LlamaSession | null {
    return this.session;
  }

  /** The settings in force. */
  get settings(): Settings {
    return this.now ?? this.wanted;
  }

  /** Takes up settings: at once when nothing is being written, else after the tokens that are under way. */
  async apply(settings: Settings): Promise<void> {
    this.wanted = settings;
    this.turn.abort();
    await this.next(() => this.ready());
  }

  /** Takes what there is to another device if its own was lost. */
  revive(): Promise<void> {
    return this.next(() => recovering(this, this.recover, async () => checkLost(this.device)));
  }

  /** For `recovering`. */
  async rebuild(device: GPUDevice): Promise<void> {
    await this.session?.rebuild(device);
    this.base = device;
    if (this.session) this.events.onSession(this.session);
  }

  /** Writes on from a prompt. Settings that are applied on the way are taken up between two tokens. */
  write(request: Request): Promise<Answer> {
    return this.next(() => this.writeNow(request));
  }

  destroy(): void {
    this.dropSession();
    this.weights?.destroy();
    this.weights = null;
    this.now = null;
  }

  private async writeNow(request: Request): Promise<Answer> {
    const { prompt, maxTokens, temperature, seed, signal, onText, onRun } = request;
    const promptIds = this.codec.encode(prompt);
    const sampler = new Sampler({ temperature, seed });
    const stream = new TextStream(this.codec);
    const tokens: number[] = [];
    let timeToFirstToken: number | undefined;
    for (;;) {
      const session = await this.ready();
      this.turn = new AbortController();
      const { stats } = await generate(session, {
        promptIds: [...promptIds, ...tokens],
        maxTokens: maxTokens - tokens.length,
        sampler,
        signal: AbortSignal.any([signal, this.turn.signal]),
        onToken: (id) => {
          tokens.push(id);
          const text = stream.push(id);
          if (text) onText(text);
        },
        onRun: (run) => {
          this.moved(session);
          return onRun(run);
        },
        recover: this.recover,
      });
      this.moved(session);
      timeToFirstToken ??= stats.timeToFirstToken;
      const { stoppedBy } = stats;
      if (
        stoppedBy === 'abort' &&
        !signal.aborted &&
        promptIds.length + tokens.length <= session.weights.context
      )
        continue;
      onText(stream.end());
      return { tokens, stoppedBy, timeToFirstToken, promptTokens: promptIds.length, stats };
    }
  }

  /** `session` may have been brought to another device, and its weights with it. */
  private moved(session: LlamaSession): void {
    if (session.device === this.base) return;
    this.base = session.device;
    this.events.onSession(session);
  }

  private ready(): Promise<LlamaSession> {
    return recovering(this, this.recover, () => this.prepare());
  }

  /** The session of the wanted settings, empty; of those before where the wanted ones cannot be had. */
  private async prepare(): Promise<LlamaSession> {
    const { wanted, now, session } = this;
    if (session && now && !needsSession(now, wanted)) {
      this.now = wanted;
      session.reset();
      return session;
    }
    try {
      return await this.make(wanted);
    } catch (error) {
      if (!session || !now || error instanceof DeviceLostError) throw error;
      if (this.wanted === wanted) this.wanted = now;
      this.events.onRefused(error);
      session.reset();
      return session;
    } finally {
      this.events.onBusy('');
    }
  }

  private async make(wanted: Settings): Promise<LlamaSession> {
    const { strategy, mode } = wanted;
    const thresholds = mode === 'threshold' ? await this.calibrated(wanted.sparsity) : undefined;
    const old = this.weights;
    // Beside the old ones: those stay in force when these cannot be had.
    const weights = old && this.now && !needsWeights(this.now, wanted) ? old : await this.load(wanted);
    let session: LlamaSession;
    try {
      session = new LlamaSession(this.device, weights, { strategy, mode, thresholds });
    } catch (error) {
      if (weights !== old) weights.destroy();
      throw error;
    }
    this.dropSession();
    if (weights !== old) old?.destroy();
    this.session = session;
    this.weights = weights;
    this.now = wanted;
    this.events.onSession(session);
    return session;
  }

  private load({ dtype, budget }: Pick<Settings, 'dtype' | 'budget'>): Promise<LlamaWeights> {
    this.events.onBusy('loading weights');
    return loadWeights(this.device, this.checkpoint, {
      dtype: this.checkpoint.bundle?.dtype ?? dtype,
      budget: budget < 100 ? parseBudget(`${budget}%`) : undefined,
      onProgress: (done, total, name) => this.events.onLoad(done, total, name),
    });
  }

  /** A threshold for each layer that leaves out so many percent of the rows. Found once, on weights without a budget. */
  private async calibrated(sparsity: number): Promise<readonly number[]> {
    const known = this.thresholds.get(sparsity);
    if (known) return known;
    const own = this.weights?.slots === null ? null : await this.load({ dtype: 'f16', budget: 100 });
    try {
      this.events.onBusy('finding thresholds');
      const session = new LlamaSession(this.device, own ?? (this.weights as LlamaWeights));
      try {
        const ids = this.codec.encode(await this.sample());
        const options = {
          sparsity: sparsity / 100,
          tokens: CALIBRATION_TOKENS,
          onProgress: (done: number, total: number) => this.events.onLoad(done, total, 'finding thresholds'),
        };
        const { thresholds } = await calibrate(session, ids, options);
        this.thresholds.set(sparsity, thresholds);
        return thresholds;
      } finally {
        session.destroy();
      }
    } finally {
      own?.destroy();
    }
  }

  private dropSession(): void {
    if (!this.session) return;
    this.events.onSession(null);
    this.session.destroy();
    this.session = null;
  }

  /** One thing at a time, in the order asked for. */
  private next<T>(what: () => Promise<T>): Promise<T> {
    const turn = this.queue.then(what);
    this.queue = turn.catch(() => {});
    return turn as Promise<T>;
  }
}
