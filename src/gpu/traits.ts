import { softwareKernels } from './storage.js';

/** What decides a kernel's default variant on a device. */
export interface Traits {
  /** A CPU pretends to be a GPU (SwiftShader, lavapipe): barriers are dear, coalescing does not matter. */
  readonly software: boolean;
  /** Lanes of the smallest subgroup, 0 without the `subgroups` feature. */
  readonly subgroup: number;
  readonly f16: boolean;
  /** The same, where f32 below 2^-126 stay what they are; most adapters flush them to zero, as WGSL allows. */
  readonly subnormals: boolean;
  readonly timestamps: boolean;
  /** It has what `useSoftwareKernels` brings. */
  readonly softwareKit: boolean;
  /** The same, on a software adapter whose subgroups have eight lanes, no more and no fewer. */
  readonly octets: boolean;
  /** Storage textures are read faster than storage buffers. */
  readonly fastTexels: boolean;
}

const known = new WeakMap<GPUDevice, Traits>();

/** Reads the traits of `device` from its features and its adapter's info. */
export function traitsOf(device: GPUDevice): Traits {
  let traits = known.get(device);
  const softwareKit = softwareKernels(device) !== undefined;
  if (traits?.softwareKit !== softwareKit) {
    // Firefox has no adapterInfo on devices yet; an unknown adapter is taken for a GPU.
    const info: Partial<GPUAdapterInfo> = device.adapterInfo ?? {};
    const name = `${info.vendor} ${info.architecture} ${info.description}`;
    const lavapipe = /llvmpipe|lavapipe/i.test(name);
    const software = info.isFallbackAdapter === true || /swiftshader|llvmpipe|lavapipe|software/i.test(name);
    const subgroup = device.features.has('subgroups') ? (info.subgroupMinSize ?? 4) : 0;
    traits = {
      software,
      subgroup,
      f16: device.features.has('shader-f16'),
      // Tested on each adapter that has it (test/kernels/shifted.test.ts); SwiftShader flushes.
      subnormals: softwareKit && lavapipe,
      softwareKit,
      octets: softwareKit && software && subgroup === 8 && info.subgroupMaxSize === 8,
      fastTexels: lavapipe,
      timestamps: device.features.has('timestamp-query'),
    };
    known.set(device, traits);
  }
  return traits;
}
