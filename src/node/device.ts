import { AdapterError } from '../errors.js';
import { useSoftwareKernels } from '../software-kernels.js';
import { COMPUTE_LIMITS } from '../gpu/device-needs.js';
import { setTuning } from '../gpu/tuning.js';
import { setWaiter } from '../gpu/wait.js';
import { USED_FEATURES } from '../gpu/tuning-key.js';
import { loadTuning, type TuningStore } from '../gpu/tuning-store.js';
import { type AdapterEntry, chooseAdapter, loadDawn } from './adapters.js';
import { QUIET_MS, quietWait } from './quiet-wait.js';
import { diskStore } from './tuning-store.js';

export { USED_FEATURES };

export interface DeviceOptions {
  /** See `chooseAdapter`. */
  adapter?: string;
  /** False lets shaders read and write out of bounds, for speed. A browser always has it on. */
  robustness?: boolean;
  /** Which features to ask for: by default those that pairslab uses and the adapter has. */
  features?: 'all' | readonly string[];
  /** The sleep of `quietWait` while waiting for this device, in ms; 0 for none. */
  sleepMs?: number;
  /**
   * Whether to use what `pairslab autotune` saved for this adapter, or from where. Default: yes, from the user's cache
   * folder, unless the environment has PAIRSLAB_TUNING=off.
   */
  tuning?: boolean | TuningStore;
  /** Takes errors that no error scope caught, and the loss of the device. Writes to stderr by default. */
  log?: (message: string) => void;
}

export interface NodeDevice {
  device: GPUDevice;
  adapter: AdapterEntry;
  destroy(): void;
}

/**
 * dawn.node's instances, by their options, held until the process ends.
 * Symptom: a device or anything made on it crashes Node (SIGSEGV in the garbage collector) once the object that
 * `create` returned was collected. https://issues.chromium.org/issues/387965810 and
 * https://github.com/dawn-gpu/node-webgpu/issues/18
 * Measured with webgpu 0.6.2: device kept, instance not, gc() ends in rc 139; with both kept, destroyed or not, the
 * process ends by itself with rc 0, and an idle device costs 2 ms of CPU a second.
 * Delete when a device keeps its instance alive.
 */
const instances = new Map<string, GPU>();

/** A WebGPU device in Node, with the adapter's own limits. The caller destroys it. */
export async function requestDevice(options: DeviceOptions = {}): Promise<NodeDevice> {
  const { robustness = true, sleepMs = QUIET_MS, log = console.error } = options;
  const entry = await chooseAdapter(options.adapter);
  const requiredFeatures = featuresFor(entry, options.features);
  const { create, globals } = await loadDawn();
  for (const [name, value] of Object.entries(globals))
    if (!(name in globalThis)) Reflect.set(globalThis, name, value);

  // Dawn rounds timestamps to 100 µs unless told not to, longer than most of what is timed here.
  const flags = [`adapter=${entry.deviceName}`, 'disable-dawn-features=timestamp_quantization'];
  if (!robustness) flags.push('enable-dawn-features=disable_robustness');
  const key = flags.join('\n');
  const gpu = instances.get(key) ?? create(flags);
  instances.set(key, gpu);

  const adapter = await gpu.requestAdapter();
  if (!adapter)
    throw new AdapterError(`Dawn gives no adapter for '${entry.deviceName}' any more`, { name: entry.name });
  const device = await adapter.requestDevice({
    label: 'pairslab',
    requiredFeatures: requiredFeatures as GPUFeatureName[],
    requiredLimits: Object.fromEntries(
      COMPUTE_LIMITS.filter((limit) => limit in entry.limits).map((limit) => [limit, entry.limits[limit]]),
    ),
  });
  setWaiter(device, (promise) => quietWait(promise, sleepMs));
  useSoftwareKernels(device);
  device.addEventListener('uncapturederror', (event) => {
    event.preventDefault(); // dawn.node's default action prints to stdout, among what a command writes there
    const { error } = event;
    log(`pairslab: uncaptured ${error.constructor.name} on ${entry.name}: ${error.message}`);
  });
  const { tuning = process.env.PAIRSLAB_TUNING !== 'off' } = options;
  if (tuning) await loadTuning(device, tuning === true ? diskStore() : tuning, log);
  else setTuning(device, null);
  void device.lost.then(({ reason, message }) => {
    if (reason !== 'destroyed') log(`pairslab: the device on ${entry.name} was lost (${reason}): ${message}`);
  });
  return { device, adapter: entry, destroy: () => device.destroy() };
}

function featuresFor(entry: AdapterEntry, asked: DeviceOptions['features']): string[] {
  if (asked === 'all') return entry.features;
  if (!asked) return USED_FEATURES.filter((feature) => entry.features.includes(feature));
  const missing = asked.filter((feature) => !entry.features.includes(feature));
  if (missing.length > 0)
    throw new AdapterError(
      `${entry.name} (${entry.deviceName}) has no ${missing.join(', ')}; it has ${entry.features.join(', ')}`,
      { adapter: entry.name, missing },
    );
  return [...asked];
}
