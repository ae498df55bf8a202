import { readFile } from 'node:fs/promises';
import type { StoredDtype } from '../../gpu/layout.js';
import type { StorageChoice } from '../../gpu/storage.js';
import { perplexity } from '../../llama/perplexity.js';
import { LlamaSession } from '../../llama/session.js';
import type { Compute } from '../../mlp/compute.js';
import type { Strategy } from '../../mlp/strategy.js';
import { type BudgetFlags, modelOf, residencyOf } from '../budget-flags.js';
import { interruptible } from '../interrupt.js';
import { type ModeFlags, modeOptions } from '../mode-options.js';
import { openModel } from '../model.js';
import { Progress } from '../progress.js';
import { warnIfDense } from './generate.js';

export interface PerplexityFlags extends BudgetFlags, ModeFlags {
  model?: string;
  text: string;
  tokens: number;
  window?: number;
  /** Default dense, or what the mode reaches its rows by. */
  strategy?: Strategy;
  dtype?: StoredDtype;
  storage?: StorageChoice;
  compute: Compute;
  cache?: boolean;
  cacheLimit?: number;
  adapter?: string;
  autotune?: boolean;
  json?: boolean;
}

export async function runPerplexity(flags: PerplexityFlags): Promise<void> {
  const { mode, compute } = flags;
  const chooses = mode !== 'exact' && mode !== 'threshold';
  const strategy = flags.strategy ?? (chooses ? 'auto' : 'dense');
  const { residency, use } = await residencyOf(flags);
  const folder = modelOf(flags);
  const text = await readFile(flags.text, 'utf8');
  const chosen = await modeOptions(folder, flags);
  const model = await openModel({ ...flags, model: folder, use, context: flags.window });
  try {
    const { device } = model.gpu;
    const session = new LlamaSession(device, model.weights, { ...chosen, strategy, compute, residency });
    warnIfDense(mode, model.weights.config.hiddenAct, session.strategy);
    // Dense in f32 is what the rest is measured by.
    const differs = session.strategy !== 'dense' || mode !== 'exact' || compute !== 'f32';
    const reference = differs ? new LlamaSession(device, model.weights, { strategy: 'dense' }) : undefined;
    const ids = (await model.text()).encode(text);
    const window = model.weights.context;
    // A short text is scored as far as it goes; more is only refused when not one window fits.
    const tokens = Math.max(window, Math.min(flags.tokens, ids.length - 1 - ((ids.length - 1) % window)));
    const progress = new Progress('scoring');
    const started = performance.now();
    const result = await interruptible((signal) =>
      perplexity(session, ids, {
        tokens,
        reference,
        signal,
        onProgress: (done, total) => progress.update(done, total, 'tokens'),
      }),
    );
    progress.end();
    const seconds = (performance.now() - started) / 1000;
    if (flags.json) {
      const { name } = model.gpu.adapter;
      const { quantization, dtype } = model.weights;
      process.stdout.write(
        `${JSON.stringify({ ...result, adapter: name, strategy: session.strategy, mode, dtype, compute, seconds, quantization })}\n`,
      );
    } else {
      const compared =
        result.meanDifference === null
          ? ''
          : `; logits differ from dense${compute === 'f32' ? '' : ' in f32'} by ${result.meanDifference.toExponential(2)} on average, ` +
            `${result.worstDifference?.toExponential(2)} at worst`;
      process.stdout.write(
        `${result.natsPerToken.toFixed(6)} nats per token (perplexity ${result.perplexity.toFixed(3)}) over ` +
          `${result.tokens} tokens in windows of ${result.window}${compared}\n`,
      );
    }
    session.destroy();
    reference?.destroy();
  } finally {
    await model.close();
  }
}
