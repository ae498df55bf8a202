export * from './errors.js';
export { createBuffer, destroyBuffer, gpuBytes } from './gpu/buffers.js';
export { finished, readBuffer } from './gpu/readback.js';
export { setWaiter, waitFor, type Waiter } from './gpu/wait.js';
export type { MatrixData, StoredDtype } from './gpu/layout.js';
export * from './mask/index.js';
export * from './plan/index.js';
export { DevicePool, type FieldSpec, type PoolOptions } from './pool/device-pool.js';
export {
  type ActiveDownView,
  Slab,
  type SlabOptions,
  type SlabView,
  type UpdateOptions,
  type UpdateStats,
} from './slab/slab.js';
export { type Settings, settings } from './settings.js';
export type { Activation } from './mlp/activation.js';
export {
  type EncodeStep,
  SparseMLP,
  type SparseMLPOptions,
  type SparseMLPWeights,
} from './mlp/sparse-mlp.js';
export { STRATEGIES, type Strategy } from './mlp/strategy.js';
