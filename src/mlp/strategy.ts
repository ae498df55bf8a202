import { OptionError } from '../errors.js';

/** How a step's rows are reached; see the README's table for when each wins. */
export type Strategy = 'dense' | 'indexed' | 'repack' | 'paired' | 'auto';
export const STRATEGIES: readonly Strategy[] = ['dense', 'indexed', 'repack', 'paired', 'auto'];

/** @throws OptionError for an unknown strategy. `auto` is `indexed` until a cost model says otherwise. */
export function resolveStrategy(strategy: string): Exclude<Strategy, 'auto'> {
  if (!(STRATEGIES as readonly string[]).includes(strategy)) {
    throw new OptionError(`strategy "${strategy}" is unknown; use one of ${STRATEGIES.join(', ')}.`, {
      strategy,
    });
  }
  return strategy === 'auto' ? 'indexed' : (strategy as Exclude<Strategy, 'auto'>);
}
