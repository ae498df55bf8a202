/** The slabs of a session's layers. */
import { OptionError } from '../errors.js';
import { type Compute, checkCompute } from '../mlp/compute.js';
import { Slab } from '../slab/slab.js';
import { SLAB_DTYPES, type SlabDtype } from '../slab/slab-fields.js';
import type { LayerWeights } from './weights.js';

export interface SlabsOptions {
  /**
   * Slots of each layer's slab (repack and paired), from 1 to its rows. Default all, so that every mask fits. A token that
   * needs more is done again through index lists where the device plans, and is a CapacityError where the host does.
   */
  slabRows?: number;
  /**
   * What the slabs (repack and paired) keep up and down as: rows are converted on their way in. Default as the weights
   * are stored. f32 holds the very values of any dtype. f16 does not: that of a q8 or q4 weight is its scale times an
   * integer, rounded to 11 bits, so that logits change by about 1e-3 of their size, and near ties may give other tokens.
   */
  slabDtype?: SlabDtype;
}

/**
 * @param packs Whether the session's strategy has slabs in which rows are converted.
 * @throws OptionError for a dtype that rows cannot be converted to, where there are no such slabs, and for a `compute`
 * that is not for it.
 */
export function checkSlabDtype(
  slabDtype: SlabDtype | undefined,
  packs: boolean,
  compute: Compute,
): SlabDtype | undefined {
  if (slabDtype === undefined) return undefined;
  if (!SLAB_DTYPES.includes(slabDtype)) {
    throw new OptionError(
      `slab dtype "${String(slabDtype)}" is unknown; use one of ${SLAB_DTYPES.join(', ')}.`,
      {
        slabDtype,
      },
    );
  }
  if (!packs) {
    throw new OptionError(
      'a slab dtype is for slabs: use strategy repack or paired, and weights without a budget.',
      { slabDtype },
    );
  }
  checkCompute(compute, slabDtype);
  return slabDtype;
}

/** One slab a layer, over the rows of its MLP, put into `slabs`: those made stay there when one cannot be made. */
export function makeSlabs(
  layers: readonly LayerWeights[],
  { slabRows, slabDtype }: SlabsOptions,
  slabs: Slab[],
): void {
  const dtype = slabDtype && { up: slabDtype, down: slabDtype };
  for (const [l, { mlp }] of layers.entries())
    slabs.push(new Slab(mlp, { label: `layer ${l} slab`, pendingUpdates: 1, capacity: slabRows, dtype }));
}
