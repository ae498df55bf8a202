import { join } from 'node:path';
import { ModelFormatError, OptionError } from '../errors.js';
import type { StoredDtype } from '../gpu/layout.js';
import type { StorageChoice } from '../gpu/storage.js';
import { type Calibration, parseThresholds, THRESHOLDS_FILE } from '../llama/calibrate.js';
import { type Checkpoint, openCheckpoint } from '../llama/checkpoint.js';
import { chooseDtype, type LlamaWeights, type LoadOptions, loadWeights } from '../llama/weights.js';
import { type Compute, checkCompute } from '../mlp/compute.js';
import { makeRecovering, type Recover } from '../gpu/recovering.js';
import { recovery } from '../gpu/recovery.js';
import { readExactly } from '../io/byte-source.js';
import { openBundle } from '../pool/bundle.js';
import { SegmentCache } from '../pool/segment-cache.js';
import type { StoredPoolOptions } from '../pool/stored-pool.js';
import type { Budget } from '../residency/budget.js';
import { poolOf } from './budget-flags.js';
import { cacheFolderFiles } from './cache-files.js';
import { type NodeDevice, requestDevice } from './device.js';
import { isUrl, type OpenFolder, openFolder } from './open-folder.js';
import { Progress } from './progress.js';
import { openTokenizer, type TextCodec } from './text.js';
import { writeWhole } from './write-whole.js';

/** A model on a device, ready for sessions. */
export interface OpenModel {
  path: string;
  /** Where it is now: another one after a loss that `recover` made good. */
  readonly gpu: NodeDevice;
  /** For `generate`: says on stderr that the device was lost, and gives another of the same adapter. */
  recover: Recover;
  weights: LlamaWeights;
  /** Opened when first asked for: a run on ids needs none. */
  text(): Promise<TextCodec>;
  close(): Promise<void>;
}

export interface OpenOptions {
  /** A folder on disk, or the URL of one. */
  model: string;
  adapter?: string;
  /** Default f32, or what the model was converted to. */
  dtype?: StoredDtype;
  /** What kernels read the weights from. Default auto. */
  storage?: StorageChoice;
  /** What sessions will be asked for: refused before anything is loaded. Default f32. */
  compute?: Compute;
  context?: number;
  /** Of the up and down rows, what may be on the device at a time. Default: all. */
  budget?: Budget;
  /** Under a budget, where those rows are: `host` (default), `file`, or the URL of a converted model's folder. */
  pool?: string;
  /** Under a budget: which rows were used where it was measured, so that layers get slots by it. */
  use?: LoadOptions['use'];
  /** False: what comes over HTTP is not kept. */
  cache?: boolean;
  /** Bytes that may be kept. Default 4 GiB. */
  cacheLimit?: number;
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

/** What is kept of rows that came over HTTP, all models together. */
const CACHE_BYTES = 2 ** 32;
/** A request to a server costs as much as so many bytes more: rows this far apart are fetched at once. */
export const HTTP_GAP_BYTES = 128 << 10;

/**
 * Reads the model's description, then takes a device, then loads: a bad folder costs no GPU.
 * @throws what `openCheckpoint`, `chooseDtype`, `checkCompute`, `requestDevice` and `loadWeights` throw; OptionError for a
 * pool that is none.
 */
export async function openModel(options: OpenOptions): Promise<OpenModel> {
  const { home, url } = poolOf(options.pool ?? 'host');
  const folders: OpenFolder[] = [];
  const open = async (where: string) => {
    const folder = await openFolder(where);
    folders.push(folder);
    return folder;
  };
  let cache: SegmentCache | undefined;
  const close = async () => {
    await cache?.close();
    await Promise.all(folders.map((folder) => folder.close()));
  };
  try {
    const folder = await open(options.model);
    const checkpoint = await withRowsAt(url, options.model, await openCheckpoint(folder), open);
    const { compute = 'f32' } = options;
    const dtype = chooseDtype(checkpoint, options.dtype);
    checkCompute(compute, dtype);
    const stored: StoredPoolOptions = {};
    if (checkpoint.bundle && isUrl(url ?? options.model)) {
      if (options.cache !== false)
        cache = await SegmentCache.open(cacheFolderFiles(), { maxBytes: options.cacheLimit ?? CACHE_BYTES });
      Object.assign(stored, { cache, gapBytes: HTTP_GAP_BYTES });
    }
    const ask = async (adapter?: string) => {
      const found = await requestDevice({
        adapter,
        tuning: options.autotune === false ? false : undefined,
      });
      announce(found);
      return found;
    };
    let gpu = await ask(options.adapter);
    const recover = recovery({
      async requestDevice() {
        gpu = await ask(gpu.adapter.name);
        return gpu.device;
      },
      onLost: ({ details }) =>
        process.stderr.write(
          `\nthe GPU device was lost (${details.reason || 'unknown'}): asking for another\n`,
        ),
    });
    checkCompute(compute, dtype, gpu.device);
    const progress = new Progress('loading');
    const weights = await makeRecovering(gpu.device, recover, (device) =>
      loadWeights(device, checkpoint, {
        dtype,
        storage: options.storage,
        context: options.context,
        budget: options.budget,
        use: options.use,
        pool: home,
        stored,
        onProgress: (done, total, name) => progress.update(done, total, name),
      }),
    );
    progress.end();
    announceQuantization(weights);
    let text: Promise<TextCodec> | undefined;
    return {
      path: options.model,
      get gpu() {
        return gpu;
      },
      recover,
      weights,
      text: () => {
        text ??= openTokenizer(folder);
        return text;
      },
      close: async () => {
        weights.destroy();
        gpu.destroy();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The model with its rows from a URL, where one is given that is not its own. @throws OptionError when none are there. */
async function withRowsAt(
  url: string | undefined,
  model: string,
  checkpoint: Checkpoint,
  open: (where: string) => Promise<OpenFolder>,
): Promise<Checkpoint> {
  if (url === undefined || url === model) return checkpoint;
  const bundle = await openBundle(await open(url));
  if (bundle) return checkpoint.withRows(bundle);
  throw new OptionError(`${url} has no rows: serve a folder that \`pairslab convert\` wrote.`, { url });
}

/** The thresholds that `pairslab calibrate` left beside a model. @throws OptionError when there are none. */
export async function readThresholds(model: string): Promise<readonly number[]> {
  const file = isUrl(model)
    ? `${model}${model.endsWith('/') ? '' : '/'}${THRESHOLDS_FILE}`
    : join(model, THRESHOLDS_FILE);
  const folder = await openFolder(model);
  let text: string;
  try {
    const source = await folder.open(THRESHOLDS_FILE);
    if (!source)
      throw new OptionError(
        `mode threshold needs ${file}: run \`pairslab calibrate --model ${model} --text FILE\` first.`,
      );
    text = new TextDecoder().decode(await readExactly(source, 0, source.size));
  } finally {
    await folder.close();
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
