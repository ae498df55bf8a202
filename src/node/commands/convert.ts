import type { StoredDtype } from '../../gpu/layout.js';
import { convertModel } from '../../llama/convert.js';
import { FolderSink } from '../folder-sink.js';
import { interruptible } from '../interrupt.js';
import { announceQuantization } from '../model.js';
import { DiskFolder } from '../model-folder.js';
import { Progress } from '../progress.js';

export interface ConvertFlags {
  model: string;
  out: string;
  dtype: StoredDtype;
  blockRows: number;
  json?: boolean;
}

/** Converts into a folder beside `--out` and renames it: what is interrupted or fails leaves nothing there. */
export async function runConvert(flags: ConvertFlags): Promise<void> {
  const { dtype, blockRows } = flags;
  const folder = await DiskFolder.at(flags.model);
  const progress = new Progress('converting');
  const started = performance.now();
  try {
    const result = await interruptible(async (signal) => {
      const sink = await FolderSink.at(flags.out);
      try {
        const onProgress = (done: number, total: number, name: string) => progress.update(done, total, name);
        const made = await convertModel(folder, sink, { dtype, blockRows, signal, onProgress });
        signal.throwIfAborted();
        await sink.commit();
        return { out: sink.path, dtype, ...made };
      } catch (error) {
        if (!signal.aborted) throw error;
        process.stderr.write('stopped: nothing was written\n');
        return null;
      } finally {
        progress.end();
        await sink.discard();
      }
    });
    if (!result) return;
    const seconds = (performance.now() - started) / 1000;
    announceQuantization(result);
    if (flags.json) process.stdout.write(`${JSON.stringify({ ...result, seconds })}\n`);
    else {
      const mib = (result.bytes / 2 ** 20).toFixed(1);
      process.stdout.write(`${flags.out}: ${mib} MiB in ${seconds.toFixed(1)} s, ${dtype}\n`);
    }
  } finally {
    await folder.close();
  }
}
