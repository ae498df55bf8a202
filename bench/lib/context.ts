import { setImmediate } from 'node:timers/promises';
import { Progress } from '../../src/node/progress.js';
import type { Kept } from './kept.js';
import type { BenchContext, Suite, SuiteOutcome } from './report.js';
import { spoken, TimeLeft } from './time-left.js';

/** Often enough that a terminal is never silent for two seconds. */
const HEARTBEAT_MS = 1000;

/** Where the suites of one run write to: lines, and one line of progress that is always the last. */
export class Console {
  private progressLine: Progress | null = null;
  private at = { done: 0, total: 1, label: '', since: 0 };
  private beat: NodeJS.Timeout | null = null;
  private time = new TimeLeft();

  start(suite: string): void {
    this.progressLine = new Progress(suite);
    this.time = new TimeLeft();
    this.progress(0, 1, 'running');
    this.beat = setInterval(() => this.draw(), HEARTBEAT_MS);
  }

  progress(done: number, total: number, label: string): void {
    const since = performance.now();
    this.at = { done, total, label, since };
    this.time.at(done, total, since);
    this.draw();
  }

  log(line: string): void {
    this.progressLine?.end();
    process.stderr.write(`${line}\n`);
  }

  end(): void {
    if (this.beat) clearInterval(this.beat);
    this.progressLine?.end();
    this.progressLine = null;
  }

  private draw(): void {
    const { done, total, label, since } = this.at;
    const now = performance.now();
    const seconds = Math.round((now - since) / 1000);
    const left = this.time.left(now);
    // In front, where a narrow terminal does not cut it off.
    const estimate = left === null ? '' : `(about ${spoken(left)} left) `;
    this.progressLine?.update(done, total, estimate + (seconds > 1 ? `${label} (${seconds} s)` : label));
  }
}

/** Runs one suite, or gives back its outcome where an earlier run has kept it. */
export async function runSuite(
  name: string,
  suite: Suite,
  base: Pick<BenchContext, 'gpu' | 'robustness' | 'quick' | 'full' | 'storage'>,
  kept: Kept,
  console: Console,
): Promise<SuiteOutcome> {
  if (kept.has(name)) {
    console.log(`${name}: kept from the interrupted run`);
    return kept.get(name) as SuiteOutcome;
  }
  const used = new Set<string>();
  let reused = 0;
  const context: BenchContext = {
    ...base,
    log: (line) => console.log(`  ${line}`),
    progress: (done, total, label) => console.progress(done, total, label),
    measured: async <T>(key: string, run: () => Promise<T>): Promise<T> => {
      if (used.has(key)) throw new Error(`suite ${name} uses the case key "${key}" twice`);
      used.add(key);
      const full = `${name}/${key}`;
      if (kept.has(full)) reused++;
      else kept.set(full, throughJson(await run()));
      // A case without a GPU waits for nothing: let the event loop turn, or Ctrl-C is not seen before the end.
      await setImmediate();
      return kept.get(full) as T;
    },
  };
  console.start(name);
  try {
    const outcome = throughJson(await suite(context));
    kept.replace(`${name}/`, name, outcome);
    if (reused > 0) console.log(`${name}: ${reused} cases kept from the interrupted run`);
    return outcome;
  } finally {
    console.end();
  }
}

/** As it will be after a resume. */
function throughJson<T>(value: T): T {
  return value === undefined ? value : (JSON.parse(JSON.stringify(value)) as T);
}
