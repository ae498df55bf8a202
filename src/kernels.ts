/**
 * Kernels by themselves, for a runtime that wants no more than one: tables of their variants, and `kernel` to compile
 * one for a device. A kernel's bindings, parameters and grid are described at the top of its WGSL.
 */
export {
  type Bound,
  compose,
  type Dispatch,
  encodeDispatch,
  foldGrid,
  Kernel,
  type KernelTable,
  kernel,
  type Variant,
} from './gpu/kernel.js';
export { attention, embed, rmsNorm, rope } from './llama/kernels.js';
export { type FusedUpdate, fusedUpdate, gateUpArriving } from './mlp/fused-update.js';
export { gateUp } from './mlp/kernels.js';
export {
  modelDown as down,
  modelDownArriving as downArriving,
  modelLinear as linear,
  modelSumPartials as sumPartials,
} from './mlp/model-kernels.js';
export { gateUpActive, gateUpPredicted, upArriving } from './mlp/threshold-kernels.js';
export { compact, copyRows, indexSelect, maskValues } from './slab/kernels.js';
export { copyStagedRows } from './slab/staged-kernels.js';
export { maskDiff, planMoves, selectRows } from './slab/select-kernels.js';
export { useSoftwareKernels } from './software-kernels.js';
