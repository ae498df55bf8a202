import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../errors.js';
import { MemorySource } from '../io/byte-source.js';
import { openCheckpoint } from '../llama/checkpoint.js';
import type { LlamaConfig } from '../llama/config.js';
import { checkModeOptions, type Mode } from '../llama/mode.js';
import { type ModelPredictor, PREDICTOR_FILE, readPredictor } from '../llama/predictor.js';
import type { RowChoiceOptions } from '../llama/row-choice.js';
import { openSafetensors } from '../llama/safetensors.js';
import type { SessionOptions } from '../llama/session.js';
import { readThresholds } from './model.js';
import { isUrl, openFolder } from './open-folder.js';

/** The flags that say how a run finds its active rows. */
export interface ModeFlags {
  mode: Mode;
  /** Of mode predict; default beside the model. */
  predictor?: string;
  sigma?: number;
  /** Of mode topk, as given: a count, or a share such as 5%. */
  rows?: number;
  sticky?: number;
  smooth?: number;
}

/**
 * What a session is given for the flags, read before a device is taken.
 * @throws OptionError when a file is missing that the mode goes by, or a flag is of another mode; ModelFormatError for a
 * file that is not what it should be.
 */
export async function modeOptions(
  model: string,
  flags: ModeFlags,
): Promise<Pick<SessionOptions, keyof RowChoiceOptions | 'thresholds'>> {
  const { mode, predictor: file, sigma, rows, sticky, smooth } = flags;
  // Before anything is read, in the words of the command line.
  const given = { predictor: file, sigma, topRows: rows, sticky, smooth };
  checkModeOptions(mode, given, (option) => (option === 'topRows' ? '--rows' : `--${option}`));
  const thresholds = mode === 'threshold' ? await readThresholds(model) : undefined;
  const predictor = mode === 'predict' ? await loadPredictor(model, file) : undefined;
  return { mode, thresholds, ...given, predictor };
}

async function loadPredictor(model: string, given?: string): Promise<ModelPredictor> {
  if (isUrl(model) && !given) {
    throw new OptionError('mode predict of a model on a server needs --predictor FILE, on this machine.', {
      model,
    });
  }
  const file = given ?? join(model, PREDICTOR_FILE);
  const folder = await openFolder(model);
  let config: LlamaConfig;
  try {
    config = (await openCheckpoint(folder)).config;
  } finally {
    await folder.close();
  }
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch {
    throw new OptionError(
      `mode predict needs ${file}: run \`pairslab calibrate --model ${model} --text FILE --predictor signs\` first, or name a file with --predictor.`,
      { file },
    );
  }
  return readPredictor(await openSafetensors(new MemorySource(bytes, file)), config);
}
