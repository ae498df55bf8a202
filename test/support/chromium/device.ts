/** What stands for src/node/device.ts where tests run in Chromium: the tab's own device. */
import { AdapterError } from '../../../src/errors.js';
import { setTuning } from '../../../src/gpu/tuning.js';
import { USED_FEATURES } from '../../../src/gpu/tuning-key.js';
import type { DeviceOptions, NodeDevice } from '../../../src/node/device.js';
import { useSoftwareKernels } from '../../../src/software-kernels.js';
import { chooseAdapter } from './adapters.js';

export { USED_FEATURES };

export async function requestDevice(options: DeviceOptions = {}): Promise<NodeDevice> {
  const { features, log = console.error } = options;
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new AdapterError('Chromium gives no adapter any more');
  const wanted = features === 'all' ? [...adapter.features] : (features ?? USED_FEATURES);
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = adapter.limits;
  const device = await adapter.requestDevice({
    label: 'pairslab',
    requiredFeatures: wanted.filter((name) =>
      adapter.features.has(name as GPUFeatureName),
    ) as GPUFeatureName[],
    requiredLimits: { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage },
  });
  device.addEventListener('uncapturederror', ({ error }) =>
    log(`uncaptured ${error.constructor.name}: ${error.message}`),
  );
  setTuning(device, null);
  useSoftwareKernels(device);
  void device.lost.then(({ reason, message }) => {
    if (reason !== 'destroyed') log(`the device was lost (${reason}): ${message}`);
  });
  return { device, adapter: await chooseAdapter(), destroy: () => device.destroy() };
}
