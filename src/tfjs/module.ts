/**
 * What is used of TensorFlow.js and its WebGPU backend, in the words of their types. An app hands in its own module
 * (`import * as tf from '@tensorflow/tfjs-core'`, or `@tensorflow/tfjs`), so that there is one copy of it, and nothing is
 * imported here.
 */

/** A `tf.Tensor`. */
export interface TfTensor {
  readonly dataId: object;
  readonly shape: readonly number[];
  readonly dtype: string;
  dispose(): void;
}

/** `WebGPUBackend`: its public members that lead to a tensor's buffer. */
export interface TfBackend {
  readonly device: GPUDevice;
  readonly bufferManager: { acquireBuffer(size: number, usage: number): GPUBuffer };
  readonly tensorMap: { get(dataId: object): { resource?: unknown } };
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
  uploadToGPU(dataId: object): void;
  makeTensorInfo(shape: number[], dtype: 'float32'): { dataId: object };
}

/** The module; `T` is its own type of tensors. */
export interface TfModule<T extends TfTensor = TfTensor> {
  backend(): object;
  engine(): { makeTensorFromTensorInfo(info: never): T };
  tensor(values: { buffer: GPUBuffer; zeroCopy: true }, shape: number[], dtype: 'float32'): T;
}
