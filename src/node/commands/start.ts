import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { generate, type GenerateStats } from '../../llama/generate.js';
import { Sampler } from '../../llama/sample.js';
import { LlamaSession } from '../../llama/session.js';
import type { StoredDtype } from '../../gpu/layout.js';
import type { StorageChoice } from '../../gpu/storage.js';
import type { Compute } from '../../mlp/compute.js';
import { interruptible } from '../interrupt.js';
import { type OpenModel, openModel } from '../model.js';
import { TextStream } from '../text.js';

/** The model that ships with the repository, seen from dist/node. */
export const SHIPPED_MODEL = fileURLToPath(new URL('../../demo/models/statesman', import.meta.url));

const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;

export interface StartFlags {
  model: string;
  prompt: string;
  maxTokens: number;
  dtype?: StoredDtype;
  storage?: StorageChoice;
  compute: Compute;
  adapter?: string;
  autotune?: boolean;
}

interface Row {
  strategy: string;
  tokens: number[];
  stats: GenerateStats;
}

/** Generates by each strategy in turn and compares. The exit code is 1 when the tokens differ. */
export async function runStart(flags: StartFlags): Promise<void> {
  const model = await openModel(flags);
  try {
    const codec = await model.text();
    const promptIds = codec.encode(flags.prompt);
    const { layers, intermediateSize, vocabSize } = model.weights.config;
    process.stderr.write(
      `model: ${model.path}, ${layers} layers of ${intermediateSize} rows, ${vocabSize} tokens, stored as ${model.weights.dtype}, multiplied in ${flags.compute}\n\n`,
    );
    process.stdout.write(flags.prompt);
    const stream = new TextStream(codec);
    const rows: Row[] = [];
    await interruptible(async (signal) => {
      for (const strategy of STRATEGIES) {
        if (signal.aborted) return;
        const show = rows.length === 0 ? (id: number) => process.stdout.write(stream.push(id)) : undefined;
        rows.push(
          await measure(
            model,
            { strategy, compute: flags.compute },
            promptIds,
            flags.maxTokens,
            signal,
            show,
          ),
        );
        if (show) process.stdout.write(`${stream.end()}\n\n`);
      }
    });
    printTable(rows);
    if (!rows.every((row) => sameTokens(row, rows[0]))) process.exitCode = 1;
  } finally {
    await model.close();
  }
}

async function measure(
  model: OpenModel,
  options: { strategy: (typeof STRATEGIES)[number]; compute: Compute },
  promptIds: number[],
  maxTokens: number,
  signal: AbortSignal,
  onToken?: (id: number) => void,
): Promise<Row> {
  const session = new LlamaSession(model.gpu.device, model.weights, options);
  try {
    // Kernels are compiled at their first use: two tokens of it, before anything is timed.
    await generate(session, { promptIds, maxTokens: 3, sampler: new Sampler() });
    session.reset();
    const { tokens, stats } = await generate(session, {
      promptIds,
      maxTokens,
      sampler: new Sampler(),
      signal,
      onToken,
    });
    return { strategy: options.strategy, tokens, stats };
  } finally {
    session.destroy();
  }
}

const sameTokens = (a: Row, b: Row): boolean => a.tokens.join() === b.tokens.join();

function printTable(rows: readonly Row[]): void {
  const table = new Table({
    head: [
      'strategy',
      'tokens/s',
      'ms/token',
      'active rows',
      'writes/m',
      'copied/token',
      'weights/token',
      'readbacks',
      'GPU MB',
      'tokens equal',
    ],
    style: { head: [], border: [] },
  });
  const kib = (bytes: number): string => `${(bytes / 1024).toFixed(0)} KiB`;
  for (const row of rows) {
    const { strategy, stats } = row;
    table.push([
      strategy,
      stats.decodeTokensPerSecond.toFixed(1),
      stats.millisecondsPerToken.toFixed(2),
      stats.activeRows ? stats.activeRows.map((n) => n.toFixed(0)).join(' ') : 'all',
      stats.writesShare === null ? '–' : stats.writesShare.toFixed(2),
      kib(stats.copiedBytesPerToken),
      kib(stats.weightBytesPerToken),
      stats.readbacksPerToken.toFixed(stats.readbacksPerToken < 1 ? 2 : 0),
      (stats.gpuBytes / 1e6).toFixed(1),
      sameTokens(row, rows[0]) ? 'yes' : 'NO',
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
}
