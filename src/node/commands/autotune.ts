import Table from 'cli-table3';
import { OptionError } from '../../errors.js';
import type { StoredDtype } from '../../gpu/layout.js';
import type { StorageChoice } from '../../gpu/storage.js';
import { setTuning, type Tuning } from '../../gpu/tuning.js';
import { openCheckpoint } from '../../llama/checkpoint.js';
import { chooseDtype } from '../../llama/weights.js';
import { autotune, type AutotuneResult, defaultWorst, describeVariant } from '../../tune/autotune.js';
import type { MeasuredEntry } from '../../gpu/tuning.js';
import { tuningKeyOf } from '../../gpu/tuning-key.js';
import { defaultShapes, modelShapes, type TuneShape } from '../../tune/shapes.js';
import { readTuning, saveTuning } from '../../gpu/tuning-store.js';
import { requestDevice } from '../device.js';
import { interruptible } from '../interrupt.js';
import { announce } from '../model.js';
import { DiskFolder } from '../model-folder.js';
import { Progress } from '../progress.js';
import { cacheFolder, diskStore, tuningFile } from '../tuning-store.js';
import type { Shape } from './profile.js';

export interface AutotuneFlags {
  model?: string;
  shape?: Shape[];
  dtype?: StoredDtype;
  storage?: StorageChoice;
  seconds: number;
  adapter?: string;
  json?: boolean;
  print?: boolean;
  force?: boolean;
}

type Saved = Tuning & { readonly entries: readonly MeasuredEntry[] };

/** Tunes for a model's shapes, those given, or the usual ones, and saves the result; or prints what was saved. */
export async function runAutotune(flags: AutotuneFlags, folder = cacheFolder()): Promise<void> {
  if (flags.model !== undefined && flags.shape !== undefined)
    throw new OptionError('give --model DIR or --shape HIDDENxROWS, not both.');
  const shapes = flags.print ? [] : await shapesOf(flags);
  const gpu = await requestDevice({ adapter: flags.adapter, tuning: false });
  try {
    announce(gpu);
    const { device } = gpu;
    const store = diskStore(folder);
    const file = tuningFile(tuningKeyOf(device), folder);
    const saved = await readTuning(tuningKeyOf(device), store, (line) => process.stderr.write(`${line}\n`));
    if (flags.print) {
      print(flags, file, saved, 'nothing was saved for this adapter: run `pairslab autotune`');
      return;
    }
    setTuning(device, flags.force ? null : saved);
    const progress = new Progress('tuning');
    const result = await interruptible(async (signal) => {
      try {
        return await autotune(device, shapes, {
          signal,
          again: Boolean(flags.force),
          budgetMs: flags.seconds * 1000,
          onProgress: (done, total, note) => progress.update(done, total, note),
        });
      } catch (error) {
        if (!signal.aborted) throw error;
        process.stderr.write('stopped: what was saved before is kept\n');
        return null;
      } finally {
        progress.end();
      }
    });
    if (!result) return;
    await saveTuning(device, store, result);
    for (const note of result.notes) process.stderr.write(`note: ${note}\n`);
    print(flags, file, result, 'nothing could be measured');
  } finally {
    gpu.destroy();
  }
}

async function shapesOf(flags: AutotuneFlags): Promise<TuneShape[]> {
  return (await sizesOf(flags)).map((shape) => ({ ...shape, storage: flags.storage }));
}

async function sizesOf({ model, shape, dtype: given }: AutotuneFlags): Promise<TuneShape[]> {
  const dtype = given ?? 'f32';
  if (shape) return shape.map((size) => ({ ...size, dtype }));
  if (model === undefined) return defaultShapes(dtype);
  const folder = await DiskFolder.at(model);
  try {
    const checkpoint = await openCheckpoint(folder);
    return modelShapes(checkpoint.config, chooseDtype(checkpoint, given));
  } finally {
    await folder.close();
  }
}

function print(
  flags: AutotuneFlags,
  file: string,
  tuning: Saved | AutotuneResult | null,
  none: string,
): void {
  if (flags.json) {
    const summary = tuning && { 'tune.default_worst': defaultWorst(tuning.entries) };
    process.stdout.write(`${JSON.stringify(tuning && { file, summary, ...tuning })}\n`);
    return;
  }
  if (!tuning || tuning.entries.length === 0) {
    process.stdout.write(`${none}\n`);
    return;
  }
  const table = new Table({
    head: ['kernel', 'dtype', 'batch', 'columns', 'rows in', 'default', 'chosen', 'speed-up'],
    style: { head: [], border: [] },
  });
  for (const entry of tuning.entries) {
    const { kernel, dtype, batched, cols, storage = 'buffer', variant, default: standard, speedup } = entry;
    const chosen = describeVariant(variant);
    const same = chosen === describeVariant(standard);
    table.push([
      kernel,
      dtype,
      batched ? 'many' : '1',
      cols,
      storage,
      describeVariant(standard),
      same ? 'the same' : chosen,
      same ? '' : `${speedup.toFixed(2)}×`,
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
  const worst = defaultWorst(tuning.entries) as number;
  process.stdout.write(
    `untuned, by the adapter's features alone, ${worst === 1 ? 'all would be the same' : `the worst would take ${worst.toFixed(2)}× as long`}\n`,
  );
  const how = 'timer' in tuning ? `measured in ${tuning.seconds.toFixed(1)} s by ${tuning.timer}; ` : '';
  process.stdout.write(`${how}kept in ${file}\n`);
}
