/** What stands for src/node/adapters.ts where tests run in Chromium: its one adapter. */
import { AdapterError } from '../../../src/errors.js';
import type { AdapterEntry } from '../../../src/node/adapters.js';

/** The flags ask for SwiftShader, the only adapter that Chromium offers without a GPU. */
export async function listAdapters(): Promise<AdapterEntry[]> {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter)
    throw new AdapterError('this Chromium has no WebGPU adapter: look at its flags in chromium.ts');
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  if (architecture !== 'swiftshader')
    throw new AdapterError(`this Chromium gives ${vendor} ${architecture}, not SwiftShader`);
  const limits: Record<string, number> = {};
  for (const name in adapter.limits) limits[name] = Number(Reflect.get(adapter.limits, name));
  return [
    {
      name: 'swiftshader',
      deviceName: description,
      backend: 'chromium',
      info: { vendor, architecture, device, description },
      software: true,
      features: [...adapter.features],
      limits,
      subgroupMinSize: subgroupMinSize ?? 4,
      subgroupMaxSize: subgroupMaxSize ?? 128,
    },
  ];
}

export async function chooseAdapter(): Promise<AdapterEntry> {
  return (await listAdapters())[0];
}
