import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PairslabError } from '../../src/errors.js';
import { inCheckout } from '../lib/checkout.js';
import type { BenchContext, Skipped, SuiteOutcome } from '../lib/report.js';
import { openChromium, type PageFacts, type PeersPage } from '../peers/chromium.js';
import { contest, type Host, type Limits, OURS, type Runtime, type Verdict } from '../peers/contest.js';
import { openPeer, PEERS, pretendBrowser } from '../peers/node.js';
import { canStore, pairslabRuntime } from '../peers/pairslab.js';
import { makeTask, makeWeights, TASK_NAMES, type TaskName, type Weights } from '../peers/work.js';

/** Where a task is run. */
type Where = 'node' | 'chromium';

/** In Chromium they take minutes on a software adapter. */
const FULL_ONLY: readonly TaskName[] = ['mlp_batch16', 'mlp_batch16_int4'];

/** Where pairslab's rows cannot be stored as 4 bits, that task has no figure. */
const NO_Q4 = 'pairslab stores no q4 rows';

/** A verdict with what the browser said of itself. */
interface Measured {
  verdict: Verdict;
  facts?: PageFacts;
}

/**
 * The same work by TensorFlow.js, onnxruntime-web, jax-js and pairslab, on the same adapter in the same run, in Node
 * on dawn and in headless Chromium: wall time of one step, from inputs at hand to the result on the host (for the
 * gather: to the GPU being done), weights on the device. Each is asked in several ways and its fastest counts; pairslab's
 * rows are in what the adapter reads faster, and the gather's in buffers too.
 * The peers are installed on first use.
 */
export async function peersSuite(context: BenchContext): Promise<SuiteOutcome> {
  const peers = inCheckout('bench/peers');
  const { dependencies: versions } = readPackage(peers) as { dependencies: Record<string, string> };
  await install(peers, versions, context);
  const host: Host = { versions, storage: context.storage };
  const outcome: Required<SuiteOutcome> = { results: [], summary: {}, skipped: [] };
  const cases = casesFor(context, outcome.skipped);
  let done = 0;
  for (const where of ['node', 'chromium'] as const) {
    const tasks = cases.filter((one) => one.where === where).map((one) => one.task);
    if (tasks.length === 0) continue;
    const arena = where === 'node' ? nodeArena(context, peers, host) : chromiumArena(peers, host);
    try {
      for (const name of tasks) {
        const say = (line: string): void => context.progress(done, cases.length, `${where} ${name}: ${line}`);
        say('opening');
        const measured = await context.measured(`${where} ${name}`, () =>
          arena.run(name, limits(context, where), say),
        );
        report(where, name, measured, outcome);
        for (const line of linesOf(measured.verdict)) context.log(`${where} ${name}: ${line}`);
        done++;
      }
    } catch (error) {
      // Chromium cannot run everywhere; Node's figures stand without it.
      if (where === 'node') throw error;
      const reason = error instanceof Error ? error.message : String(error);
      outcome.skipped.push({ case: 'chromium', reason });
      context.log(`chromium: ${reason}`);
    } finally {
      await arena.close();
    }
  }
  return outcome;
}

function casesFor(context: BenchContext, skipped: Skipped[]): { where: Where; task: TaskName }[] {
  const cases: { where: Where; task: TaskName }[] = [];
  const leaveOut = (name: string, reason: string): number => skipped.push({ case: name, reason });
  for (const where of ['node', 'chromium'] as const) {
    if (where === 'chromium' && context.quick) {
      leaveOut('chromium', 'not in a quick run');
      continue;
    }
    for (const task of TASK_NAMES) {
      if (task === 'mlp_batch16_int4' && !canStore('q4')) leaveOut(`${where} ${task}`, NO_Q4);
      else if (where === 'chromium' && !context.full && FULL_ONLY.includes(task))
        leaveOut(`${where} ${task}`, 'only in a full run');
      else cases.push({ where, task });
    }
  }
  return cases;
}

function limits({ quick, full }: BenchContext, where: Where): Limits {
  if (full) return { rounds: [15, 60], seconds: 30, rare: true };
  if (quick) return { rounds: [3, 10], seconds: 2, rare: false };
  return { rounds: where === 'node' ? [7, 25] : [5, 15], seconds: 4, rare: false };
}

/** Where tasks are run; opened by the first. */
interface Arena {
  run(task: TaskName, limits: Limits, say: (line: string) => void): Promise<Measured>;
  close(): Promise<void>;
}

/**
 * All in this process, since only so they take turns with nothing else running: a child process each would keep its
 * own idle device polling. Each peer has a device of its own, made as it makes it in a browser.
 */
function nodeArena(context: BenchContext, peers: string, host: Host): Arena {
  const { gpu, robustness } = context;
  let runtimes: Runtime[] | undefined;
  let weights: Weights | undefined;
  let undo: (() => void) | undefined;
  return {
    async run(name, bounds, say) {
      if (!runtimes) {
        undo = await pretendBrowser(gpu, robustness);
        runtimes = [pairslabRuntime(gpu.device, context.storage)];
        for (const peer of PEERS) {
          say(`opening ${peer}`);
          runtimes.push(await openPeer(peers, peer, host));
        }
      }
      weights ??= makeWeights();
      return { verdict: await contest(makeTask(name, weights), runtimes, bounds, say) };
    },
    async close() {
      for (const runtime of runtimes ?? []) await runtime.close();
      undo?.();
    },
  };
}

function chromiumArena(peers: string, host: Host): Arena {
  let page: PeersPage | undefined;
  let told = (_line: string): void => {};
  return {
    async run(name, bounds, say) {
      told = say;
      page ??= await openChromium(peers, host, (line) => told(line));
      return { verdict: await page.run(name, bounds), facts: page.facts };
    },
    async close() {
      await page?.close();
    },
  };
}

function report(
  where: Where,
  task: TaskName,
  { verdict, facts }: Measured,
  outcome: Required<SuiteOutcome>,
): void {
  const { entries, best, peer, speedups } = verdict;
  const prefix = where === 'node' ? 'peers' : 'peers.chromium';
  for (const { runtime, version, formulation, storage, wallMs, final, error, failed } of entries) {
    const name = `${where} ${task} ${runtime}, ${formulation}`;
    if (failed !== undefined) outcome.skipped.push({ case: name, reason: failed });
    outcome.results.push({
      suite: 'peers',
      case: name,
      where,
      task,
      runtime,
      version,
      formulation,
      storage,
      best: best[runtime] === formulation,
      bestPeer: runtime === peer && best[runtime] === formulation,
      final,
      wallMs,
      error,
      failed,
      ...(best[runtime] === formulation && runtime !== OURS ? { speedupOfPairslab: speedups[runtime] } : {}),
      ...(facts ? { adapter: facts.adapter, browser: facts.browser } : {}),
    });
  }
  for (const [name, reason] of Object.entries(facts?.missing ?? {}))
    outcome.skipped.push({ case: `${where} ${task} ${name}`, reason });
  for (const [name, speedup] of Object.entries(speedups))
    outcome.summary[`${prefix}.${task}.speedup_vs_${name.replaceAll('-', '_')}`] = speedup.median;
  if (peer !== null && speedups[peer]) outcome.summary[`${prefix}.${task}.speedup`] = speedups[peer].median;
}

function linesOf({ entries, best, peer, speedups }: Verdict): string[] {
  const figures = Object.entries(best).map(([runtime, formulation]) => {
    const entry = entries.find((one) => one.runtime === runtime && one.formulation === formulation);
    return `${runtime} ${entry?.wallMs?.median.toFixed(2)} ms (${formulation})`;
  });
  const speedup = peer === null ? undefined : speedups[peer];
  return [...figures, speedup ? `${speedup.median.toFixed(2)} times as fast as ${peer}` : 'no ratio'];
}

/** bench/peers of this checkout, wherever the built bench lies in it. */
async function install(
  peers: string,
  versions: Readonly<Record<string, string>>,
  context: BenchContext,
): Promise<void> {
  const installed = ([name, version]: [string, string]): boolean =>
    (readPackage(join(peers, 'node_modules', name)) as { version?: string } | null)?.version === version;
  if (Object.entries(versions).every(installed)) return;
  context.log('installing the peers (npm ci in bench/peers, 260 MB, this once)');
  try {
    await promisify(execFile)('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: peers });
  } catch (cause) {
    const { stderr, message } = cause as { stderr?: string; message: string };
    const why = (stderr || message).trim().split('\n').slice(-3).join(' ');
    throw new PairslabError(`the peers could not be installed: \`npm ci\` in bench/peers failed: ${why}`);
  }
}

function readPackage(folder: string): unknown {
  const file = join(folder, 'package.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;
}
