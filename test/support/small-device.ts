import { setWaiter } from '../../src/gpu/wait.js';
import { quietWait } from '../../src/node/quiet-wait.js';

/**
 * A real device that claims smaller limits and counts the buffers made on it. WebGPU itself gives no device with a
 * binding limit below 128 MiB, and a test that needs several shards should not need several times as much.
 */
export function smallDevice(
  device: GPUDevice,
  limits: Readonly<Record<string, number>> = {},
): { device: GPUDevice; buffersMade(): number } {
  let made = 0;
  const claimed = new Proxy(device.limits, {
    get: (target, key) => limits[String(key)] ?? Reflect.get(target, key),
  });
  const small = new Proxy(device, {
    get(target, key) {
      if (key === 'limits') return claimed;
      if (key === 'createBuffer') made++;
      const value: unknown = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  setWaiter(small, quietWait);
  return { device: small, buffersMade: () => made };
}
