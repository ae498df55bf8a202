import { OptionError } from '../errors.js';
import type { SessionResidency } from '../llama/budgeted-layers.js';
import { POOL_HOMES, type PoolHome } from '../llama/weights.js';
import { type Budget, policyNamed } from '../residency/index.js';
import { isUrl } from './open-folder.js';

/** What a command is told about rows that are not all on the device. */
export interface BudgetFlags {
  budget?: Budget;
  policy?: string;
  /** `host`, `file`, or the URL of a folder that `pairslab convert` wrote. */
  pool?: string;
  prefetch?: boolean;
}

/**
 * @returns what sessions are told.
 * @throws OptionError for flags that need a budget where there is none, or an unknown policy: before anything is loaded.
 */
export function residencyOf({ budget, policy, pool, prefetch }: BudgetFlags): SessionResidency {
  if (!budget && (policy !== undefined || pool !== undefined || prefetch))
    throw new OptionError(
      '--policy, --pool and --prefetch are for a run under a --budget, such as --budget 25%.',
    );
  if (policy !== undefined) policyNamed(policy);
  return { policy, prefetch };
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
