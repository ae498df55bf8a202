/**
 * What is used of onnxruntime-web, in the words of its types. An app hands in its own module (`import * as ort from
 * 'onnxruntime-web/webgpu'`), so that there is one copy of it, and nothing is imported here.
 */

/** An `ort.Tensor`. */
export interface OrtTensor {
  readonly dims: readonly number[];
  readonly type: string;
  /** Where its data is; `gpuBuffer` throws unless it is `gpu-buffer`. */
  readonly location: string;
  readonly gpuBuffer: GPUBuffer;
  dispose(): void;
}

/** What a tensor over a buffer is made of. */
export interface OrtBufferOptions {
  dataType: 'float32' | 'float16';
  dims: readonly number[];
  download?(): Promise<Float32Array & Uint16Array>;
  dispose?(): void;
}

/** The module; `T` is its own type of tensors. */
export interface OrtModule<T extends OrtTensor = OrtTensor> {
  readonly env: { readonly webgpu: { readonly device: Promise<GPUDevice> | GPUDevice } };
  readonly Tensor: { fromGpuBuffer(buffer: GPUBuffer, options: OrtBufferOptions): T };
}
