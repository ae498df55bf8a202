/** The same device, seen through a proxy: other limits, and every call written down. */
export interface Tap {
  device: GPUDevice;
  /** Names of the device's and the queue's methods, in the order of the calls. */
  calls: string[];
  /** WGSL of the modules that were made. */
  shaders: string[];
}

export function tap(device: GPUDevice, limits: Readonly<Record<string, number>> = {}): Tap {
  const calls: string[] = [];
  const shaders: string[] = [];
  const watch = <T extends object>(target: T, instead: Readonly<Record<string, unknown>> = {}): T =>
    new Proxy(target, {
      get(real, key) {
        if (typeof key === 'string' && Object.hasOwn(instead, key)) return instead[key];
        const value: unknown = Reflect.get(real, key);
        if (typeof value !== 'function') return value;
        return (...given: unknown[]) => {
          calls.push(String(key));
          if (key === 'createShaderModule') shaders.push((given[0] as GPUShaderModuleDescriptor).code);
          return Reflect.apply(value, real, given);
        };
      },
    });
  const seen = new Proxy(device.limits, {
    get: (real, key) => limits[String(key)] ?? Reflect.get(real, key),
  });
  return { device: watch(device, { queue: watch(device.queue), limits: seen }), calls, shaders };
}

/** A compute pass that writes down the grids dispatched through it. */
export function tapPass(pass: GPUComputePassEncoder): { pass: GPUComputePassEncoder; grids: number[][] } {
  const grids: number[][] = [];
  const watched = new Proxy(pass, {
    get(real, key) {
      const value: unknown = Reflect.get(real, key);
      if (typeof value !== 'function') return value;
      return (...given: unknown[]) => {
        if (key === 'dispatchWorkgroups') grids.push(given as number[]);
        return Reflect.apply(value, real, given);
      };
    },
  });
  return { pass: watched, grids };
}
