import { readFile } from 'node:fs/promises';
import { calibrate } from '../../llama/calibrate.js';
import { LlamaSession } from '../../llama/session.js';
import { openModel, writeThresholds } from '../model.js';
import { Progress } from '../progress.js';

export interface CalibrateFlags {
  model: string;
  text: string;
  sparsity: number;
  tokens: number;
  adapter?: string;
  autotune?: boolean;
  json?: boolean;
}

export async function runCalibrate(flags: CalibrateFlags): Promise<void> {
  const text = await readFile(flags.text, 'utf8');
  const model = await openModel(flags);
  try {
    const window = Math.min(64, model.weights.context);
    const session = new LlamaSession(model.gpu.device, model.weights, {
      strategy: 'dense',
      prefillChunk: window,
    });
    const ids = (await model.text()).encode(text);
    const progress = new Progress('calibrating');
    const { sparsity, tokens } = flags;
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
