/**
 * The core: masks, plans, pools on the device, slabs, and the MLP over them. What an app may do without has entries of its
 * own: `pairslab/pool` (rows elsewhere), `pairslab/device-plan`, `pairslab/residency`, `pairslab/tune`, `pairslab/llama`.
 */
export type { Dtype } from './dtype.js';
export * from './errors.js';
export { createBuffer, destroyBuffer, gpuBytes } from './gpu/buffers.js';
export { allocate } from './gpu/allocate.js';
export { type Rebuildable, type Recover, recovering } from './gpu/recovering.js';
export { recovery, type RecoveryOptions } from './gpu/recovery.js';
export { deviceNeeds } from './gpu/device-needs.js';
export { finished, readBuffer } from './gpu/readback.js';
export { setWaiter, waitFor, type Waiter } from './gpu/wait.js';
export type { MatrixData, StoredDtype } from './gpu/layout.js';
export type { RowStorage, StorageChoice } from './gpu/storage.js';
export {
  type CopyCosts,
  type Costs,
  type Rates,
  type ReadCosts,
  setTuning,
  type TunedEntry,
  type Tuning,
  tuningOf,
} from './gpu/tuning.js';
export * from './mask/index.js';
export * from './plan/index.js';
export { DevicePool, type Field, type PoolOptions, type PoolSource } from './pool/device-pool.js';
export type {
  FieldBuffer,
  FieldData,
  FieldLayout,
  FieldParts,
  FieldSpec,
  MatrixQuantization,
} from './pool/fields.js';
export type { QuantizationError } from './quantize.js';
export type { OffDevicePool, Pool, ReadOptions } from './pool/pool.js';
export { Slab } from './slab/slab.js';
export type { SlabOptions, UpdateOptions } from './slab/slab-options.js';
export { updateMany } from './slab/update-many.js';
export type { UpdateStats } from './slab/update-stats.js';
export type { SlabDtype } from './slab/slab-fields.js';
export type { ActiveDownView, SlabView } from './slab/view.js';
export { type Settings, settings } from './settings.js';
export type { Activation } from './mlp/activation.js';
export { type Compute, COMPUTES } from './mlp/compute.js';
export {
  type EncodeStep,
  SparseMLP,
  type SparseMLPOptions,
  type SparseMLPWeights,
} from './mlp/sparse-mlp.js';
export type { Estimates, Explanation, FixedStrategy, StepShape } from './mlp/cost-model.js';
export type { StepMask } from './mlp/step-masks.js';
export { STRATEGIES, type Strategy } from './mlp/strategy.js';
export { UPDATE_WAYS, type UpdateWay } from './mlp/update-way.js';
