/**
 * pairslab beside onnxruntime-web on one device: slabs and MLPs as ORT tensors, ORT's outputs as inputs, nothing copied
 * to the host. Tested with onnxruntime-web 1.30.0 (its WebGPU provider), in Chromium.
 */
import { AdapterError, OptionError, ShapeError } from '../errors.js';
import { createBuffer, destroyBuffer, ROW_ALIGN, roundUp, Usage } from '../gpu/buffers.js';
import { readBuffer } from '../gpu/readback.js';
import { DeviceForward, type DeviceStep } from '../mlp/device-forward.js';
import type { SparseMLP } from '../mlp/sparse-mlp.js';
import { packedDtype } from '../slab/packed-view.js';
import type { SlabView } from '../slab/view.js';
import type { OrtModule, OrtTensor } from './module.js';

export type { DeviceStep } from '../mlp/device-forward.js';
export type { OrtBufferOptions, OrtModule, OrtTensor } from './module.js';

/**
 * The device that ORT's sessions run on. There is none before the first session with the `webgpu` provider was created,
 * and ORT destroys it with the last one that is released, whoever else uses it: keep one as long as anything of pairslab.
 * ORT has submitted all of a `session.run` by the time its promise resolves, so that what pairslab submits afterwards
 * comes after it.
 * @throws AdapterError when ORT has no device.
 */
export async function ortDevice(ort: Pick<OrtModule, 'env'>): Promise<GPUDevice> {
  const device = await ort.env.webgpu?.device;
  if (typeof device?.createBuffer === 'function') return device;
  throw new AdapterError(
    'onnxruntime has no WebGPU device yet: import it from onnxruntime-web/webgpu, and create a session with ' +
      "executionProviders: ['webgpu'] first.",
  );
}

/**
 * The rows of a slab as a tensor [m, columns] over the slab's own buffer; it holds until the slab's next update.
 * f32 rows need no padding where the columns of each part (for `gateUp`, of gate and of up) are a multiple of 4, f16
 * rows where they are a multiple of 8.
 * @throws OptionError for rows that are padded, bf16, or none.
 */
export function slabTensor<T extends OrtTensor>(ort: Pick<OrtModule<T>, 'Tensor'>, view: SlabView): T {
  const dtype = packedDtype(view, ['f32', 'f16'], 'onnxruntime');
  return ort.Tensor.fromGpuBuffer(view.buffer, {
    dataType: dtype === 'f32' ? 'float32' : 'float16',
    dims: view.shape,
  });
}

/** An MLP of pairslab between ORT's sessions: tensors on the device in, tensors on the device out. */
export class OrtMLP<T extends OrtTensor> {
  readonly mlp: SparseMLP;
  private readonly ort: Pick<OrtModule<T>, 'Tensor'>;
  private readonly steps: DeviceForward;
  private readonly lent = new Set<GPUBuffer>();
  /** Buffers of tensors that were disposed of, by their size. */
  private readonly idle = new Map<number, GPUBuffer[]>();
  private destroyed = false;

  /** @throws AdapterError where ORT has no device yet; OptionError where the layer is on another one. */
  static async create<T extends OrtTensor>(ort: OrtModule<T>, mlp: SparseMLP): Promise<OrtMLP<T>> {
    if ((await ortDevice(ort)) !== mlp.device) {
      throw new OptionError(
        'the layer is on another device than onnxruntime: make it with `SparseMLP.create(await ortDevice(ort), …)`.',
      );
    }
    return new OrtMLP(ort, mlp);
  }

  private constructor(ort: OrtModule<T>, mlp: SparseMLP) {
    this.ort = ort;
    this.mlp = mlp;
    this.steps = new DeviceForward(mlp);
  }

  /** Steps for which x had to be padded, by a copy on the device; see `DeviceForward`. */
  get copies(): number {
    return this.steps.copies;
  }

  /**
   * y = mlp(x), submitted when this returns, so that a session may be run on it at once.
   * @param x [..., hidden] float32 on the device: an output of a session with `preferredOutputLocation: 'gpu-buffer'`, or
   * `Tensor.fromGpuBuffer`.
   * @returns y, of x's dims; dispose of it when no session that reads it is still running.
   * @throws ShapeError for other dims; OptionError for another type or place; what `SparseMLP.encode` throws.
   */
  run(x: OrtTensor, step: DeviceStep = {}): T {
    const { mlp, steps } = this;
    const { dims, type, location } = x;
    if (type !== 'float32')
      throw new OptionError(`x is ${type}; it must be float32 (cast it in the graph).`, { type });
    if (location !== 'gpu-buffer') {
      throw new OptionError(
        `x is on "${location}"; it must be a gpu-buffer: create its session with preferredOutputLocation: 'gpu-buffer'.`,
        { location },
      );
    }
    if (dims.length === 0 || dims[dims.length - 1] !== mlp.hidden) {
      throw new ShapeError(`x is [${dims}]; its last dimension must be the layer's ${mlp.hidden}.`, { dims });
    }
    if (dims.includes(0)) throw new ShapeError(`x is [${dims}]: there is nothing to compute.`, { dims });
    const batch = dims.slice(0, -1).reduce((product, dim) => product * dim, 1);
    const bytes = batch * mlp.hidden * 4;
    const y = this.borrow(bytes);
    try {
      steps.run(x.gpuBuffer, y, batch, step);
      return this.ort.Tensor.fromGpuBuffer(y, {
        dataType: 'float32',
        dims,
        download: async () => new Float32Array(await readBuffer(mlp.device, y, 0, bytes)) as never,
        dispose: () => this.giveBack(y),
      });
    } catch (error) {
      this.giveBack(y);
      throw error;
    }
  }

  /** Frees what is held; a tensor that is still in use has its buffer until it is disposed of. The layer stays. */
  destroy(): void {
    this.destroyed = true;
    this.steps.destroy();
    for (const buffer of [...this.idle.values()].flat()) destroyBuffer(this.mlp.device, buffer);
    this.idle.clear();
  }

  private borrow(bytes: number): GPUBuffer {
    const { device } = this.mlp;
    const usage = Usage.STORAGE | Usage.COPY_SRC | Usage.COPY_DST;
    const y = this.idle.get(roundUp(bytes, ROW_ALIGN))?.pop() ?? createBuffer(device, 'mlp y', bytes, usage);
    this.lent.add(y);
    return y;
  }

  private giveBack(y: GPUBuffer): void {
    if (!this.lent.delete(y)) return;
    if (this.destroyed) destroyBuffer(this.mlp.device, y);
    else this.idle.set(y.size, [...(this.idle.get(y.size) ?? []), y]);
  }
}
