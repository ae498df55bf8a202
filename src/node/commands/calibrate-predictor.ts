import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError, ShapeError } from '../../errors.js';
import {
  judgePredictor,
  type LayerSample,
  limitFor,
  rankActive,
  sampleGates,
  withLimit,
} from '../../llama/calibrate-predictor.js';
import { openCheckpoint } from '../../llama/checkpoint.js';
import { fitLowRank, fitSigns } from '../../llama/fit-predictor.js';
import { gatePool } from '../../llama/layer-fields.js';
import { encodePredictor, PREDICTOR_FILE } from '../../llama/predictor.js';
import { LlamaSession } from '../../llama/session.js';
import type { RowPredictor } from '../../mlp/predictor.js';
import { loadEigen } from '../eigen.js';
import { openModel } from '../model.js';
import { DiskFolder } from '../model-folder.js';
import { Progress } from '../progress.js';
import { writeWhole } from '../write-whole.js';

export type PredictorKind = 'svd' | 'signs';
export const PREDICTOR_KINDS: readonly PredictorKind[] = ['svd', 'signs'];

export interface PredictorFlags {
  model: string;
  text: string;
  tokens: number;
  skip: number;
  predictor: PredictorKind;
  rank?: number;
  bits?: number;
  inputBits?: number;
  recall: number;
  out?: string;
  adapter?: string;
  autotune?: boolean;
  json?: boolean;
}

/** Of the text, the share that predictors are judged on and not fitted to: one token in so many. */
const JUDGED = 5;

/** Fits a predictor of each layer's active rows to a text, and writes them beside the model. */
export async function runCalibratePredictor(flags: PredictorFlags): Promise<void> {
  const { predictor: kind, recall, skip } = flags;
  const svd = kind === 'svd';
  for (const [name, value, of] of [
    ['rank', flags.rank, 'svd'],
    ['bits', flags.bits, 'signs'],
    ['input-bits', flags.inputBits, 'signs'],
  ] as const) {
    if (value !== undefined && of !== kind)
      throw new OptionError(`--${name} is for --predictor ${of}.`, { kind, name });
  }
  if (!(recall > 0 && recall <= 1))
    throw new OptionError(`--recall must be above 0 and at most 1; it is ${recall}.`, { recall });
  const text = await readFile(flags.text, 'utf8');
  const model = await openModel({ model: flags.model, adapter: flags.adapter, autotune: flags.autotune });
  const folder = await DiskFolder.at(flags.model);
  try {
    const { weights, gpu } = model;
    const { layers, intermediateSize, hiddenSize } = weights.config;
    const window = Math.min(64, weights.context);
    const session = new LlamaSession(gpu.device, weights, { strategy: 'dense', prefillChunk: window });
    const ids = (await model.text()).encode(text).slice(skip, skip + flags.tokens);
    if (ids.length < JUDGED * window) {
      throw new ShapeError(
        `a predictor needs ${JUDGED * window} tokens or more to be fitted to; the text has ${ids.length} from ${skip} on.`,
        { tokens: ids.length, skip },
      );
    }
    const cut = ids.length - Math.floor(ids.length / JUDGED);
    const progress = new Progress('calibrating');
    const sample = (of: number[], done: number): Promise<LayerSample[]> =>
      sampleGates(session, of, {
        tokens: of.length,
        window,
        onProgress: (at) => progress.update(done + at, ids.length, 'tokens'),
      });
    const fitted = await sample(ids.slice(0, cut), 0);
    const judged = await sample(ids.slice(cut), cut);
    session.destroy();
    const checkpoint = await openCheckpoint(folder);
    const eigen = svd ? await loadEigen() : undefined;
    const predictors: RowPredictor[] = [];
    const quality = [];
    for (let l = 0; l < layers; l++) {
      progress.update(l, layers, 'layers');
      const gate = await checkpoint.readF32(`${gatePool(l)}.weight`, [intermediateSize, hiddenSize]);
      const fit = eigen
        ? fitLowRank(gate, fitted[l], { rank: flags.rank ?? Math.min(64, hiddenSize), eigen })
        : fitSigns(gate, fitted[l], { bits: flags.bits ?? 2, inputBits: flags.inputBits ?? 4 });
      predictors.push(withLimit(fit, limitFor(rankActive(fit, fitted[l]), recall)));
      quality.push(judgePredictor(predictors[l], judged[l]));
    }
    progress.end();
    const file = flags.out ?? join(flags.model, PREDICTOR_FILE);
    const metadata = { predictor: kind, recall: String(recall), tokens: String(cut) };
    await writeWhole(file, encodePredictor({ layers: predictors }, hiddenSize, metadata));
    if (flags.json) {
      process.stdout.write(`${JSON.stringify({ file, kind, recall, tokens: cut, layers: quality })}\n`);
      return;
    }
    const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
    quality.forEach(({ recall: found, massRecall, precision, density, active }, l) => {
      process.stdout.write(
        `layer ${l}: predicts ${percent(density)} of the rows, where ${percent(active)} are active; finds ` +
          `${percent(found)} of those, ${percent(massRecall)} by size; ${percent(precision)} of what it predicts is active\n`,
      );
    });
    process.stdout.write(
      `judged on ${ids.length - cut} tokens that it was not fitted to; written to ${file}\n`,
    );
  } finally {
    await folder.close();
    await model.close();
  }
}
