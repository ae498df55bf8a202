#!/usr/bin/env node
import { Command, InvalidArgumentError, Option } from 'commander';
import { PairslabError } from '../errors.js';
import { STORED_DTYPES } from '../gpu/layout.js';
import { MODES } from '../llama/session.js';
import { STRATEGIES } from '../mlp/strategy.js';
import { runCalibrate } from './commands/calibrate.js';
import { runGenerate } from './commands/generate.js';
import { runInfo } from './commands/info.js';
import { runPerplexity } from './commands/perplexity.js';
import { runStart, SHIPPED_MODEL } from './commands/start.js';

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
const ids = (text: string): number[] => text.split(',').map((part) => integer(part));

const model = () =>
  new Option('--model <dir>', 'a Hugging Face folder of the LLaMA family').makeOptionMandatory();
const adapter = () =>
  new Option('--adapter <name>', 'gpu, lavapipe, swiftshader, or part of a device name').env(
    'PAIRSLAB_ADAPTER',
  );
const dtype = () =>
  new Option('--dtype <dtype>', 'how weights are stored; arithmetic is f32')
    .choices(STORED_DTYPES)
    .default('f32');
const strategy = (value: string) =>
  new Option('--strategy <name>', 'how active rows are reached').choices(STRATEGIES).default(value);
const mode = () =>
  new Option('--mode <mode>', 'exact: leave out rows that are zero; threshold: what `calibrate` found')
    .choices(MODES)
    .default('exact');
const json = () => new Option('--json', 'print one JSON object');

const program = new Command('pairslab')
  .description('Dynamically sparse layers on WebGPU: generate text with a LLaMA whose MLPs run sparsely.')
  .showHelpAfterError('(--help shows the options)');

program
  .command('start')
  .description('generate with each strategy in turn and compare them')
  .addOption(new Option('--model <dir>', 'a Hugging Face folder').default(SHIPPED_MODEL, 'the shipped model'))
  .option('--prompt <text>', 'where to begin', 'The state of the Union is')
  .option('--max-tokens <n>', 'tokens to generate', integer, 64)
  .addOption(dtype())
  .addOption(adapter())
  .action(runStart);

program
  .command('generate')
  .description('generate text, streaming it')
  .addOption(model())
  .option('--prompt <text>', 'where to begin')
  .option('--prompt-ids <ids>', 'the same as token ids, separated by commas', ids)
  .option('--max-tokens <n>', 'tokens to generate at most', integer, 64)
  .option('--temperature <t>', '0 takes the likeliest token', number, 0)
  .option('--top-k <k>', 'sample among the k likeliest; 0 for all', integer, 0)
  .option('--top-p <p>', 'sample among the likeliest that make up p', number, 1)
  .option('--seed <n>', 'of the sampling', integer, 0)
  .addOption(strategy('auto'))
  .addOption(mode())
  .addOption(dtype())
  .option('--context <n>', "positions to make room for (default: the model's, at most 4096)", integer)
  .addOption(adapter())
  .addOption(json())
  .action(runGenerate);

program
  .command('perplexity')
  .description('nats per token over a text; in a sparse mode also how far the logits are from dense')
  .addOption(model())
  .requiredOption('--text <file>', 'the text to score')
  .option('--tokens <n>', 'tokens to score at most', integer, 4096)
  .option('--window <n>', 'tokens per window, each from an empty cache (default: the context)', integer)
  .addOption(strategy('dense'))
  .addOption(mode())
  .addOption(dtype())
  .addOption(adapter())
  .addOption(json())
  .action(runPerplexity);

program
  .command('calibrate')
  .description('find the thresholds of --mode threshold and write them beside the model')
  .addOption(model())
  .requiredOption('--text <file>', 'a text like those the model will see')
  .option('--sparsity <s>', 'share of rows to leave out, 0 to below 1', number, 0.5)
  .option('--tokens <n>', 'tokens to look at, at most', integer, 2048)
  .addOption(adapter())
  .addOption(json())
  .action(runCalibrate);

program
  .command('info')
  .description('adapters with their features and limits')
  .addOption(json())
  .action(runInfo);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof PairslabError) process.stderr.write(`pairslab: ${error.name}: ${error.message}\n`);
  else if (error instanceof Error && 'code' in error && 'syscall' in error)
    process.stderr.write(`pairslab: ${error.message}\n`);
  else console.error(error);
  process.exitCode = 1;
}
