import type { RowStorage, StorageChoice } from '../../src/gpu/storage.js';
import { randomSource, ratioOf, type Stats, shuffle, statsOf } from '../../src/tune/stats.js';
import { CHECKED, errorOf, reference, type Task } from './work.js';

/** A formulation with its weights on the device, ready to go. */
export interface Opened {
  /**
   * One step on input i, from the call to the GPU being done and, but for the gather, to the result on the host, which
   * it gives.
   */
  step(i: number): Promise<Float32Array | null>;
  /** What the last step of a gather packed. */
  packed?(): Promise<Float32Array>;
  close(): void | Promise<void>;
}

/** One way in which a runtime can be asked to do a task. */
export interface Formulation {
  name: string;
  /** The largest error allowed, in units of the reference's root mean square, where it is not that of f32 sums. */
  tolerance?: number;
  /** What pairslab's rows are read from. */
  storage?: RowStorage;
  /** Left out unless all are asked for. */
  rare?: boolean;
  open(): Promise<Opened>;
}

/** A runtime that can do some of the tasks. */
export interface Runtime {
  name: string;
  version: string;
  formulations(task: Task): Formulation[];
  close(): void | Promise<void>;
}

/** What a peer's module exports. */
export interface PeerModule {
  open(host: Host): Promise<Runtime>;
}

/** What a runtime is given; WebGPU is in navigator.gpu. */
export interface Host {
  /** Versions by package. */
  versions: Readonly<Record<string, string>>;
  /** For pairslab. */
  storage: StorageChoice;
  /** Where onnxruntime's WebAssembly is; undefined for its own default. */
  wasm?: string;
}

/** f32 sums in another order: 5e-6 is what is met. */
const TOLERANCE = 1e-4;
/** Runs, after the one that is checked, by which the ways of a runtime are compared, and what is close to their best, and what is far off. */
const TRIALS = 2;
const CLOSE = 1.3;
const FAR = 2;
/** A runtime that takes so many times what the best peer takes is tried once, and is in the first rounds only. */
const SLOW = 3;
const SLOW_ROUNDS = 3;
/** A step above it is slow: it is timed once a turn. */
const LONG_MS = 100;

export interface Limits {
  /** At least this many rounds, and at most. */
  rounds: [number, number];
  /** Rounds stop when they have taken so long. */
  seconds: number;
  /** Also what was never close to a runtime's best where it was measured, and takes long. */
  rare: boolean;
}

/** A formulation's figures. */
export interface Entry {
  runtime: string;
  version: string;
  formulation: string;
  storage?: RowStorage;
  /** Milliseconds of a step; of the trials alone where it did not come close to its runtime's best. */
  wallMs?: Stats;
  /** Took part in the rounds. */
  final: boolean;
  error?: number;
  /** Why there is no figure. */
  failed?: string;
}

export interface Verdict {
  entries: Entry[];
  /** The best formulation of each runtime. */
  best: Record<string, string>;
  /** The runtime beside pairslab whose best is fastest. */
  peer: string | null;
  /** Time of a peer's best over time of pairslab's best, round by round. */
  speedups: Record<string, Stats>;
}

export const OURS = 'pairslab';

interface Runner {
  entry: Entry;
  opened: Opened;
  trials: number[];
  times: number[];
}

/**
 * Every formulation of every runtime: checked against the reference, tried a few times, and those close to the best of
 * their runtime then go on. All take turns in shuffled rounds. A formulation that fails says why; one that gives a
 * wrong result is not timed.
 */
export async function contest(
  task: Task,
  runtimes: readonly Runtime[],
  limits: Limits,
  say: (line: string) => void,
): Promise<Verdict> {
  const expected = task.inputs.slice(0, CHECKED).map((_, i) => reference(task, i));
  const entries: Entry[] = [];
  const runners: Runner[] = [];
  const random = randomSource(5);
  try {
    for (const runtime of runtimes) {
      for (const formulation of runtime.formulations(task)) {
        if (formulation.rare && !limits.rare) continue;
        const { name, version } = runtime;
        const { storage } = formulation;
        const entry: Entry = { runtime: name, version, formulation: formulation.name, storage, final: false };
        entries.push(entry);
        say(`${name}, ${formulation.name}`);
        const runner = await openChecked(entry, formulation, expected);
        if (!runner) continue;
        runners.push(runner);
        await drop(runners, (one) => !isWorthTrying(one, runners));
      }
    }
    for (let t = 0; t < TRIALS; t++) {
      say(`trial ${t + 2}`);
      for (const runner of shuffle([...runners], random))
        if (isWorthTrying(runner, runners) && (t === 0 || isContender(runner, runners)))
          runner.trials.push(await timed(runner.opened, task, t));
    }
    await drop(runners, (one) => !isClose(one, runners, CLOSE));
    const started = performance.now();
    let round = 0;
    for (; round < limits.rounds[1]; round++) {
      if (round >= limits.rounds[0] && performance.now() - started > 1000 * limits.seconds) break;
      say(`round ${round + 1}`);
      for (const runner of shuffle([...runners], random)) {
        // A peer that cannot be the best one needs no exact figure.
        if (round < SLOW_ROUNDS || isContender(runner, runners))
          runner.times.push(await turn(runner, task, round));
      }
    }
    return judge(entries, runners);
  } finally {
    for (const { opened } of runners) await opened.close();
  }
}

/** Closes the runners that `out` names and takes them off the list; their trials are their figures. */
async function drop(runners: Runner[], out: (runner: Runner) => boolean): Promise<void> {
  const dropped = runners.filter(out);
  runners.splice(0, runners.length, ...runners.filter((runner) => !dropped.includes(runner)));
  for (const { entry, opened, trials } of dropped) {
    entry.wallMs = statsOf(trials);
    await opened.close();
  }
}

/** Whether a runner's fastest trial is within `factor` of the fastest of its runtime. */
function isClose(runner: Runner, runners: readonly Runner[], factor: number): boolean {
  const same = runners.filter(({ entry }) => entry.runtime === runner.entry.runtime);
  return fastest(runner) <= factor * Math.min(...same.map(fastest));
}

/** What takes long and is far off is not worth more of everybody's time. */
const isWorthTrying = (runner: Runner, runners: readonly Runner[]): boolean =>
  fastest(runner) < LONG_MS || isClose(runner, runners, FAR);

/** Whether a runner is ours, or can be the fastest peer. */
const isContender = (runner: Runner, runners: readonly Runner[]): boolean =>
  runner.entry.runtime === OURS ||
  fastest(runner) <= SLOW * Math.min(...runners.filter(({ entry }) => entry.runtime !== OURS).map(fastest));

const fastest = ({ trials }: Runner): number => Math.min(...trials);

/** The first step compiles; the last of those that are checked is the first trial. */
async function openChecked(
  entry: Entry,
  formulation: Formulation,
  expected: readonly Float64Array[],
): Promise<Runner | null> {
  let opened: Opened | undefined;
  try {
    opened = await formulation.open();
    let ms = 0;
    entry.error = 0;
    for (const [i, values] of expected.entries()) {
      const begun = performance.now();
      const y = await opened.step(i);
      ms = performance.now() - begun;
      const result = y ?? (await opened.packed?.());
      entry.error = Math.max(entry.error, errorOf(result as Float32Array, values));
    }
    const { tolerance = TOLERANCE } = formulation;
    if (!(entry.error <= tolerance))
      throw new Error(`the result is off by ${entry.error.toExponential(1)}, more than ${tolerance}`);
    return { entry, opened, trials: [ms], times: [] };
  } catch (error) {
    entry.failed = error instanceof Error ? error.message : String(error);
    await opened?.close();
    return null;
  }
}

async function timed(opened: Opened, task: Task, i: number): Promise<number> {
  const begun = performance.now();
  await opened.step(i % task.inputs.length);
  return performance.now() - begun;
}

/** One untimed step, so that nobody pays for the caches that the one before left, then the median of three. */
async function turn(runner: Runner, task: Task, round: number): Promise<number> {
  const { opened } = runner;
  const long = fastest(runner) >= LONG_MS;
  if (!long) await timed(opened, task, 4 * round);
  const times: number[] = [];
  for (let t = 1; t <= (long ? 1 : 3); t++) times.push(await timed(opened, task, 4 * round + t));
  return statsOf(times).median;
}

function judge(entries: Entry[], finalists: readonly Runner[]): Verdict {
  const bests = new Map<string, Runner>();
  for (const runner of finalists) {
    const { entry, times } = runner;
    entry.final = true;
    entry.wallMs = statsOf(times);
    const best = bests.get(entry.runtime);
    if (!best || entry.wallMs.median < medianOf(best)) bests.set(entry.runtime, runner);
  }
  const ours = bests.get(OURS);
  const speedups: Record<string, Stats> = {};
  let peer: string | null = null;
  for (const [name, runner] of bests) {
    if (name === OURS) continue;
    if (ours) speedups[name] = ratioOf(runner.times, ours.times.slice(0, runner.times.length));
    if (peer === null || medianOf(runner) < medianOf(bests.get(peer) as Runner)) peer = name;
  }
  const best = Object.fromEntries([...bests].map(([name, { entry }]) => [name, entry.formulation]));
  return { entries, best, peer, speedups };
}

const medianOf = (runner: Runner): number => statsOf(runner.times).median;
