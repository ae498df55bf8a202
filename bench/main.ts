import { mkdirSync } from 'node:fs';
import { freemem } from 'node:os';
import { dirname } from 'node:path';
import { inspect } from 'node:util';
import { Command, InvalidArgumentError, Option } from 'commander';
import { OptionError, PairslabError } from '../src/errors.js';
import type { StorageChoice } from '../src/gpu/storage.js';
import { requestDevice } from '../src/node/device.js';
import { announce } from '../src/node/model.js';
import { Console, runSuite } from './lib/context.js';
import { toCsv } from './lib/csv.js';
import { Kept } from './lib/kept.js';
import { setFreeBytes } from './lib/layers.js';
import { provenance, type Report, type Suite, writeReport, writeWhole } from './lib/report.js';
import { deviceTimer } from '../src/tune/timer.js';

/** Every suite, in the order they run; loaded when they do, so that one that cannot be loaded leaves the others alone. */
const SUITES = [
  'plan',
  'update',
  'ceilings',
  'mlp',
  'fused',
  'batch',
  'sweep',
  'sticky',
  'memory',
  'e2e',
  'beyond',
  'predict',
  'view',
  'peers',
];
/** Run only when named, or with --full: one starts a browser, the other installs packages as well. */
const ON_REQUEST = ['view', 'peers'];
/** Run only when named: another suite includes them. */
const PARTS = ['predict'];

interface Flags {
  suite?: string[];
  adapter?: string;
  json?: string;
  csv?: string;
  quick: boolean;
  full: boolean;
  resume: boolean;
  robustness: boolean;
  storage: StorageChoice;
}

async function load(name: string): Promise<Suite> {
  // The build bundles every file that fits.
  const module: Record<string, Suite | undefined> = await import(`./suites/${name}.ts`);
  const suite = module[`${name}Suite`];
  if (!suite) throw new Error(`bench/suites/${name}.ts exports no ${name}Suite`);
  return suite;
}

function suites(text: string): string[] {
  const names = text.split(',');
  const unknown = names.find((name) => !SUITES.includes(name));
  if (unknown !== undefined) {
    throw new InvalidArgumentError(`there is no suite "${unknown}"; there are ${SUITES.join(', ')}.`);
  }
  return [...new Set(names)];
}

async function run(flags: Flags): Promise<void> {
  const { quick, full, robustness, storage, resume, json, csv } = flags;
  const names =
    flags.suite ?? SUITES.filter((name) => !PARTS.includes(name) && (full || !ON_REQUEST.includes(name)));
  // Before a device is taken, and before anything is measured that could not be kept.
  if (resume && json === undefined)
    throw new OptionError('--resume needs --json FILE: what was measured stands in FILE.partial.');
  for (const file of [json, csv]) if (file !== undefined) mkdirSync(dirname(file), { recursive: true });
  const gpu = await requestDevice({ adapter: flags.adapter, robustness });
  announce(gpu);
  const timer = deviceTimer(gpu.device);
  const head = provenance({ gpu, robustness, quick, full, storage, timer: timer.kind, suites: names });
  timer.destroy();
  setFreeBytes(freemem);
  const terminal = new Console();
  const kept = Kept.open(head, { file: json, resume, warn: (line) => terminal.log(`note: ${line}`) });
  process.on('SIGINT', () => {
    terminal.end();
    terminal.log(
      kept.path && kept.size > 0
        ? `interrupted; what was measured is kept in ${kept.path}. The same command with --resume goes on from there.`
        : `interrupted; nothing is kept${json === undefined ? ' without --json FILE' : ' yet'}.`,
    );
    // At once: a case can take long, and what it has not finished is of no use.
    process.exit(130);
  });
  const report: Report = { provenance: head, results: [], summary: {}, skipped: [] };
  const failed: string[] = [];
  const took: string[] = [];
  const began = performance.now();
  const since = (start: number) => `${((performance.now() - start) / 1000).toFixed(0)} s`;
  for (const name of names) {
    process.stderr.write(`${name}\n`);
    const started = performance.now();
    try {
      const outcome = await runSuite(
        name,
        await load(name),
        { gpu, robustness, quick, full, storage },
        kept,
        terminal,
      );
      report.results.push(...outcome.results);
      Object.assign(report.summary, outcome.summary);
      for (const skipped of outcome.skipped ?? []) report.skipped.push({ suite: name, ...skipped });
    } catch (error) {
      // The other suites' figures stand; --resume measures only what failed.
      failed.push(name);
      const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      report.skipped.push({ suite: name, case: 'all', reason });
      process.stderr.write(`  failed: ${error instanceof PairslabError ? reason : inspect(error)}\n`);
    }
    took.push(`${name} ${since(started)}`);
    terminal.log(`${name}: ${since(started)}`);
  }
  terminal.log(`took: ${took.join(', ')}; all ${since(began)}`);
  if (json !== undefined) writeReport(json, report);
  if (csv !== undefined) writeWhole(csv, toCsv(report));
  if (failed.length === 0) kept.remove();
  else {
    const again = kept.path && kept.size > 0 ? '; --resume runs them again and keeps the others' : '';
    process.stderr.write(`failed: ${failed.join(', ')}${again}\n`);
    process.exitCode = 1;
  }
  process.stdout.write(`${JSON.stringify(report.summary, null, 2)}\n`);
  gpu.destroy();
}

const program = new Command('bench')
  .description('Measures pairslab on this machine; prints the summary and writes everything to a file.')
  .option('--suite <names>', `suites, separated by commas: ${SUITES.join(', ')}`, suites)
  .option('--adapter <name>', 'gpu, lavapipe, swiftshader, or part of a device name')
  .option('--json <file>', 'where to write provenance, results and summary; FILE.partial while it runs')
  .option('--csv <file>', 'where to write the results as a table')
  .addOption(
    new Option('--quick', 'fewer steps and repeats: under a minute').default(false).conflicts('full'),
  )
  .option('--full', 'the whole grid, hours on a small machine; can be interrupted and resumed', false)
  .option('--resume', 'go on with the interrupted run whose results stand in FILE.partial', false)
  .addOption(
    new Option('--storage <kind>', 'what layers read their rows from; auto: what is faster on the adapter')
      .choices(['buffer', 'texture', 'auto'])
      .default('auto'),
  )
  .option('--no-robustness', 'without bounds checks in shaders (a browser always has them)')
  .showHelpAfterError('(--help shows the options)')
  .action(run);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof PairslabError) process.stderr.write(`bench: ${error.name}: ${error.message}\n`);
  else console.error(error);
  process.exitCode = 1;
}
