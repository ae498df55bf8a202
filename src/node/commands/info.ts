import Table from 'cli-table3';
import { USED_FEATURES } from '../device.js';
import { type AdapterEntry, listAdapters } from '../adapters.js';
import { OptionError } from '../../errors.js';
import type { StoredDtype } from '../../gpu/layout.js';
import { openCheckpoint } from '../../llama/checkpoint.js';
import { chooseContext, chooseDtype, estimateBytes, mlpRows } from '../../llama/weights.js';
import { type Budget, splitEvenly } from '../../residency/budget.js';
import { DiskFolder } from '../model-folder.js';
import { tuningKey } from '../../gpu/tuning-key.js';
import { readTuning } from '../../gpu/tuning-store.js';
import { diskStore, tuningFile } from '../tuning-store.js';

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeInvocationsPerWorkgroup',
];

export interface InfoFlags {
  model?: string;
  budget?: Budget;
  dtype?: StoredDtype;
  context?: number;
  json?: boolean;
}

export async function runInfo(flags: InfoFlags): Promise<void> {
  const { model, budget, dtype, context } = flags;
  if (model !== undefined) return modelInfo(model, flags);
  if (budget || dtype || context !== undefined)
    throw new OptionError('--budget, --dtype and --context are for a model: give --model DIR as well.');
  const adapters = await listAdapters();
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(adapters, null, 2)}\n`);
    return;
  }
  if (adapters.length === 0) process.stdout.write('no WebGPU adapter found\n');
  for (const adapter of adapters) {
    const table = new Table({ style: { head: [], border: [] } });
    const used = USED_FEATURES.filter((feature) => adapter.features.includes(feature));
    table.push(
      ['name', adapter.name],
      ['device', adapter.deviceName],
      ['driver', adapter.info.description],
      ['kind', adapter.software ? 'software' : 'GPU'],
      ['features used', used.join(', ') || 'none'],
      ['tuning', await tuningOf(adapter)],
      ['subgroup size', `${adapter.subgroupMinSize} to ${adapter.subgroupMaxSize}`],
      ...LIMITS.map((name): [string, string] => [name, String(adapter.limits[name])]),
      ['all features', adapter.features.join('\n')],
    );
    process.stdout.write(`${table.toString()}\n`);
  }
}

/** What a model takes of GPU memory, by its configuration alone. */
async function modelInfo(model: string, { budget, dtype: wanted, context, json }: InfoFlags): Promise<void> {
  const folder = await DiskFolder.at(model);
  try {
    const checkpoint = await openCheckpoint(folder);
    const { config } = checkpoint;
    const dtype = chooseDtype(checkpoint, wanted);
    const positions = chooseContext(config, context);
    const parts = estimateBytes(config, dtype, positions, budget);
    const bytes = Object.values(parts).reduce((sum, part) => sum + part, 0);
    const slots = budget ? splitEvenly(budget, mlpRows(config, dtype)) : null;
    if (json) {
      process.stdout.write(`${JSON.stringify({ dtype, context: positions, budget, slots, parts, bytes })}\n`);
      return;
    }
    const table = new Table({ style: { head: [], border: [] }, colAligns: ['left', 'right'] });
    for (const [part, size] of Object.entries(parts)) table.push([part, megabytes(size)]);
    table.push(['all', megabytes(bytes)]);
    process.stdout.write(`${table.toString()}\n`);
    process.stdout.write(`as ${dtype}, context ${positions}; activations and kernels come on top\n`);
    if (slots)
      process.stdout.write(
        `${slots[0]} of ${config.intermediateSize} up and down rows a layer on the device\n`,
      );
  } finally {
    await folder.close();
  }
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;

/** What runs on this adapter load, unless they are told --no-autotune. */
async function tuningOf({ info, features, subgroupMinSize, subgroupMaxSize }: AdapterEntry): Promise<string> {
  const key = tuningKey({ ...info, subgroupMinSize, subgroupMaxSize }, features);
  const tuning = await readTuning(key, diskStore(), (line) => process.stderr.write(`${line}\n`));
  return tuning ? `${tuning.entries.length} kernels, ${tuningFile(key)}` : 'none (see `pairslab autotune`)';
}
