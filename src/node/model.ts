import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelFormatError, OptionError } from '../errors.js';
import type { StoredDtype } from '../gpu/layout.js';
import { type Calibration, parseThresholds, THRESHOLDS_FILE } from '../llama/calibrate.js';
import { openCheckpoint } from '../llama/checkpoint.js';
import { chooseDtype, type LlamaWeights, loadWeights, type PoolHome } from '../llama/weights.js';
import { type Compute, checkCompute } from '../mlp/compute.js';
import type { Budget } from '../residency/budget.js';
import { type NodeDevice, requestDevice } from './device.js';
import { DiskFolder } from './model-folder.js';
import { Progress } from './progress.js';
import { openTokenizer, type TextCodec } from './text.js';
import { writeWhole } from './write-whole.js';

/** A model on a device, ready for sessions. */
export interface OpenModel {
  path: string;
  gpu: NodeDevice;
  weights: LlamaWeights;
  /** Opened when first asked for: a run on ids needs none. */
  text(): Promise<TextCodec>;
  close(): Promise<void>;
}

export interface OpenOptions {
  model: string;
  adapter?: string;
  /** Default f32, or what the model was converted to. */
  dtype?: StoredDtype;
  /** What sessions will be asked for: refused before anything is loaded. Default f32. */
  compute?: Compute;
  context?: number;
  /** Of the up and down rows, what may be on the device at a time. Default: all. */
  budget?: Budget;
  /** Under a budget, where those rows are. */
  pool?: PoolHome;
  /** False: default variants, whatever `pairslab autotune` saved. */
  autotune?: boolean;
}

/** One line that says which adapter is in use; on stderr, so that stdout holds the result alone. */
export function announce({ adapter }: NodeDevice): void {
  process.stderr.write(`adapter: ${adapter.name} (${adapter.deviceName})\n`);
}

/** One line on what quantising cost, on stderr; --json has the figures of every matrix. */
export function announceQuantization({
  dtype,
  quantization,
}: Pick<LlamaWeights, 'dtype' | 'quantization'>): void {
  const matrices = Object.entries(quantization).sort(([, a], [, b]) => b.rmsRelative - a.rmsRelative);
  if (matrices.length === 0) return;
  const [worst, error] = matrices[0];
  const mean = matrices.reduce((sum, [, { rmsRelative }]) => sum + rmsRelative, 0) / matrices.length;
  const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
  process.stderr.write(
    `quantised ${matrices.length} matrices to ${dtype}: rms error ${percent(mean)} on average, ` +
      `${percent(error.rmsRelative)} at worst (${worst})\n`,
  );
}

/**
 * Reads the model's description, then takes a device, then loads: a bad folder costs no GPU.
 * @throws what `openCheckpoint`, `chooseDtype`, `checkCompute`, `requestDevice` and `loadWeights` throw.
 */
export async function openModel(options: OpenOptions): Promise<OpenModel> {
  const folder = await DiskFolder.at(options.model);
  try {
    const checkpoint = await openCheckpoint(folder);
    const { compute = 'f32' } = options;
    const dtype = chooseDtype(checkpoint, options.dtype);
    checkCompute(compute, dtype);
    const gpu = await requestDevice({
      adapter: options.adapter,
      tuning: options.autotune === false ? false : undefined,
    });
    announce(gpu);
    checkCompute(compute, dtype, gpu.device);
    const progress = new Progress('loading');
    const weights = await loadWeights(gpu.device, checkpoint, {
      dtype,
      context: options.context,
      budget: options.budget,
      pool: options.pool,
      onProgress: (done, total, name) => progress.update(done, total, name),
    });
    progress.end();
    announceQuantization(weights);
    let text: Promise<TextCodec> | undefined;
    return {
      path: options.model,
      gpu,
      weights,
      text: () => {
        text ??= openTokenizer(folder);
        return text;
      },
      close: async () => {
        weights.destroy();
        gpu.destroy();
        await folder.close();
      },
    };
  } catch (error) {
    await folder.close();
    throw error;
  }
}

/** The thresholds that `pairslab calibrate` left beside a model. @throws OptionError when there are none. */
export async function readThresholds(model: string): Promise<readonly number[]> {
  const file = join(model, THRESHOLDS_FILE);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    throw new OptionError(
      `mode threshold needs ${file}: run \`pairslab calibrate --model ${model} --text FILE\` first.`,
    );
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ModelFormatError(`${file} is not JSON; run \`pairslab calibrate\` again.`, { file });
  }
  return parseThresholds(json);
}

/** Writes the thresholds whole or not at all. @returns the file's path. */
export async function writeThresholds(model: string, calibration: Calibration): Promise<string> {
  const file = join(model, THRESHOLDS_FILE);
  await writeWhole(file, `${JSON.stringify({ version: 1, ...calibration }, null, 2)}\n`);
  return file;
}
