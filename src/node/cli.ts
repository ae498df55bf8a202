#!/usr/bin/env node
import { Command, InvalidArgumentError, Option } from 'commander';
import { PairslabError } from '../errors.js';
import { STORED_DTYPES } from '../gpu/layout.js';
import { STORAGE_CHOICES } from '../gpu/storage.js';
import { COMPUTES } from '../mlp/compute.js';
import { GATE_MODES, type Mode, MODES } from '../llama/mode.js';
import { parseBudget } from '../residency/budget.js';
import { SLAB_DTYPES } from '../slab/slab-fields.js';
import { STRATEGIES } from '../mlp/strategy.js';
import { VERSION } from '../version.js';
import { endWithReader } from './broken-pipe.js';
import { runAutotune } from './commands/autotune.js';
import { PREDICTOR_KINDS } from './commands/calibrate-predictor.js';
import { runCalibrate } from './commands/calibrate.js';
import { runConvert } from './commands/convert.js';
import { runGenerate } from './commands/generate.js';
import { runInfo } from './commands/info.js';
import { runPerplexity } from './commands/perplexity.js';
import { parseShape, runProfile, type Shape } from './commands/profile.js';
import { runReport } from './commands/report.js';
import { runStart, SHIPPED_MODEL } from './commands/start.js';
import { runTrace } from './commands/trace.js';

const number = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('it must be a number.');
  return value;
};
const integer = (text: string): number => {
  const value = number(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('it must be an integer.');
  return value;
};
const rowCount = (text: string): number => {
  if (!text.endsWith('%')) return integer(text);
  const share = number(text.slice(0, -1)) / 100;
  if (share > 0 && share < 1) return share;
  throw new InvalidArgumentError('a share must be above 0 % and below 100 %.');
};
const shape = (text: string): Shape => {
  const found = parseShape(text);
  if (!found) throw new InvalidArgumentError('it must be HIDDENxROWS, such as 1024x4096.');
  return found;
};
const shapes = (text: string, before: Shape[] = []): Shape[] => [...before, shape(text)];
const texts = (text: string, before: string[] = []): string[] => [...before, text];
const ids = (text: string): number[] => text.split(',').map((part) => integer(part));

const model = () =>
  new Option('--model <dir>', 'a Hugging Face folder of the LLaMA family').makeOptionMandatory();
const adapter = () =>
  new Option('--adapter <name>', 'gpu, lavapipe, swiftshader, or part of a device name').env(
    'PAIRSLAB_ADAPTER',
  );
const dtype = () =>
  new Option(
    '--dtype <dtype>',
    'how weights are stored (q8 and q4: those of MLPs, the rest f16); default f32, or what `convert` wrote',
  ).choices(STORED_DTYPES);
const storage = () =>
  new Option(
    '--storage <storage>',
    'what kernels read weights from: a texture is faster on some software adapters; auto: what is known to be faster',
  )
    .choices(STORAGE_CHOICES)
    .default('auto');
const compute = () =>
  new Option(
    '--compute <compute>',
    'what matrices but down are multiplied in: f16 needs --dtype f16 and an adapter with shader-f16',
  )
    .choices(COMPUTES)
    .default('f32');
const strategy = (value?: string) =>
  new Option(
    '--strategy <name>',
    `how active rows are reached${value ? '' : ' (default: dense, or what the mode goes with)'}`,
  )
    .choices(STRATEGIES)
    .default(value);
const EXACT_OR_THRESHOLD = 'exact: leave out rows that are zero; threshold: what `calibrate` found';
const mode = (modes: readonly Mode[] = GATE_MODES) =>
  new Option(
    '--mode <mode>',
    modes === MODES
      ? `${EXACT_OR_THRESHOLD}; predict: what its predictor does not name; sigma, topk: what does not stand out of its layer`
      : EXACT_OR_THRESHOLD,
  )
    .choices(modes)
    .default('exact');
/** How rows are chosen in the modes that have figures of their own. */
const choice = (command: Command): Command =>
  command
    .addOption(mode(MODES))
    .option(
      '--predictor <file>',
      'with --mode predict: what `calibrate --predictor` wrote, or a learned one (default: beside the model)',
    )
    .option(
      '--sigma <k>',
      'with --mode sigma: rows whose |act(gate)| exceeds mean + k standard deviations (default: 1)',
      number,
    )
    .option('--rows <rows>', 'with --mode topk: how many rows of a layer, or a share such as 5%', rowCount)
    .option('--sticky <share>', 'with --mode topk: the share of its rows that stay, 0 to 1', number)
    .option(
      '--smooth <alpha>',
      'with --mode sigma and topk: how much of a score is what it was, 0 to below 1',
      number,
    );
const budget = (text: string) =>
  new Option('--budget <budget>', text).argParser((given: string) => parseBudget(given));
const bytes = (text: string): number => {
  const given = parseBudget(text);
  if ('bytes' in given) return given.bytes;
  throw new InvalidArgumentError('it must be bytes, such as 512MB or 4GiB.');
};
/** A model on disk, or one on a server; with --pool URL the one there. */
const modelOrUrl = () =>
  new Option('--model <dir>', 'a Hugging Face folder of the LLaMA family, or the URL of a converted one');
/** What a run under a budget may be told. */
const budgeted = (command: Command): Command =>
  command
    .addOption(
      budget(
        "GPU memory for the MLPs' up and down rows: 25%, or bytes such as 512MB; the others are uploaded",
      ),
    )
    .option(
      '--policy <name>',
      'with --budget, who gives up a slot: exact, window:STEPS, lru, lfu:DECAY, pinned:SHARE (with --hot) or adaptive (default: lfu)',
    )
    .option(
      '--hot <trace>',
      'with --budget, what `trace` recorded: layers get slots by how often their rows were used, and pinned keeps the hottest',
    )
    .option(
      '--pool <home>',
      "with --budget, where the other rows are: host (memory), file (left in a converted model's file), or the URL of " +
        'a folder that `convert` wrote, on any server with range requests; without --model that is the model (default: host)',
    )
    .option('--prefetch', "with --budget, guess the next layer's rows and fetch them while this one computes")
    .option('--cache-limit <bytes>', 'of what came over HTTP so much is kept on disk (default: 4GiB)', bytes)
    .option('--no-cache', 'keep nothing of what came over HTTP');
const untuned = () => new Option('--no-autotune', 'default kernel variants, whatever `autotune` saved');
const json = () => new Option('--json', 'print one JSON object');

const program = new Command('pairslab')
  .description('Dynamically sparse layers on WebGPU: generate text with a LLaMA whose MLPs run sparsely.')
  .version(VERSION, '-V, --version', 'show the version')
  .addOption(new Option('-v').hideHelp())
  .on('option:v', () => {
    process.stdout.write(`${VERSION}\n`);
    process.exit();
  })
  .showHelpAfterError('(--help shows the options)');

program
  .command('start')
  .description('generate with each strategy in turn and compare them')
  .addOption(new Option('--model <dir>', 'a Hugging Face folder').default(SHIPPED_MODEL, 'the shipped model'))
  .option('--prompt <text>', 'where to begin', 'The state of the Union is')
  .option('--max-tokens <n>', 'tokens to generate', integer, 64)
  .addOption(dtype())
  .addOption(storage())
  .addOption(compute())
  .addOption(adapter())
  .addOption(untuned())
  .action(runStart);

choice(
  budgeted(program.command('generate'))
    .description('generate text, streaming it')
    .addOption(modelOrUrl())
    .option('--prompt <text>', 'where to begin')
    .option('--prompt-ids <ids>', 'the same as token ids, separated by commas', ids)
    .option('--max-tokens <n>', 'tokens to generate at most', integer, 64)
    .option('--temperature <t>', '0 takes the likeliest token', number, 0)
    .option('--top-k <k>', 'sample among the k likeliest; 0 for all', integer, 0)
    .option('--top-p <p>', 'sample among the likeliest that make up p', number, 1)
    .option('--seed <n>', 'of the sampling', integer, 0)
    .addOption(strategy('auto')),
)
  .addOption(dtype())
  .addOption(storage())
  .addOption(compute())
  .addOption(
    new Option(
      '--slab-dtype <dtype>',
      'with --strategy repack or paired, what rows are converted to in the slab (default: as they are stored)',
    ).choices(SLAB_DTYPES),
  )
  .option('--context <n>', "positions to make room for (default: the model's, at most 4096)", integer)
  .addOption(adapter())
  .addOption(untuned())
  .addOption(json())
  .action(runGenerate);

choice(
  budgeted(program.command('perplexity'))
    .description(
      'nats per token over a text; in a sparse mode or f16 arithmetic also how far the logits are from dense in f32',
    )
    .addOption(modelOrUrl())
    .requiredOption('--text <file>', 'the text to score')
    .option('--tokens <n>', 'tokens to score at most', integer, 4096)
    .option('--window <n>', 'tokens per window, each from an empty cache (default: the context)', integer)
    .addOption(strategy()),
)
  .addOption(dtype())
  .addOption(storage())
  .addOption(compute())
  .addOption(adapter())
  .addOption(untuned())
  .addOption(json())
  .action(runPerplexity);

program
  .command('calibrate')
  .description(
    'find the thresholds of --mode threshold, or with --predictor what --mode predict goes by, and write them beside the model',
  )
  .addOption(model())
  .requiredOption('--text <file>', 'a text like those the model will see')
  .option('--sparsity <s>', 'share of rows to leave out, 0 to below 1 (default: 0.5)', number)
  .addOption(
    new Option(
      '--predictor <kind>',
      'svd: a low-rank product near the gate; signs: signs or a few bits of gate and input, by XNOR and popcount',
    ).choices(PREDICTOR_KINDS),
  )
  .option('--rank <n>', 'of svd (default: 64)', integer)
  .option('--bits <n>', "signs: bits of the gate's values, 1 to 4 (default: 2)", integer)
  .option('--input-bits <n>', "signs: bits of the input's, 1 to 4 (default: 4)", integer)
  .option('--recall <share>', 'with --predictor: the share of |act(gate)| to find (default: 0.95)', number)
  .option('--out <file>', 'with --predictor: where to write it (default: beside the model)')
  .option('--tokens <n>', 'tokens to look at, at most (default: 2048; 6144 for a predictor)', integer)
  .option('--skip <n>', 'tokens of the text to pass over first', integer)
  .addOption(adapter())
  .addOption(untuned())
  .addOption(json())
  .action(runCalibrate);

program
  .command('convert')
  .description(
    'write a model in its row-bundled form: one read brings a neuron, and loading converts nothing',
  )
  .addOption(model())
  .requiredOption('--out <dir>', 'where to write it: a folder that is not there yet, or empty')
  .addOption(
    new Option('--dtype <dtype>', 'how gate, up and down are stored (q8 and q4: the rest is f16)')
      .choices(STORED_DTYPES)
      .makeOptionMandatory(),
  )
  .option('--block-rows <n>', 'rows that share a checksum and are read together', integer, 1)
  .addOption(json())
  .action(runConvert);

program
  .command('autotune')
  .description('find the fastest kernel variants for this adapter and keep them for later runs')
  .option('--model <dir>', "for a model's shapes")
  .option(
    '--shape <hidden>x<rows>',
    'for a layer of this shape; may be given again (default: two usual ones)',
    shapes,
  )
  .addOption(dtype())
  .addOption(storage())
  .option('--seconds <s>', 'time to spend, about', number, 30)
  .option('--print', 'only print what was kept')
  .option('--force', 'measure again what was kept, and forget the rest')
  .addOption(adapter())
  .addOption(json())
  .action((flags) => runAutotune(flags));

choice(
  program
    .command('profile')
    .description("where the time goes, kernel by kernel: a model's decode step, or one MLP with --shape")
    .option('--model <dir>', 'a Hugging Face folder (default: the shipped model)')
    .option('--position <n>', 'tokens of context before the step', integer, 32)
    .option('--shape <HIDDENxROWS>', 'one gated MLP instead of a model', shape)
    .option('--density <share>', 'with --shape: active rows', number, 0.1)
    .option('--writes <share>', 'with --shape: active rows that were not so at the step before', number, 0.2)
    .option('--batch <n>', 'with --shape: tokens', integer, 1)
    .addOption(strategy('auto')),
)
  .addOption(dtype())
  .addOption(storage())
  .addOption(compute())
  .option('--repeats <n>', 'times that each figure is measured', integer, 20)
  .option('--no-ceiling', 'do not measure the read ceiling, which takes most of the time')
  .addOption(adapter())
  .addOption(json())
  .action(runProfile);

program
  .command('trace')
  .description(
    'which rows a model uses at each step: record it, or replay it under a memory budget without the model',
  )
  .option('--model <dir>', 'a Hugging Face folder: records a trace')
  .option('--prompt <text>', 'where to begin; may be given again', texts)
  .option('--max-tokens <n>', 'tokens to generate after each prompt', integer, 100)
  .option('--text <file>', 'a text to feed as it is, in windows that are spread evenly over it')
  .option('--tokens <n>', 'tokens of the text', integer, 1024)
  .option('--out <file>', 'where to write the trace')
  .option('--replay <file>', 'a trace that was recorded, instead of --model')
  .option('--budget <budget>', 'what may be resident: 25%, or bytes such as 512MB')
  .option(
    '--policy <name>',
    'packed, exact, window:STEPS, lru, lfu:DECAY, pinned:SHARE or adaptive; may be given again (default: compare them)',
    texts,
  )
  .option('--measured <file>', 'another trace of the model, for policy pinned to count uses in')
  .option('--steps <file>', 'where to write one JSON line for every step and layer')
  .addOption(mode())
  .addOption(dtype())
  .addOption(storage())
  .addOption(adapter())
  .addOption(untuned())
  .addOption(json())
  .action(runTrace);

program
  .command('info')
  .description('adapters with their features and limits; with --model what it needs of GPU memory instead')
  .option('--model <dir>', 'a Hugging Face folder: its bytes on the device, by part; nothing is loaded')
  .addOption(budget('with --model: GPU memory for up and down rows: 25%, or bytes such as 512MB'))
  .addOption(dtype())
  .option(
    '--context <n>',
    "with --model: positions to make room for (default: the model's, at most 4096)",
    integer,
  )
  .addOption(json())
  .action(runInfo);

program
  .command('report')
  .description('draw charts of bench files and write report.md beside them')
  .argument('<files...>', 'what `npm run bench -- --json FILE` wrote')
  .requiredOption('--out <dir>', 'where to write report.md and the charts')
  .option('--merge', 'join the files of several hosts into one table, with means and spreads')
  .option('--no-charts', 'tables only: needs no chart library')
  .action(runReport);

endWithReader();
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof PairslabError) process.stderr.write(`pairslab: ${error.name}: ${error.message}\n`);
  else if (error instanceof Error && 'code' in error && 'syscall' in error)
    process.stderr.write(`pairslab: ${error.message}\n`);
  else console.error(error);
  process.exitCode = 1;
}
