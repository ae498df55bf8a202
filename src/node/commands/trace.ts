import { readFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import Table from 'cli-table3';
import { OptionError } from '../../errors.js';
import type { StoredDtype } from '../../gpu/layout.js';
import type { StorageChoice } from '../../gpu/storage.js';
import { recordTrace, type TraceSource } from '../../llama/record-trace.js';
import type { Mode } from '../../llama/mode.js';
import { LlamaSession } from '../../llama/session.js';
import { parseBudget } from '../../residency/budget.js';
import { churn } from '../../residency/replay.js';
import { BudgetedTrace, type LayerChurn, layerChurn, type PolicyFigures } from '../../residency/report.js';
import type { Trace } from '../../residency/trace.js';
import { interruptible } from '../interrupt.js';
import { openModel, readThresholds } from '../model.js';
import { Progress } from '../progress.js';
import { readTrace, writeTrace } from '../trace-file.js';
import { writeWhole } from '../write-whole.js';
import { warnIfDense } from './generate.js';

export interface TraceFlags {
  model?: string;
  prompt?: string[];
  maxTokens: number;
  text?: string;
  tokens: number;
  out?: string;
  replay?: string;
  budget?: string;
  policy?: string[];
  measured?: string;
  steps?: string;
  mode: Mode;
  dtype: StoredDtype;
  storage?: StorageChoice;
  adapter?: string;
  autotune?: boolean;
  json?: boolean;
}

/** Compared where no policy is named; pinned only where something was measured to pin by. */
const COMPARED = ['packed', 'exact', 'window:4', 'lru', 'lfu', 'adaptive'];

/** Records a trace with a model, or reads one; then says what it holds and what policies make of it. */
export async function runTrace(flags: TraceFlags): Promise<void> {
  if ((flags.model === undefined) === (flags.replay === undefined)) {
    throw new OptionError('give one of --model DIR, to record a trace, and --replay FILE.');
  }
  if (flags.policy && flags.budget === undefined) {
    throw new OptionError('--policy needs --budget: 25%, for example.');
  }
  const budget = flags.budget === undefined ? undefined : parseBudget(flags.budget);
  const measured = flags.measured === undefined ? undefined : await readTrace(flags.measured);
  const trace = flags.replay === undefined ? await record(flags) : await readTrace(flags.replay);
  if (flags.out !== undefined) await writeTrace(flags.out, trace);
  if (measured) checkSameModel(measured, trace);
  const layers = layerChurn(trace);
  const budgeted = budget && new BudgetedTrace(trace, budget);
  const policies = flags.policy ?? [...COMPARED, ...(measured ? ['pinned'] : [])];
  const figures = budgeted ? policies.map((policy) => budgeted.figures(policy, measured)) : [];
  if (flags.steps !== undefined) {
    const policy = flags.policy?.[0] ?? 'adaptive';
    await writeWhole(flags.steps, stepLines(trace, policy, budgeted, measured));
  }
  if (flags.json) {
    const beladyLoads = budgeted?.beladyLoads;
    process.stdout.write(
      `${JSON.stringify({ info: trace.info, steps: trace.steps, layers, slots: budgeted?.slots, beladyLoads, policies: figures })}\n`,
    );
    return;
  }
  const { model, rows, dtype } = trace.info;
  process.stdout.write(
    `${model}: ${trace.steps} steps of ${trace.info.sequences.length} texts, ${trace.info.layers} layers of ${rows} rows, ${dtype}\n`,
  );
  printChurn(layers, rows);
  if (budgeted) printPolicies(budgeted, figures);
}

async function record(flags: TraceFlags): Promise<Trace> {
  const { mode, prompt: prompts = [] } = flags;
  const path = flags.model as string;
  if (prompts.length === 0 && flags.text === undefined) {
    throw new OptionError('a trace needs something to run on: --prompt TEXT, --text FILE, or both.');
  }
  const text = flags.text === undefined ? null : await readFile(flags.text, 'utf8');
  const thresholds = mode === 'threshold' ? await readThresholds(path) : undefined;
  const model = await openModel({ ...flags, model: path, budget: undefined });
  try {
    const session = new LlamaSession(model.gpu.device, model.weights, {
      strategy: 'paired',
      planOn: 'host',
      mode,
      thresholds,
    });
    warnIfDense(mode, model.weights.config.hiddenAct, session.strategy);
    const codec = await model.text();
    const sources: TraceSource[] = prompts.map((name) => ({
      name,
      ids: codec.encode(name),
      generate: flags.maxTokens,
    }));
    if (text !== null) {
      const name = basename(flags.text as string);
      sources.push(...windows(name, codec.encode(text), flags.tokens, model.weights.context));
    }
    const progress = new Progress('recording');
    const trace = await interruptible((signal) =>
      recordTrace(session, sources, {
        model: basename(resolve(path)),
        mode,
        signal,
        onProgress: (done, total) => progress.update(done, total, 'tokens'),
      }),
    );
    progress.end();
    session.destroy();
    return trace;
  } finally {
    await model.close();
  }
}

/** As many windows of a text as `tokens` fill, spread evenly over it: a long text's beginning is not all of it. */
function windows(name: string, ids: readonly number[], tokens: number, context: number): TraceSource[] {
  if (!(tokens >= 1)) throw new OptionError(`--tokens is ${tokens}; it must be at least 1.`, { tokens });
  const wanted = Math.min(tokens, ids.length);
  const count = Math.ceil(wanted / context);
  return Array.from({ length: count }, (_, i) => {
    const length = Math.min(context, wanted - i * context);
    const first = Math.floor(((i + 0.5) * ids.length) / count - length / 2);
    return { name: `${name} from token ${first}`, ids: ids.slice(first, first + length), generate: 0 };
  });
}

function checkSameModel(measured: Trace, { info }: Trace): void {
  const { rows, layers, model } = measured.info;
  if (rows !== info.rows || layers !== info.layers) {
    throw new OptionError(
      `--measured is of ${model} with ${layers} layers of ${rows} rows; the trace is of ${info.model} with ` +
        `${info.layers} of ${info.rows}.`,
    );
  }
}

/** One JSON object a line for every step and layer; with a budget also what the policy did. */
function stepLines(trace: Trace, policy: string, budgeted?: BudgetedTrace, measured?: Trace): string {
  const { layers, sequences, rowBytes } = trace.info;
  const churns = Array.from({ length: layers }, (_, l) => churn(trace.layer(l)));
  const replays = budgeted?.steps(policy, measured);
  const lines: string[] = [];
  let step = 0;
  for (const { name, steps } of sequences) {
    for (let i = 0; i < steps; i++, step++) {
      for (let layer = 0; layer < layers; layer++) {
        const { writes: minimum, ...changes } = churns[layer][step];
        const done = replays?.[layer][step];
        const budget = done && {
          policy,
          slots: budgeted?.slots[layer],
          writes: done.writes,
          hitRate: done.active > 0 ? done.hits / done.active : null,
          uploadBytes: done.loads * rowBytes,
          pieces: done.pieces,
        };
        lines.push(JSON.stringify({ step, text: name, layer, ...changes, minimum, ...budget }));
      }
    }
  }
  return `${lines.join('\n')}\n`;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

function printChurn(layers: readonly LayerChurn[], rows: number): void {
  const table = new Table({
    head: ['layer', 'active rows', 'of all', 'most', 'stay active', 'k/m', 'h/m'],
    style: { head: [], border: [] },
  });
  for (const layer of layers) {
    table.push([
      layer.layer,
      layer.active.toFixed(1),
      percent(layer.active / rows),
      layer.mostActive,
      percent(layer.persistence),
      layer.changedPerActive.toFixed(2),
      layer.writesPerActive.toFixed(2),
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
}

function printPolicies(
  { slots, trace, beladyLoads }: BudgetedTrace,
  figures: readonly PolicyFigures[],
): void {
  const kib = (rows: number): string => ((rows * trace.info.rowBytes) / trace.steps / 1024).toFixed(1);
  process.stdout.write(
    `\n${slots.join(', ')} slots; the offline optimum uploads ${kib(beladyLoads)} KiB a token\n`,
  );
  const table = new Table({
    head: ['policy', 'hit rate', 'KiB a token', 'over optimum', 'repack over this', 'writes/m', 'in pieces'],
    style: { head: [], border: [] },
  });
  for (const one of figures) {
    table.push([
      one.policy,
      percent(one.hitRate),
      kib(one.loads),
      one.versusBelady.toFixed(3),
      one.repackOverThis.toFixed(2),
      one.writesPerActive.toFixed(3),
      one.inPieces,
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
}
