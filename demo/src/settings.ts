import type { StoredDtype, Strategy } from '../../src/index.js';
import type { Mode } from '../../src/llama/index.js';

/** What can be switched while text is made. */
export interface Settings {
  strategy: Strategy;
  mode: Mode;
  dtype: StoredDtype;
  /** Percent of the up and down rows that may be on the device; 100: all, without a budget. */
  budget: number;
  /** Mode threshold: percent of the rows to leave out. */
  sparsity: number;
}

export const DEFAULTS: Readonly<Settings> = {
  strategy: 'paired',
  mode: 'exact',
  dtype: 'f32',
  budget: 100,
  sparsity: 97,
};

/** Whether a change needs the weights anew. */
export const needsWeights = (a: Settings, b: Settings): boolean =>
  a.dtype !== b.dtype || a.budget !== b.budget;

/** Whether a change needs a new session. */
export const needsSession = (a: Settings, b: Settings): boolean =>
  needsWeights(a, b) ||
  a.strategy !== b.strategy ||
  a.mode !== b.mode ||
  (b.mode === 'threshold' && a.sparsity !== b.sparsity);
