import { AdapterError } from '../errors.js';
import { USED_FEATURES } from './tuning-key.js';

/** The limits that matter to compute; a device is asked for as much of each as its adapter has. */
export const COMPUTE_LIMITS = [
  'maxBufferSize',
  'maxTextureDimension2D',
  'maxStorageBufferBindingSize',
  'maxUniformBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxUniformBuffersPerShaderStage',
  'maxBindGroups',
  'maxBindingsPerBindGroup',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupsPerDimension',
] as const satisfies readonly (keyof GPUSupportedLimits)[];

/**
 * What to ask `adapter` for, in a page: `adapter.requestDevice(deviceNeeds(adapter))`. The features that pairslab makes use
 * of and as much of every limit as there is; nothing that the adapter has not. A plain `requestDevice()` works too, with
 * smaller buffers and without the variants that need a feature.
 */
export function deviceNeeds(adapter: GPUAdapter): GPUDeviceDescriptor {
  const { features, limits } = adapter;
  return {
    label: 'pairslab',
    requiredFeatures: USED_FEATURES.filter((feature) => features.has(feature)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(COMPUTE_LIMITS.map((limit) => [limit, limits[limit]])),
  };
}

/** A device of the browser's, in a page or a worker, with what `deviceNeeds` asks for. @throws AdapterError without WebGPU. */
export async function requestBrowserDevice(): Promise<GPUDevice> {
  // Types say that it is always there.
  const gpu = (globalThis.navigator as Partial<Navigator> | undefined)?.gpu;
  const adapter = await gpu?.requestAdapter();
  if (!adapter) throw new AdapterError('there is no WebGPU here, or no adapter for it.');
  return adapter.requestDevice(deviceNeeds(adapter));
}
