import Table from 'cli-table3';
import { USED_FEATURES } from '../device.js';
import { type AdapterEntry, listAdapters } from '../adapters.js';
import { tuningKey } from '../../gpu/tuning-key.js';
import { readTuning } from '../../gpu/tuning-store.js';
import { diskStore, tuningFile } from '../tuning-store.js';

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeInvocationsPerWorkgroup',
];

export async function runInfo(flags: { json?: boolean }): Promise<void> {
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

/** What runs on this adapter load, unless they are told --no-autotune. */
async function tuningOf({ info, features, subgroupMinSize, subgroupMaxSize }: AdapterEntry): Promise<string> {
  const key = tuningKey({ ...info, subgroupMinSize, subgroupMaxSize }, features);
  const tuning = await readTuning(key, diskStore(), (line) => process.stderr.write(`${line}\n`));
  return tuning ? `${tuning.entries.length} kernels, ${tuningFile(key)}` : 'none (see `pairslab autotune`)';
}
