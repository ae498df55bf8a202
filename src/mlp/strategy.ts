import { OptionError } from '../errors.js';

/** How a step's rows are reached; see the README's table for when each wins. */
export type Strategy = 'dense' | 'indexed' | 'repack' | 'paired' | 'auto';
export const STRATEGIES: readonly Strategy[] = ['dense', 'indexed', 'repack', 'paired', 'auto'];

/** @throws OptionError for an unknown strategy. */
export function checkStrategy(strategy: string): Strategy {
  if ((STRATEGIES as readonly string[]).includes(strategy)) return strategy as Strategy;
  throw new OptionError(`strategy "${strategy}" is unknown; use one of ${STRATEGIES.join(', ')}.`, {
    strategy,
  });
}
