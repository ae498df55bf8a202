/**
 * pairslab beside TensorFlow.js on one device: slabs and MLPs as tensors, tensors as inputs, nothing copied to the host,
 * and nothing on the device but what `copies` counts. Tested with @tensorflow/tfjs-core and
 * @tensorflow/tfjs-backend-webgpu 4.22.0, in Chromium.
 */
import { AdapterError, OptionError, ShapeError } from '../errors.js';
import { Usage } from '../gpu/buffers.js';
import { DeviceForward, type DeviceStep } from '../mlp/device-forward.js';
import type { SparseMLP } from '../mlp/sparse-mlp.js';
import { packedDtype } from '../slab/packed-view.js';
import type { SlabView } from '../slab/view.js';
import type { TfBackend, TfModule, TfTensor } from './module.js';

export type { DeviceStep } from '../mlp/device-forward.js';
export type { TfBackend, TfModule, TfTensor } from './module.js';

/** The usage of the buffers that its manager hands out for tensors, and takes back. */
const TENSOR_USAGE = Usage.STORAGE | Usage.COPY_SRC | Usage.COPY_DST;

/** @throws AdapterError unless tfjs runs on its WebGPU backend. */
function webgpuBackend(tf: Pick<TfModule, 'backend'>): TfBackend {
  const backend = tf.backend() as Partial<TfBackend>;
  if (backend.device && backend.bufferManager && backend.tensorMap) return backend as TfBackend;
  throw new AdapterError("tfjs does not run on WebGPU: `await tf.setBackend('webgpu')` first.");
}

/** The device that tfjs runs on. @throws AdapterError unless its WebGPU backend is in use. */
export function tfDevice(tf: Pick<TfModule, 'backend'>): GPUDevice {
  return webgpuBackend(tf).device;
}

/**
 * Submits what tfjs has recorded, which it does by itself only now and then: call it before a slab's update where an
 * operation on a tensor of that slab was asked for since, which would else see the new rows.
 */
export function flush(tf: Pick<TfModule, 'backend'>): void {
  const backend = webgpuBackend(tf);
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  backend.submitQueue();
}

/**
 * The rows of a slab as a tensor [m, columns] over the slab's own buffer, e.g. for `tf.matMul`; it holds until the slab's
 * next update (`flush` before that). No padding is needed, and so none is there, where the columns of each part (for
 * `gateUp`, of gate and of up) are a multiple of 4. `tf.dispose` leaves the slab alone.
 * @throws OptionError for rows that are padded, not f32, or none.
 */
export function slabTensor<T extends TfTensor>(tf: Pick<TfModule<T>, 'tensor'>, view: SlabView): T {
  packedDtype(view, ['f32'], 'tfjs');
  return tf.tensor({ buffer: view.buffer, zeroCopy: true }, [...view.shape], 'float32');
}

/** An MLP of pairslab among tfjs's operations. */
export class TfMLP<T extends TfTensor> {
  readonly mlp: SparseMLP;
  private readonly tf: TfModule<T>;
  private readonly steps: DeviceForward;

  /** @throws AdapterError unless tfjs runs on WebGPU; OptionError where the layer is on another device. */
  constructor(tf: TfModule<T>, mlp: SparseMLP) {
    if (tfDevice(tf) !== mlp.device) {
      throw new OptionError(
        'the layer is on another device than tfjs: make it with `SparseMLP.create(tfDevice(tf), …)`.',
      );
    }
    this.tf = tf;
    this.mlp = mlp;
    this.steps = new DeviceForward(mlp);
  }

  /** Steps for which x had to be padded, by a copy on the device; see `DeviceForward`. */
  get copies(): number {
    return this.steps.copies;
  }

  /**
   * y = mlp(x). Submits what tfjs has recorded, then the step.
   * @param x [..., hidden] float32. One that tfjs has still on the host is uploaded by it.
   * @returns y of x's shape, a tensor like any other: `tf.tidy` and `dispose` free it.
   * @throws ShapeError for another shape; OptionError for another dtype; what `SparseMLP.encode` throws.
   */
  run(x: TfTensor, step: DeviceStep = {}): T {
    const { tf, mlp, steps } = this;
    const { shape, dtype, dataId } = x;
    if (dtype !== 'float32') throw new OptionError(`x is ${dtype}; it must be float32.`, { dtype });
    const size = shape.reduce((product, dim) => product * dim, 1);
    if (shape.length === 0 || shape[shape.length - 1] !== mlp.hidden || size === 0) {
      throw new ShapeError(`x is [${shape}]; its last dimension must be the layer's ${mlp.hidden}.`, {
        shape,
      });
    }
    const backend = webgpuBackend(tf);
    backend.uploadToGPU(dataId);
    flush(tf);
    const info = backend.makeTensorInfo([...shape], 'float32');
    // Of tfjs's own manager, as it fills its tensors itself: so it counts the buffer, and reuses it when y is disposed of.
    const buffer = backend.bufferManager.acquireBuffer(size * 4, TENSOR_USAGE);
    backend.tensorMap.get(info.dataId).resource = buffer;
    const y = tf.engine().makeTensorFromTensorInfo(info as never);
    try {
      steps.run(backend.tensorMap.get(dataId).resource as GPUBuffer, buffer, size / mlp.hidden, step);
      return y;
    } catch (error) {
      y.dispose();
      throw error;
    }
  }

  /** Frees what is held; the layer and its results stay. */
  destroy(): void {
    this.steps.destroy();
  }
}
