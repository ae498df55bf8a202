import { readFile } from 'node:fs/promises';
import { OptionError } from '../../errors.js';
import { calibrate } from '../../llama/calibrate.js';
import { LlamaSession } from '../../llama/session.js';
import { openModel, writeThresholds } from '../model.js';
import { Progress } from '../progress.js';
import { type PredictorFlags, runCalibratePredictor } from './calibrate-predictor.js';

export interface CalibrateFlags extends Partial<Omit<PredictorFlags, 'tokens'>> {
  model: string;
  text: string;
  sparsity?: number;
  tokens?: number;
  adapter?: string;
  autotune?: boolean;
  json?: boolean;
}

const THRESHOLD_TOKENS = 2048;
const PREDICTOR_TOKENS = 6144;

export async function runCalibrate(flags: CalibrateFlags): Promise<void> {
  const { predictor, rank, bits, inputBits, recall, out, skip = 0 } = flags;
  if (!Number.isInteger(skip) || skip < 0)
    throw new OptionError(`--skip must be an integer of 0 or more; it is ${skip}.`, { skip });
  if (predictor) {
    if (flags.sparsity !== undefined)
      throw new OptionError('--sparsity is for thresholds; a predictor has --recall.', { predictor });
    const tokens = flags.tokens ?? PREDICTOR_TOKENS;
    await runCalibratePredictor({ ...flags, predictor, tokens, skip, recall: recall ?? 0.95 });
    return;
  }
  const others = { rank, bits, 'input-bits': inputBits, recall, out };
  for (const [name, value] of Object.entries(others)) {
    if (value !== undefined)
      throw new OptionError(`--${name} is for a predictor: name one with --predictor.`, { name });
  }
  await calibrateThresholds(flags, skip);
}

async function calibrateThresholds(flags: CalibrateFlags, skip: number): Promise<void> {
  const text = await readFile(flags.text, 'utf8');
  const model = await openModel(flags);
  try {
    const window = Math.min(64, model.weights.context);
    const session = new LlamaSession(model.gpu.device, model.weights, {
      strategy: 'dense',
      prefillChunk: window,
    });
    const ids = (await model.text()).encode(text).slice(skip);
    const progress = new Progress('calibrating');
    const { sparsity = 0.5, tokens = THRESHOLD_TOKENS } = flags;
    const found = await calibrate(session, ids, {
      sparsity,
      tokens,
      window,
      onProgress: (done, total) => progress.update(done, total, 'tokens'),
    });
    progress.end();
    const file = await writeThresholds(flags.model, found);
    session.destroy();
    if (flags.json) process.stdout.write(`${JSON.stringify({ file, ...found })}\n`);
    else {
      found.thresholds.forEach((t, l) => {
        process.stdout.write(
          `layer ${l}: threshold ${t.toPrecision(4)}, leaves out ${(found.leftOut[l] * 100).toFixed(1)} %\n`,
        );
      });
      process.stdout.write(`written to ${file}\n`);
    }
  } finally {
    await model.close();
  }
}
