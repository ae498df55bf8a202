export * from './errors.js';
export { createBuffer, destroyBuffer, gpuBytes } from './gpu/buffers.js';
export { finished, readBuffer } from './gpu/readback.js';
export { setWaiter, waitFor, type Waiter } from './gpu/wait.js';
export type { MatrixData, StoredDtype } from './gpu/layout.js';
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
export * from './residency/index.js';
export { DevicePool, type FieldSpec, type MatrixQuantization, type PoolOptions } from './pool/device-pool.js';
export type { QuantizationError } from './quantize.js';
export {
  type ActiveDownView,
  Slab,
  type SlabDtype,
  type SlabOptions,
  type SlabView,
  type UpdateOptions,
  type UpdateStats,
} from './slab/slab.js';
export * from './tune/index.js';
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
