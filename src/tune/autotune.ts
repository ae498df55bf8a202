import { DeviceLostError, ShapeError } from '../errors.js';
import {
  type Costs,
  setTuning,
  type MeasuredEntry,
  type TunedEntry,
  type Tuning,
  tuningOf,
} from '../gpu/tuning.js';
import { chooseStorage } from '../gpu/storage.js';
import { waitFor } from '../gpu/wait.js';
import { Candidates } from './candidates.js';
import { measureCosts, measuredRows } from './costs.js';
import { MOST_COSTS, MOST_ENTRIES } from '../gpu/tuning-parse.js';
import { differs, resultOf } from './outcome.js';
import { type Contender, race } from './race.js';
import {
  defaultShapes,
  describeShape,
  measuresCosts,
  taskKey,
  type TuneShape,
  type TuneTask,
  tasksOf,
} from './shapes.js';
import { makeSubject, type Record, type Subject } from './subjects.js';
import { comparingTimer, type DeviceTimer, recordingTimer } from './timer.js';

export interface AutotuneOptions {
  /** Variants that were tried and those there are; `note` names the kernel. */
  onProgress?: (done: number, total: number, note: string) => void;
  /** Stops at the next sample; the promise is rejected with its reason, and the device keeps the tuning it has. */
  signal?: AbortSignal;
  /** Samples of a variant in each round. Default 3. */
  repeats?: number;
  /** Time to spend, about: kernels it does not suffice for keep their defaults, with a note. Default 30 s. */
  budgetMs?: number;
  /** False keeps what the device's tuning already has for a kernel and shape. Default true: all anew. */
  again?: boolean;
  /** Whether to measure the cost model's figures too, for each of the shapes that is an MLP. Default true. */
  costs?: boolean;
}

export interface AutotuneResult extends Tuning {
  readonly entries: readonly MeasuredEntry[];
  /** What was left out, and why: variants that an adapter refuses, kernels that there was no time for. */
  readonly notes: readonly string[];
  readonly timer: DeviceTimer['kind'];
  readonly seconds: number;
}

const BUDGET_MS = 30_000;
/** A sample is repeated within one submit until it takes about so long: timers are coarse, and a submit has a cost. */
const SAMPLE_MS = { 'timestamp-query': 2, 'wall clock less an empty submit': 6 };
const MOST_TIMES = 256;

/**
 * Times the variants of every kernel on random rows of `shapes`, and from then on lets kernels made for `device` take
 * the fastest; where the default is within the noise of it, the default. What was tuned for other shapes stays.
 * @throws OptionError or ShapeError for a shape that no variant covers, before anything runs.
 */
export async function autotune(
  device: GPUDevice,
  shapes: readonly TuneShape[] = defaultShapes(),
  options: AutotuneOptions = {},
): Promise<AutotuneResult> {
  const { onProgress, signal, repeats = 3, budgetMs = BUDGET_MS, again = true, costs = true } = options;
  const started = performance.now();
  const before = tuningOf(device);
  const had = new Set(again ? [] : before?.entries.map(taskKey));
  const tasks = tasksOf(device, shapes).filter((task) => !had.has(taskKey(task.for)));
  const notes: string[] = [];
  const entries: MeasuredEntry[] = [];
  const progress = { done: 0, total: 0 };
  const timers = [comparingTimer(device), recordingTimer(device)] as const;
  try {
    signal?.throwIfAborted();
    for (const [t, task] of tasks.entries()) {
      const subject = makeSubject(device, task);
      try {
        // The tables are short: what is left is guessed to be as this one.
        const candidates = new Candidates(subject.variants, subject.axis);
        progress.total = progress.done + candidates.first.length * (tasks.length - t);
        // Twice its share of what is left: kernels differ in what they take, but none may starve those after it.
        const now = performance.now();
        const left = started + budgetMs - now;
        const until = now + Math.min(left, (2 * left) / (tasks.length - t));
        const entry = await tune({
          device,
          task,
          subject,
          candidates,
          timer: timers[subject.recording ? 1 : 0],
          repeats,
          expired: () => performance.now() > until,
          note: (text) => notes.push(`${nameOf(task)}: ${text}`),
          signal,
          onVariant: () =>
            onProgress?.(++progress.done, Math.max(progress.done, progress.total), nameOf(task)),
        });
        if (entry) entries.push(entry);
      } finally {
        subject.destroy();
      }
    }
  } finally {
    for (const timer of timers) timer.destroy();
  }
  const measured = new Set(entries.map(taskKey));
  const kept = (before?.entries ?? []).filter((entry) => !measured.has(taskKey(entry))).map(asMeasured);
  const tuning = { ...before, entries: [...kept, ...entries].slice(-MOST_ENTRIES) };
  // The costs are those of the variants just found.
  setTuning(device, tuning);
  try {
    const result: AutotuneResult = {
      ...tuning,
      ...(costs ? { costs: await costsOf(device, shapes, before, options) } : {}),
      notes,
      timer: timers[0].kind,
      seconds: (performance.now() - started) / 1000,
    };
    setTuning(device, result);
    return result;
  } catch (error) {
    setTuning(device, before);
    throw error;
  }
}

/** The cost model's figures for the MLPs among `shapes`, beside those of others that there were before. */
async function costsOf(
  device: GPUDevice,
  shapes: readonly TuneShape[],
  before: Tuning | null,
  { signal, onProgress, again = true }: AutotuneOptions,
): Promise<Costs[]> {
  const keyOf = ({
    dtype,
    rowBytes,
    rows,
    storage = 'buffer',
  }: Pick<Costs, 'dtype' | 'rowBytes' | 'rows' | 'storage'>) => `${dtype} ${rowBytes} ${rows} ${storage}`;
  const costs = new Map((before?.costs ?? []).map((one) => [keyOf(one), one]));
  for (const shape of shapes) {
    if (!measuresCosts(shape)) continue;
    const like = { ...shape, storage: chooseStorage(device, shape.storage ?? 'auto') };
    const key = keyOf({ ...like, ...measuredRows(like) });
    const had = costs.get(key);
    // What was used last is kept longest.
    costs.delete(key);
    costs.set(key, had && !again ? had : await measureCosts(device, like, { signal, onProgress }));
  }
  return [...costs.values()].slice(-MOST_COSTS);
}

interface Trial {
  device: GPUDevice;
  task: TuneTask;
  subject: Subject;
  candidates: Candidates<TunedEntry['variant']>;
  timer: DeviceTimer;
  repeats: number;
  expired(): boolean;
  note(text: string): void;
  signal?: AbortSignal;
  onVariant(): void;
}

/** One task: its candidates once, then a race of those that are not hopeless. Undefined when there was no time. */
async function tune(trial: Trial): Promise<MeasuredEntry | undefined> {
  const { task, subject, candidates, signal } = trial;
  const [standard] = candidates.first;
  const refused: string[] = [];
  const ready: Runner[] = [];
  let complete = true;
  let expected: Float32Array | undefined;
  const attempt = async (variant: TunedEntry['variant']): Promise<void> => {
    try {
      const record = await prepare(trial, variant);
      const result = await resultOf(trial.device, subject.outcome);
      expected ??= result;
      const wrong = differs(subject.outcome, result, expected);
      if (wrong) throw new Error(wrong);
      ready.push(await start(trial, variant, record));
    } catch (error) {
      if (error instanceof DeviceLostError || signal?.aborted) throw error;
      const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
      refused.push(why);
      trial.note(`left out ${describeVariant(variant)}: ${why}`);
    }
    trial.onVariant();
  };
  for (const [v, variant] of candidates.first.entries()) {
    // Without the default and one other there is nothing to compare.
    if (v >= 2 && trial.expired()) {
      complete = false;
      trial.note(`no time for ${candidates.first.length - v} of ${subject.variants.length} variants`);
      break;
    }
    await attempt(variant);
  }
  const last = candidates.last(
    (variant) => ready.find((one) => one.variant === variant)?.first ?? Number.POSITIVE_INFINITY,
  );
  if (last && complete) await attempt(last);
  if (ready.length === 0) {
    const { hidden, rows, dtype } = task;
    throw new ShapeError(
      `shape ${describeShape(task)}: no variant of ${task.for.kernel} covers it: ${refused[0]}`,
      { hidden, rows, dtype, kernel: task.for.kernel, refused },
    );
  }
  // Where the default itself is refused, the first that works stands in for it.
  const { winner, speedup, decided } = await race(
    ready.map(({ sample }) => sample),
    ready.map(({ first }) => first),
    trial,
  );
  if (!decided) trial.note('no time to decide: the default stays');
  // Without an entry it is tuned the next time.
  if (!(decided && complete) && ready[winner].variant === standard) return undefined;
  return { ...task.for, variant: ready[winner].variant, default: standard, speedup };
}

/** A variant that runs. */
interface Runner {
  readonly variant: TunedEntry['variant'];
  readonly sample: Contender;
  readonly first: number;
}

async function start(trial: Trial, variant: TunedEntry['variant'], record: Record): Promise<Runner> {
  const { timer, signal, repeats } = trial;
  const once = await sampleOf(timer, record, 1);
  const times = Math.max(1, Math.min(MOST_TIMES, Math.ceil(SAMPLE_MS[timer.kind] / once)));
  const sample = async (): Promise<number> => {
    signal?.throwIfAborted();
    return sampleOf(timer, record, times);
  };
  let first = times === 1 ? once : Number.POSITIVE_INFINITY;
  for (let r = times === 1 ? 1 : 0; r < repeats; r++) first = Math.min(first, await sample());
  return { variant, sample, first };
}

/**
 * Builds a variant and runs it once, which compiles it, from a result of zeros and the task's own input.
 * @throws Error with what the device has against it.
 */
async function prepare(trial: Trial, variant: TunedEntry['variant']): Promise<Record> {
  const { device, subject, timer, signal } = trial;
  signal?.throwIfAborted();
  const filters = ['internal', 'out-of-memory', 'validation'] as const;
  for (const filter of filters) device.pushErrorScope(filter);
  let record: Record | undefined;
  let thrown: unknown;
  try {
    const made = subject.build(variant);
    record = made;
    await timer.time((encoder) => {
      encoder.clearBuffer(subject.outcome.buffer);
      subject.outcome.restore?.(encoder);
      made(encoder, 1);
    });
  } catch (error) {
    thrown = error;
  }
  const errors = await waitFor(device, Promise.all(filters.map(() => device.popErrorScope())));
  if (thrown) throw thrown;
  const error = errors.find((one) => one !== null);
  if (error) throw new Error(error.message);
  return record as Record;
}

/** Milliseconds of one run of the work. Above 0, whatever a coarse timer says. */
async function sampleOf(timer: DeviceTimer, record: Record, times: number): Promise<number> {
  return Math.max(1e-6, (await timer.time((encoder) => record(encoder, times))) / times);
}

const nameOf = ({ for: { kernel, batched, storage }, ...shape }: TuneTask): string =>
  `${kernel}${batched ? ' batched' : ''} ${describeShape(shape)}${storage === 'texture' ? ' texture' : ''}`;

/**
 * How far the variants that adapter features alone would choose are behind the tuned ones: the default's time over the
 * chosen one's, the worst of all entries; 1 where each default was the fastest. Null without entries.
 */
export function defaultWorst(entries: readonly Pick<MeasuredEntry, 'speedup'>[]): number | null {
  return entries.length === 0 ? null : Math.max(...entries.map(({ speedup }) => speedup));
}

/** A variant as a short text, its values in order. */
export const describeVariant = (variant: TunedEntry['variant']): string => Object.values(variant).join(' ');

function asMeasured(entry: TunedEntry): MeasuredEntry {
  return 'speedup' in entry && 'default' in entry
    ? (entry as MeasuredEntry)
    : { ...entry, default: entry.variant, speedup: 1 };
}
