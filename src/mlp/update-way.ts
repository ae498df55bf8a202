import { OptionError } from '../errors.js';
import { traitsOf } from '../gpu/traits.js';
import { DevicePool } from '../pool/device-pool.js';
import type { Slab } from '../slab/slab.js';
import type { FusedUpdate } from './fused-update.js';

/**
 * How a packed step brings new rows into its slab: `copy`, by a dispatch of its own, or `fused`, by the kernels that
 * multiply them, which read them once. Both leave the same slab. Where `fused` cannot be done (`canFuseUpdate`, and
 * batches), `copy` is.
 */
export type UpdateWay = 'copy' | 'fused';
export const UPDATE_WAYS: readonly UpdateWay[] = ['copy', 'fused'];

/**
 * @param kernels Of fused updates, where the layer has them.
 * @throws OptionError for a way that is not known, or not without the kernels.
 */
export function checkUpdateWay(way: string, kernels: FusedUpdate | undefined): UpdateWay {
  if (way === 'fused' && !kernels)
    throw new OptionError(
      'update "fused" needs its kernels: make the layer with `fused: fusedUpdate`, of pairslab/kernels.',
    );
  if ((UPDATE_WAYS as readonly string[]).includes(way)) return way as UpdateWay;
  throw new OptionError(`update "${way}" is unknown; use one of ${UPDATE_WAYS.join(', ')}.`, { update: way });
}

/** The fields that the fused kernels bring in: all that a slab may have, with its gates and where they are apart. */
const FIELDS: readonly string[] = ['gateUp', 'down'];
const RESIDENT_FIELDS: readonly string[] = ['up', 'down'];

/**
 * Whether a slab's rows can be brought in by the kernels that multiply them: a gated layer without row biases (their
 * buffers would exceed eight bindings), its pool on the device in buffers, each field in one shard, stored in the slab as
 * in the pool.
 */
export function canFuseUpdate(slab: Pick<Slab, 'pool' | 'fields'>): boolean {
  return canFuse(slab, FIELDS);
}

/** The same of a slab whose layer computes its gates by themselves. */
export function canFuseResident(slab: Pick<Slab, 'pool' | 'fields'>): boolean {
  return canFuse(slab, RESIDENT_FIELDS);
}

function canFuse({ pool, fields }: Pick<Slab, 'pool' | 'fields'>, known: readonly string[]): boolean {
  if (!(pool instanceof DevicePool)) return false;
  return [...pool.fields.values()].every(
    ({ name, dtype, shards, storage }) =>
      known.includes(name) &&
      shards.length === 1 &&
      storage === 'buffer' &&
      fields.get(name)?.dtype === dtype,
  );
}

/**
 * Share of the active rows that must be new for `fused` to pay on software adapters. Measured on lavapipe with an MLP of
 * 2048 x 8192, f32, at densities of 5, 10 and 25 %: a step takes 1.15, 1.09, 1.06 times as long by a copy where all rows
 * are new (bench suite `fused`), 1.03 to 1.18 at three quarters, 0.73 to 0.98 at half, 0.87 to 0.93 at a fifth.
 */
const FUSED_FROM = 0.75;

/**
 * The way that is faster on an adapter of the kind where `arriving` says which share of the active rows is new. No GPU
 * was at hand to measure: there the copy stays.
 */
export function updateWay(device: GPUDevice, arriving: () => number): UpdateWay {
  return traitsOf(device).software && arriving() >= FUSED_FROM ? 'fused' : 'copy';
}
