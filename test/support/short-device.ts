import { gpuBytes } from '../../src/gpu/buffers.js';
import { setWaiter } from '../../src/gpu/wait.js';
import { quietWait } from '../../src/node/quiet-wait.js';

/**
 * A real device that says it is out of memory, as WebGPU does (later, to the error scope), for what would make the
 * package's buffers and textures on it more than `bytes`. Software adapters lend all of the host's memory, and a test should not.
 */
export function shortDevice(device: GPUDevice): { device: GPUDevice; memory: { bytes: number } } {
  const memory = { bytes: Number.POSITIVE_INFINITY };
  const scopes: { filter: GPUErrorFilter; error: GPUError | null }[] = [];
  const made = <D extends { label?: string; usage: number }, M>(
    descriptor: D,
    bytes: number,
    make: (descriptor: D) => M,
  ): M => {
    const scope = scopes.findLast(({ filter }) => filter === 'out-of-memory');
    if (gpuBytes(short) + bytes <= memory.bytes) return make(descriptor);
    if (!scope) throw new Error(`${descriptor.label}: nobody would hear that there is no memory`);
    scope.error ??= { message: `no memory for ${descriptor.label}` } as GPUError;
    // No usage is none that there is: what comes back is no buffer, as where there is no memory.
    device.pushErrorScope('validation');
    const none = make({ ...descriptor, usage: 0 });
    void device.popErrorScope();
    return none;
  };
  const instead: Readonly<Record<string, (...given: never[]) => unknown>> = {
    createBuffer: (descriptor: GPUBufferDescriptor) =>
      made(descriptor, descriptor.size, (given) => device.createBuffer(given)),
    createTexture: (descriptor: GPUTextureDescriptor) => {
      const [width, height] = descriptor.size as number[];
      const texel = 16;
      if (descriptor.format !== 'rgba32uint') throw new Error(`${descriptor.format} is not measured here`);
      return made(descriptor, width * height * texel, (given) => device.createTexture(given));
    },
    pushErrorScope: (filter: GPUErrorFilter) => {
      scopes.push({ filter, error: null });
      device.pushErrorScope(filter);
    },
    popErrorScope: async () => {
      const scope = scopes.pop();
      return (await device.popErrorScope()) ?? scope?.error ?? null;
    },
  };
  const short: GPUDevice = new Proxy(device, {
    get(target, key) {
      if (typeof key === 'string' && Object.hasOwn(instead, key)) return instead[key];
      const value: unknown = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  setWaiter(short, quietWait);
  return { device: short, memory };
}
