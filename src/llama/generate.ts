import { OptionError } from '../errors.js';
import { gpuBytes } from '../gpu/buffers.js';
import { type Recover, recovering } from '../gpu/recovering.js';
import { decodeBytes } from './bytes.js';
import type { Sampler } from './sample.js';
import { MOST_TOKENS } from './graph.js';
import type { LlamaSession, StepStats } from './session.js';
import type { UpdateStats } from '../slab/update-stats.js';
import type { LlamaWeights } from './weights.js';

export interface GenerateOptions {
  promptIds: ArrayLike<number>;
  /** Tokens to make at most; fewer when one of `stopIds` comes or the context is full. */
  maxTokens: number;
  sampler: Sampler;
  /** Default: the model's end-of-text ids. They are not part of the result. */
  stopIds?: readonly number[];
  /** Called with each token as it comes. */
  onToken?: (id: number) => void;
  onPrefill?: (done: number, total: number) => void;
  /** Called after each run of decode steps, when its tokens have been given out; the next run waits for what it returns. */
  onRun?: (run: DecodeRun) => void | Promise<void>;
  /** Under a budget: rows that have arrived, of those that are being read from a file or a server. */
  onRows?: (done: number, total: number) => void;
  /** Stops after the current run of tokens; reads of rows are ended at once. */
  signal?: AbortSignal;
  /** Gives another device when the session's is lost: session and weights are rebuilt there, and the text goes on. */
  recover?: Recover;
}

/** How good the guesses of rows were. */
export interface PrefetchRates {
  /** Rows that were fetched for a guess, per token. */
  guessedRows: number;
  /** Share of them that were then used. */
  usedShare: number;
  /** Share of the rows used and not resident that had been guessed. */
  foundShare: number;
}

/** Tokens that were decoded together. The first token of all comes of the prefill, and is in no run. */
export interface DecodeRun {
  readonly tokens: readonly number[];
  /** What the step of each of them did. */
  readonly steps: readonly StepStats[];
}

/** Per token, all layers together. */
export interface ResidencyAverages {
  /** Share of the active rows that were resident already. */
  hitRate: number;
  uploadedBytes: number;
  uploadedRows: number;
  evictedRows: number;
  /** Per layer: 1 where each step's rows fit at once. */
  pieces: number;
  /** Null where nothing was guessed. */
  prefetch: PrefetchRates | null;
}

/** Averages are over the decode steps; rows over the layers too where they are one number. */
export interface GenerateStats {
  promptTokens: number;
  /** Seconds from the call to the first token. */
  timeToFirstToken: number;
  prefillTokensPerSecond: number;
  /** Decode steps only: tokens after the first. */
  decodeTokensPerSecond: number;
  millisecondsPerToken: number;
  /** Mean active rows per layer; null for dense, which does not count them. */
  activeRows: number[] | null;
  /** Mode predict: mean rows per layer whose gates were computed; else null. */
  predictedRows: number[] | null;
  /** (added + removed) / m and writes / m over all layers and steps; null where no mask reaches the CPU. */
  changedShare: number | null;
  writesShare: number | null;
  /** Bytes of rows copied per token, and the fewest that would have done; 0 where nothing is copied. */
  copiedBytesPerToken: number;
  minimumBytesPerToken: number;
  /** Under a budget, what its slabs did; else null. */
  residency: ResidencyAverages | null;
  /** Bytes of weights that the matrix kernels read per token. */
  weightBytesPerToken: number;
  gpuBytes: number;
  submitsPerToken: number;
  readbacksPerToken: number;
  stoppedBy: 'length' | 'end' | 'context' | 'abort';
}

/**
 * Prefills a prompt and decodes from it.
 * @throws OptionError when maxTokens is not an integer of 1 or more; what `LlamaSession.prefill` and `next` throw; with
 * `recover`, what `recovering` throws.
 */
export async function generate(
  session: LlamaSession,
  options: GenerateOptions,
): Promise<{ tokens: number[]; stats: GenerateStats }> {
  const { promptIds, maxTokens, sampler, onToken, onRun, signal, recover } = options;
  const { config, context } = session.weights;
  const stopIds = options.stopIds ?? config.eosTokenIds;
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new OptionError(`maxTokens must be an integer of 1 or more; it is ${maxTokens}.`, { maxTokens });
  }
  const started = performance.now();
  const lasting = <T>(step: () => Promise<T>): Promise<T> =>
    recover ? recovering(session, recover, step) : step();
  const before = session.position;
  const tokens: number[] = [];
  const steps: StepStats[] = [];
  const decode = runs(session, sampler);
  let stoppedBy: GenerateStats['stoppedBy'] = 'length';
  let prefilled = started;
  let firstAt = started;
  let prompt = 0;
  let fed = 0;
  session.reading = { signal, onProgress: options.onRows };
  try {
    const logits = await lasting(() => session.prefill(promptIds, options.onPrefill));
    prefilled = performance.now();
    prompt = promptIds.length;
    let made: readonly number[] = [sampler.pick(logits)];
    let run: DecodeRun | null = null;
    firstAt = performance.now();
    for (;;) {
      for (const id of made) {
        if (stopIds.includes(id)) stoppedBy = 'end';
        if (stoppedBy === 'end') break;
        tokens.push(id);
        onToken?.(id);
      }
      if (run) await onRun?.(run);
      if (stoppedBy === 'end' || tokens.length === maxTokens) break;
      if (signal?.aborted) stoppedBy = 'abort';
      else if (session.position === context) stoppedBy = 'context';
      if (stoppedBy !== 'length') break;
      const most = Math.min(maxTokens - tokens.length, context - session.position);
      run = await lasting(() => decode(tokens[tokens.length - 1], most));
      made = run.tokens;
      steps.push(...run.steps);
      fed += made.length;
    }
  } catch (error) {
    // A read of rows was ended.
    if (!signal?.aborted || error !== signal.reason) throw error;
    stoppedBy = 'abort';
    if (prompt === 0) {
      prefilled = performance.now();
      firstAt = prefilled;
      prompt = session.position - before;
    }
  } finally {
    session.reading = {};
  }
  // What a run made beyond the end was not asked for.
  const asked = Math.max(0, tokens.length - (stoppedBy === 'end' ? 0 : 1));
  if (fed > asked) {
    session.reset(session.position - (fed - asked));
    sampler.giveBack(fed - asked);
  }
  const decodeSeconds = (performance.now() - firstAt) / 1000;
  const seconds = (prefilled - started) / 1000;
  return {
    tokens,
    stats: {
      promptTokens: promptIds.length,
      timeToFirstToken: (firstAt - started) / 1000,
      prefillTokensPerSecond: prompt / seconds,
      decodeTokensPerSecond: asked / decodeSeconds,
      millisecondsPerToken: (decodeSeconds * 1000) / Math.max(1, asked),
      ...summariseSteps(session.weights, session.strategy, steps),
      gpuBytes: gpuBytes(session.device),
      stoppedBy,
    },
  };
}

/** A way to go on after a token: up to `most` tokens that follow it, and what each step did. */
type Decode = (id: number, most: number) => Promise<{ tokens: number[]; steps: StepStats[] }>;

/** A run of tokens may keep the reader waiting this long, in milliseconds. */
const RUN_MS = 100;

/** Runs that begin short and grow, as long as text still comes in at a steady pace. */
function runs(session: LlamaSession, sampler: Sampler): Decode {
  let length = 1;
  return async (id, most) => {
    const count = Math.min(length, most);
    const started = performance.now();
    const made = await session.follow(id, count, sampler);
    const each = (performance.now() - started) / count;
    length = Math.max(1, Math.min(2 * length, MOST_TOKENS, Math.floor(RUN_MS / each)));
    return made;
  };
}

export type StepAverages = Pick<
  GenerateStats,
  | 'activeRows'
  | 'predictedRows'
  | 'changedShare'
  | 'writesShare'
  | 'copiedBytesPerToken'
  | 'minimumBytesPerToken'
  | 'residency'
  | 'weightBytesPerToken'
  | 'submitsPerToken'
  | 'readbacksPerToken'
>;

/** Averages over decode steps of one strategy. */
export function summariseSteps(
  weights: LlamaWeights,
  strategy: LlamaSession['strategy'],
  steps: readonly StepStats[],
): StepAverages {
  const count = Math.max(1, steps.length);
  const mean = (value: (step: StepStats) => number) =>
    steps.reduce((sum, step) => sum + value(step), 0) / count;
  const updates = steps.flatMap((step) => step.updates);
  const total = (value: (update: (typeof updates)[number]) => number) =>
    updates.reduce((sum, u) => sum + value(u), 0);
  const active = total((u) => u.active);
  const counted = steps.length > 0 && steps.every((step) => step.active !== null);
  const activeRows = counted
    ? weights.layers.map((_, l) => mean((step) => (step.active as number[])[l]))
    : null;
  const predicts = counted && steps.every((step) => step.predicted);
  const predictedRows = predicts
    ? weights.layers.map((_, l) => mean((step) => step.predicted?.[l] ?? 0))
    : null;
  return {
    activeRows,
    predictedRows,
    changedShare: active > 0 ? total((u) => u.added + u.removed) / active : null,
    writesShare: active > 0 ? total((u) => u.writes) / active : null,
    copiedBytesPerToken: total((u) => u.bytes) / count,
    minimumBytesPerToken: total((u) => u.minimumBytes) / count,
    residency: residencyOf(updates, count),
    weightBytesPerToken: decodeBytes(weights, strategy === 'dense' ? null : activeRows, predictedRows),
    submitsPerToken: mean((step) => step.submits),
    readbacksPerToken: mean((step) => step.readbacks),
  };
}

function residencyOf(updates: readonly UpdateStats[], tokens: number): ResidencyAverages | null {
  const total = { active: 0, hits: 0, bytes: 0, rows: 0, evicted: 0, pieces: 0, guessed: 0, used: 0 };
  if (updates.length === 0) return null;
  for (const { residency, active, bytes, writes } of updates) {
    if (!residency) return null;
    total.active += active;
    total.bytes += bytes;
    total.rows += writes;
    total.hits += residency.hits;
    total.evicted += residency.evicted;
    total.pieces += residency.pieces;
    total.guessed += residency.prefetched?.guessed ?? 0;
    total.used += residency.prefetched?.used ?? 0;
  }
  return {
    hitRate: total.active > 0 ? total.hits / total.active : 1,
    uploadedBytes: total.bytes / tokens,
    uploadedRows: total.rows / tokens,
    evictedRows: total.evicted / tokens,
    pieces: total.pieces / updates.length,
    prefetch:
      total.guessed === 0
        ? null
        : {
            guessedRows: total.guessed / tokens,
            usedShare: total.used / total.guessed,
            foundShare: total.used / (total.active - total.hits),
          },
  };
}
