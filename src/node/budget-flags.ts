import { OptionError } from '../errors.js';
import type { SessionResidency } from '../llama/budgeted-layers.js';
import { POOL_HOMES, type PoolHome } from '../llama/weights.js';
import { type Budget, policyNamed } from '../residency/index.js';
import { useCounts } from '../residency/replay.js';
import { layerChurn } from '../residency/report.js';
import { isUrl } from './open-folder.js';
import { readTrace } from './trace-file.js';

/** What a command is told about rows that are not all on the device. */
export interface BudgetFlags {
  budget?: Budget;
  policy?: string;
  /** `host`, `file`, or the URL of a folder that `pairslab convert` wrote. */
  pool?: string;
  prefetch?: boolean;
  /** A trace that `pairslab trace` recorded: which rows were used. */
  hot?: string;
}

/** How often each row was used where it was measured, [layers][N], and the rows of a mean step of the busiest layer. */
export interface Use {
  counts: readonly ArrayLike<number>[];
  least: number;
}

/**
 * @returns what sessions and weights are told.
 * @throws OptionError for flags that need a budget where there is none, or an unknown policy, and what `readTrace` throws:
 * before anything is loaded.
 */
export async function residencyOf({
  budget,
  policy,
  pool,
  prefetch,
  hot,
}: BudgetFlags): Promise<{ residency: SessionResidency; use?: Use }> {
  if (!budget && (policy !== undefined || pool !== undefined || hot !== undefined || prefetch))
    throw new OptionError(
      '--policy, --pool, --hot and --prefetch are for a run under a --budget, such as --budget 25%.',
    );
  const use = hot === undefined ? undefined : await useOf(hot);
  if (policy?.startsWith('pinned') && !use)
    throw new OptionError(
      'policy pinned needs to know which rows are hot: give --hot TRACE, from `pairslab trace`.',
    );
  if (policy !== undefined) policyNamed(policy, use?.counts[0]);
  return { residency: { policy, prefetch, counts: use?.counts }, use };
}

async function useOf(file: string): Promise<Use> {
  const trace = await readTrace(file);
  const counts = Array.from({ length: trace.info.layers }, (_, l) => useCounts(trace.layer(l)));
  // With fewer slots than a mean step's rows nearly all steps would be in pieces.
  const least = Math.max(1, ...layerChurn(trace).map(({ active }) => Math.ceil(active)));
  return { counts, least };
}

/** Where rows are: their home, and the URL of their folder where it is not the model's. @throws OptionError */
export function poolOf(pool: string): { home: PoolHome; url?: string } {
  if (isUrl(pool)) return { home: 'file', url: pool };
  const home = POOL_HOMES.find((known) => known === pool);
  if (home) return { home };
  throw new OptionError(
    `pool "${pool}" is none: use host, file, or the URL of a folder that \`pairslab convert\` wrote, such as http://host/rows/.`,
    { pool },
  );
}

/**
 * The model that a command is for: where only a pool's URL is given, the one that is served there.
 * @throws OptionError when there is none.
 */
export function modelOf({ model, pool }: { model?: string; pool?: string }): string {
  if (model !== undefined) return model;
  if (pool !== undefined && isUrl(pool)) return pool;
  throw new OptionError('give --model DIR: a folder of the LLaMA family, or the URL of a converted one.');
}
