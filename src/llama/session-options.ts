import type { Compute } from '../mlp/compute.js';
import type { Strategy } from '../mlp/strategy.js';
import type { UpdateStats } from '../slab/update-stats.js';
import type { SessionResidency } from './budgeted-layers.js';
import type { Mode } from './mode.js';
import type { RowChoiceOptions } from './row-choice.js';
import type { SlabsOptions } from './session-slabs.js';

export interface SessionOptions extends SlabsOptions, RowChoiceOptions {
  /** Default auto. Decides how decode and (dense, indexed and auto; see `Prefill`) prefill reach their rows. */
  strategy?: Strategy;
  /**
   * `exact` (default) leaves out what contributes nothing; `threshold` what `thresholds` says; others, of each token but
   * not of prompts, what they do not choose.
   */
  mode?: Mode;
  /** Per layer: rows with |act(gate)| at or below it are left out. Needed by, and only for, mode `threshold`. */
  thresholds?: readonly number[];
  /**
   * What all matrices but down are multiplied in. Default f32. f16 needs weights stored as f16 and a device with
   * `shader-f16`. Logits change by about 1e-3 of their size, so that near ties strategies may choose other tokens.
   */
  compute?: Compute;
  /** Tokens prefilled at once. Default 64. */
  prefillChunk?: number;
  /**
   * Where strategy paired finds out what its slabs must write. `device` (default): a token, or several, are one submit and
   * one readback. `host`: each layer's mask comes to the CPU and is waited for.
   */
  planOn?: 'device' | 'host';
  /** For weights loaded under a budget, where masks come to the host, whatever `planOn` says. */
  residency?: SessionResidency;
}

/** What one decode step did; submits and readbacks are shared by the tokens that went with them. Where there are no slabs (dense, indexed, auto) there are no updates. */
export interface StepStats {
  /** Active rows of each layer; null for dense, which does not count them. */
  active: number[] | null;
  /** Mode predict: rows of each layer that were predicted, of which the active ones turned out to be so. */
  predicted?: number[];
  /** What each layer's slab did; empty unless repack or paired. */
  updates: UpdateStats[];
  submits: number;
  readbacks: number;
  /** Layers whose rows did not fit in their slabs, so that the token was done again, through index lists. */
  redone?: readonly number[];
}
