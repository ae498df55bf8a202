import { Command, InvalidArgumentError } from 'commander';
import { PairslabError } from '../src/errors.js';
import { requestDevice } from '../src/node/device.js';
import { announce } from '../src/node/model.js';
import { type BenchContext, provenance, type Result, type SuiteOutcome, writeReport } from './lib/report.js';
import { deviceTimer } from './lib/timer.js';
import { e2eSuite } from './suites/e2e.js';
import { planSuite } from './suites/plan.js';
import { updateSuite } from './suites/update.js';

const SUITES: Readonly<Record<string, (context: BenchContext) => Promise<SuiteOutcome>>> = {
  plan: planSuite,
  update: updateSuite,
  e2e: e2eSuite,
};

interface Flags {
  suite: string[];
  adapter?: string;
  json?: string;
  quick?: boolean;
  robustness: boolean;
}

function suites(text: string): string[] {
  const names = text.split(',');
  const unknown = names.find((name) => !Object.hasOwn(SUITES, name));
  if (unknown !== undefined) {
    throw new InvalidArgumentError(
      `there is no suite "${unknown}"; there are ${Object.keys(SUITES).join(', ')}.`,
    );
  }
  return names;
}

async function run(flags: Flags): Promise<void> {
  const gpu = await requestDevice({ adapter: flags.adapter, robustness: flags.robustness });
  announce(gpu);
  const context: BenchContext = {
    gpu,
    robustness: flags.robustness,
    quick: flags.quick === true,
    log: (line) => process.stderr.write(`  ${line}\n`),
  };
  const timer = deviceTimer(gpu.device);
  const head = provenance(context, timer.kind, flags.suite);
  timer.destroy();
  const results: Result[] = [];
  const summary: Record<string, number> = {};
  for (const name of flags.suite) {
    process.stderr.write(`${name}\n`);
    const outcome = await SUITES[name](context);
    results.push(...outcome.results);
    Object.assign(summary, outcome.summary);
    // After each suite, so that an interrupted run keeps what it has measured.
    if (flags.json) writeReport(flags.json, { provenance: head, results, summary });
  }
  process.stdout.write(`${JSON.stringify(summary, null, 2)}\n`);
  gpu.destroy();
}

const program = new Command('bench')
  .description('Measures pairslab on this machine; prints the summary and writes everything to a file.')
  .option(
    '--suite <names>',
    `suites, separated by commas: ${Object.keys(SUITES).join(', ')}`,
    suites,
    Object.keys(SUITES),
  )
  .option('--adapter <name>', 'gpu, lavapipe, swiftshader, or part of a device name')
  .option('--json <file>', 'where to write provenance, results and summary')
  .option('--quick', 'fewer steps and repeats')
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
