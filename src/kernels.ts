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
export {
  down,
  downArriving,
  gateUp,
  gateUpArriving,
  linear,
  sumPartials,
} from './mlp/kernels.js';
export { gateUpActive, gateUpPredicted, upArriving } from './mlp/threshold-kernels.js';
export { compact, copyRows, indexSelect, maskValues } from './slab/kernels.js';
export { maskDiff, planMoves, selectRows } from './slab/select-kernels.js';
