export * from './errors.js';
export { createBuffer, destroyBuffer, gpuBytes } from './gpu/buffers.js';
export { allocate } from './gpu/allocate.js';
export { type Rebuildable, type Recover, recovering } from './gpu/recovering.js';
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
export { DevicePool, type PoolOptions, type PoolSource } from './pool/device-pool.js';
export type { FieldLayout, FieldSpec, MatrixQuantization } from './pool/fields.js';
export type { QuantizationError } from './quantize.js';
export {
  BlobSource,
  type ByteReadOptions,
  type ByteSource,
  MemorySource,
  type ModelFolder,
} from './io/byte-source.js';
export {
  type HttpAnswer,
  HttpFolder,
  type HttpOpenOptions,
  type HttpOptions,
  HttpSource,
  type HttpTransport,
} from './io/http-source.js';
export type { RetryOptions } from './io/retry.js';
export type { BlockCache } from './pool/block-cache.js';
export { openBundle, RowBundle } from './pool/bundle.js';
export { HostPool, type HostPoolOptions } from './pool/host-pool.js';
export { type CacheFiles, opfsFiles, SegmentCache, type SegmentCacheOptions } from './pool/segment-cache.js';
export { type ReadCounts, StoredPool, type StoredPoolOptions, type StoredRows } from './pool/stored-pool.js';
export type { OffDevicePool, Pool, ReadOptions } from './pool/pool.js';
export { ArrivingRows } from './slab/arriving-rows.js';
export {
  ResidentSlab,
  type ResidentSlabOptions,
  type StepPiece,
  type StepRecorder,
} from './slab/resident-slab.js';
export { Slab } from './slab/slab.js';
export type { SlabOptions, UpdateOptions } from './slab/slab-options.js';
export { updateMany } from './slab/update-many.js';
export type { UpdateStats } from './slab/update-stats.js';
export type { SlabDtype } from './slab/slab-fields.js';
export { UploadRing, type UploadRingOptions } from './slab/upload-ring.js';
export type { ActiveDownView, SlabView } from './slab/view.js';
export * from './tune/index.js';
export {
  COUNT_WORDS,
  DevicePlanner,
  type DevicePlannerOptions,
  type DeviceState,
  type DeviceUpdate,
} from './slab/device-planner.js';
export { RowSelector, type Selected, type Selection } from './slab/row-selector.js';
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
