import { OptionError } from '../errors.js';
import { makeRecovering, type Recover, recovering } from '../gpu/recovering.js';
import type { ModelFolder } from '../io/byte-source.js';
import { AbortableFolder } from '../io/abortable-folder.js';
import { openCheckpoint } from './checkpoint.js';
import type { LlamaConfig } from './config.js';
import { generate, type GenerateOptions, type GenerateStats } from './generate.js';
import { Sampler, type SamplerOptions } from './sample.js';
import { LlamaSession, type SessionOptions } from './session.js';
import { type LlamaWeights, type LoadOptions, loadWeights } from './weights.js';

export interface RunnerOptions {
  /** How weights are loaded, e.g. their dtype or a budget. */
  weights?: Omit<LoadOptions, 'onProgress'>;
  /** How the session runs, e.g. its strategy and mode. */
  session?: SessionOptions;
  onProgress?: LoadOptions['onProgress'];
  /** Ends the loading. */
  signal?: AbortSignal;
  /**
   * Gives another device when the model's is lost, e.g. `recovery()`: loading begins anew there, and requests go on where
   * they were. The folder must stay readable. Without it they throw DeviceLostError, and `rebuild` is the caller's.
   */
  recover?: Recover;
}

/** One text to go on with. */
export interface RunnerRequest
  extends Pick<GenerateOptions, 'promptIds' | 'maxTokens' | 'stopIds' | 'onToken' | 'onPrefill' | 'signal'> {
  /** Default: greedy. */
  sampling?: SamplerOptions;
}

export interface RunnerResult {
  tokens: number[];
  /** Of the prompt, `promptTokens` were prefilled now, and `cachedTokens` were there from the call before. */
  stats: GenerateStats & { cachedTokens: number };
}

/**
 * A model that answers one request after the other: weights and a session that carries over what the next prompt has in
 * common with the last text, as the turns of a chat do. It owns both.
 */
export class LlamaRunner {
  readonly weights: LlamaWeights;
  private readonly session: LlamaSession;
  private readonly recover?: Recover;
  /** The tokens that are in the session's cache. */
  private fed: number[] = [];
  private turn: Promise<unknown> = Promise.resolve();
  private closed = false;

  /** @throws what `openCheckpoint`, `loadWeights`, `LlamaSession` and `recovering` throw; the signal's reason. */
  static async load(
    device: GPUDevice,
    folder: ModelFolder,
    { weights, session, onProgress, signal, recover }: RunnerOptions = {},
  ): Promise<LlamaRunner> {
    const source = signal && new AbortableFolder(folder, signal);
    const checkpoint = await openCheckpoint(source ?? folder);
    const made = await makeRecovering(device, recover, async (on) => {
      const loaded = await loadWeights(on, checkpoint, { ...weights, onProgress });
      try {
        return new LlamaRunner(loaded, new LlamaSession(on, loaded, session), recover);
      } catch (error) {
        loaded.destroy();
        throw error;
      }
    });
    source?.release();
    return made;
  }

  private constructor(weights: LlamaWeights, session: LlamaSession, recover?: Recover) {
    this.weights = weights;
    this.session = session;
    this.recover = recover;
  }

  /** Where the model is. */
  get device(): GPUDevice {
    return this.session.device;
  }

  get config(): LlamaConfig {
    return this.weights.config;
  }

  /** GPU bytes of weights and session. */
  get bytes(): number {
    return this.weights.bytes + this.session.bytes;
  }

  /**
   * Prefills what of the prompt is new, and decodes. Calls take turns. One that is aborted ends with what it has, but
   * throws the signal's reason when it has not begun.
   * @throws ShapeError for a prompt that is empty or does not fit the context; OptionError once it is destroyed; what
   * `Sampler` and `generate` throw; AdapterError when the device is lost and there is no other. The next request starts
   * from nothing then.
   */
  generate(request: RunnerRequest): Promise<RunnerResult> {
    return this.inTurn(async () => {
      request.signal?.throwIfAborted();
      const sampler = new Sampler(request.sampling);
      const prompt: number[] = Array.prototype.slice.call(request.promptIds);
      const cached = this.goBack(prompt);
      const promptIds = prompt.slice(cached);
      const { recover } = this;
      const { tokens, stats } = await generate(this.session, { ...request, promptIds, sampler, recover });
      this.fed = [...prompt, ...tokens].slice(0, this.session.position);
      return { tokens, stats: { ...stats, cachedTokens: cached } };
    });
  }

  /** Logits after the last token of a prompt, [vocabulary]. Turns and errors as `generate`. */
  logits(promptIds: ArrayLike<number>): Promise<Float32Array> {
    return this.inTurn(async () => {
      const prompt: number[] = Array.prototype.slice.call(promptIds);
      const ids = prompt.slice(this.goBack(prompt));
      const { session, recover } = this;
      const prefill = () => session.prefill(ids);
      const logits = await (recover ? recovering(session, recover, prefill) : prefill());
      this.fed = prompt;
      return logits;
    });
  }

  /** Brings the model to another device once the request in turn has ended. @throws what `LlamaSession.rebuild` throws. */
  rebuild(device: GPUDevice): Promise<void> {
    return this.inTurn(() => this.session.rebuild(device));
  }

  /** Frees everything once the request in turn has ended. */
  async destroy(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.turn;
    this.session.destroy();
    this.weights.destroy();
  }

  /** @returns how many of the prompt's tokens are in the cache and stay; its last is always fed, for its logits. */
  private goBack(prompt: readonly number[]): number {
    const most = Math.min(this.fed.length, prompt.length - 1);
    let same = 0;
    while (same < most && this.fed[same] === prompt[same]) same++;
    // Until this request has ended well nobody knows what the cache holds.
    this.fed = [];
    this.session.reset(same);
    return same;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const run = this.turn.then(() => {
      if (this.closed) throw new OptionError('the model was closed.');
      return work();
    });
    this.turn = run.catch(() => {});
    return run;
  }
}
