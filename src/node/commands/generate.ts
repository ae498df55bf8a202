import { OptionError } from '../../errors.js';
import { generate, type GenerateStats } from '../../llama/generate.js';
import { Sampler } from '../../llama/sample.js';
import type { Mode } from '../../llama/mode.js';
import { LlamaSession } from '../../llama/session.js';
import type { StoredDtype } from '../../gpu/layout.js';
import type { StorageChoice } from '../../gpu/storage.js';
import type { Compute } from '../../mlp/compute.js';
import type { SlabDtype } from '../../slab/slab-fields.js';
import type { Strategy } from '../../mlp/strategy.js';
import { type BudgetFlags, modelOf, residencyOf } from '../budget-flags.js';
import { interruptible } from '../interrupt.js';
import { type ModeFlags, modeOptions } from '../mode-options.js';
import { openModel } from '../model.js';
import { Progress } from '../progress.js';
import { TextStream } from '../text.js';

export interface GenerateFlags extends BudgetFlags, ModeFlags {
  model?: string;
  prompt?: string;
  promptIds?: number[];
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  seed: number;
  strategy: Strategy;
  dtype?: StoredDtype;
  storage?: StorageChoice;
  slabDtype?: SlabDtype;
  compute: Compute;
  context?: number;
  cache?: boolean;
  cacheLimit?: number;
  adapter?: string;
  autotune?: boolean;
  json?: boolean;
}

export async function runGenerate(flags: GenerateFlags): Promise<void> {
  if ((flags.prompt === undefined) === (flags.promptIds === undefined)) {
    throw new OptionError('give one of --prompt TEXT and --prompt-ids 1,2,3.');
  }
  const { residency, use } = await residencyOf(flags);
  const folder = modelOf(flags);
  const { temperature, topK, topP, seed, strategy, mode, compute } = flags;
  const sampler = new Sampler({ temperature, topK, topP, seed });
  const chosen = await modeOptions(folder, flags);
  const model = await openModel({ ...flags, model: folder, use });
  try {
    const session = new LlamaSession(model.gpu.device, model.weights, {
      strategy,
      ...chosen,
      compute,
      slabDtype: flags.slabDtype,
      residency,
    });
    warnIfDense(mode, model.weights.config.hiddenAct, session.strategy);
    // Ids in, ids out: a folder without a tokenizer still generates.
    const codec = flags.prompt === undefined ? await model.text().catch(() => null) : await model.text();
    const promptIds = flags.promptIds ?? codec?.encode(flags.prompt as string) ?? [];
    const stream = codec && !flags.json ? new TextStream(codec) : null;
    const progress = new Progress('prefill');
    let prefilled = 0;
    let begun = false;
    const { tokens, stats } = await interruptible((signal) => {
      // Who sees text may press Ctrl-C: none before it is listened for.
      if (stream && flags.prompt !== undefined) process.stdout.write(flags.prompt);
      return generate(session, {
        promptIds,
        maxTokens: flags.maxTokens,
        sampler,
        signal,
        recover: model.recover,
        onPrefill: (done, total) => {
          prefilled = done;
          progress.update(done, total);
        },
        onRows: (done, total) => {
          if (!begun) progress.update(prefilled, promptIds.length, `(${done} of ${total} rows of a layer)`);
        },
        onToken: (id) => {
          begun = true;
          progress.end();
          if (flags.json) return;
          process.stdout.write(stream ? stream.push(id) : `${id} `);
        },
      });
    });
    const { adapter } = model.gpu;
    if (flags.json) {
      const named = {
        adapter: adapter.name,
        device: adapter.deviceName,
        strategy: session.strategy,
        mode,
        dtype: model.weights.dtype,
        compute,
        ...(flags.slabDtype ? { slabDtype: flags.slabDtype } : {}),
        ...(flags.budget ? { budget: flags.budget, slots: model.weights.slots } : {}),
      };
      const text = codec ? codec.decode(tokens) : null;
      const { quantization } = model.weights;
      process.stdout.write(
        `${JSON.stringify({ tokens, text, stats: { ...named, ...stats }, quantization })}\n`,
      );
    } else {
      process.stdout.write(`${stream ? stream.end() : ''}\n`);
      process.stderr.write(`${describe(session.strategy, stats)}\n`);
    }
    session.destroy();
  } finally {
    await model.close();
  }
}

/** Says so where a "sparse" run has nothing to leave out. */
export function warnIfDense(mode: Mode, act: string, strategy: string): void {
  if (mode === 'exact' && act !== 'relu' && strategy !== 'dense') {
    process.stderr.write(
      `note: ${act} is never exactly zero, so mode exact leaves nothing out; calibrate the model and use --mode threshold.\n`,
    );
  }
}

function describe(strategy: string, stats: GenerateStats): string {
  const parts = [
    `${strategy}: ${stats.decodeTokensPerSecond.toFixed(1)} tokens/s`,
    `${(stats.timeToFirstToken * 1000).toFixed(0)} ms to the first token`,
    `prefill ${stats.prefillTokensPerSecond.toFixed(0)} tokens/s`,
  ];
  if (stats.activeRows)
    parts.push(`active rows ${stats.activeRows.map((rows) => rows.toFixed(0)).join('/')}`);
  if (stats.predictedRows)
    parts.push(`predicted ${stats.predictedRows.map((rows) => rows.toFixed(0)).join('/')}`);
  if (stats.writesShare !== null) parts.push(`writes/m ${stats.writesShare.toFixed(2)}`);
  const { residency } = stats;
  if (residency) {
    parts.push(
      `hits ${(100 * residency.hitRate).toFixed(0)} %`,
      `uploads ${(residency.uploadedBytes / 1e3).toFixed(0)} kB/token`,
      `${residency.pieces.toFixed(2)} pieces a layer`,
      `GPU ${(stats.gpuBytes / 1e6).toFixed(1)} MB`,
    );
    const { prefetch } = residency;
    if (prefetch)
      parts.push(
        `${prefetch.guessedRows.toFixed(0)} rows guessed a token, ${(100 * prefetch.usedShare).toFixed(0)} % of them used, ` +
          `${(100 * prefetch.foundShare).toFixed(0)} % of those that were missing`,
      );
  }
  parts.push(`stopped by ${stats.stoppedBy}`);
  return parts.join(', ');
}
