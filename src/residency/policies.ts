import { OptionError } from '../errors.js';
import { LFU_DECAY } from './decayed-counts.js';
import { Adaptive } from './policies/adaptive.js';
import { Exact } from './policies/exact.js';
import { Lfu } from './policies/lfu.js';
import { Lru } from './policies/lru.js';
import { Pinned } from './policies/pinned.js';
import { Window } from './policies/window.js';
import type { PolicyFactory } from './policy.js';

export const POLICIES = ['exact', 'window', 'lru', 'lfu', 'pinned', 'adaptive'] as const;
const DEFAULTS = { window: 4, pinnedShare: 0.5 };
const FORMS = `exact, window:STEPS, lru, lfu:DECAY, pinned:SHARE, adaptive`;

/**
 * A policy by its name, as on the command line: `exact`, `window:4`, `lru`, `lfu:0.97`, `pinned:0.5` (that share of the
 * slots; the rest is LFU) or `adaptive`; what stands after the colon may be left out.
 *
 * `counts`, for `pinned`, is [N]: how often each row was used where it was measured.
 *
 * @throws OptionError for another name, an argument out of range, or pinned without counts.
 */
export function policyNamed(text: string, counts?: ArrayLike<number>): PolicyFactory {
  const [name, argument, ...rest] = text.split(':');
  const known = POLICIES.find((policy) => policy === name);
  const takesArgument = known === 'window' || known === 'lfu' || known === 'pinned';
  const value = argument === undefined ? undefined : numberOf(argument);
  if (!known || rest.length > 0 || (value !== undefined && !takesArgument) || Number.isNaN(value)) {
    throw new OptionError(`policy "${text}" is unknown; use one of ${FORMS}`, { policy: text });
  }
  switch (known) {
    case 'exact':
      return () => new Exact();
    case 'lru':
      return (rows) => new Lru(rows);
    case 'adaptive':
      return (rows, capacity) => new Adaptive(rows, capacity);
    case 'window':
      return made((rows) => new Window(rows, value ?? DEFAULTS.window));
    case 'lfu':
      return made((rows) => new Lfu(rows, value ?? LFU_DECAY));
    case 'pinned':
      return pinned(value ?? DEFAULTS.pinnedShare, counts);
  }
}

function pinned(share: number, counts?: ArrayLike<number>): PolicyFactory {
  if (!(share >= 0 && share <= 1)) {
    throw new OptionError(`the pinned share is ${share}; it must be from 0 to 1`, { share });
  }
  if (!counts) throw new OptionError('policy pinned needs to know how often each row was used; give counts');
  return (rows, capacity) => new Pinned(counts, Math.floor(share * capacity), new Lfu(rows));
}

/** Has the arguments checked at once, not when the first slab is made. */
function made(factory: PolicyFactory): PolicyFactory {
  factory(1, 1);
  return factory;
}

function numberOf(text: string): number {
  return /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
}
