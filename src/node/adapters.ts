import { AdapterError } from '../errors.js';
import { type Drivers, prepareDrivers } from './drivers.js';

/** One adapter of this machine, as plain data. */
export interface AdapterEntry {
  /** `lavapipe`, `swiftshader`, or for anything else `gpu`, `gpu1`, ... in Dawn's order, hardware first. */
  name: string;
  /** The driver's own name for it, as `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  deviceName: string;
  backend: string;
  info: { vendor: string; architecture: string; device: string; description: string };
  /** True when it runs on the CPU. */
  software: boolean;
  features: string[];
  limits: Record<string, number>;
  subgroupMinSize: number;
  subgroupMaxSize: number;
}

/** What a look at this machine gave. */
interface Survey {
  drivers: Drivers;
  adapters: AdapterEntry[];
  /** Adapters the driver offers and Dawn does not take, each with the reason. */
  refused: string[];
}

type Dawn = typeof import('webgpu');

let dawn: Promise<Dawn> | undefined;

/** dawn.node, loaded when first needed: it is an optional package, and the drivers have to be in place before it. */
export function loadDawn(): Promise<Dawn> {
  prepareDrivers();
  dawn ??= import('webgpu').catch((cause: unknown) => {
    throw new AdapterError(
      "WebGPU in Node needs the package 'webgpu' (dawn.node): run `npm install webgpu@0.6`. " +
        `Loading it gave: ${message(cause)}`,
    );
  });
  return dawn;
}

let survey: Promise<Survey> | undefined;

/**
 * The adapters of this machine, best first: GPUs, then lavapipe, then SwiftShader. One that Dawn refuses is left out.
 * Looked up once per process.
 */
export async function listAdapters(): Promise<AdapterEntry[]> {
  survey ??= lookAround();
  return (await survey).adapters;
}

/**
 * The adapter called `name`: an entry's name, or part of its deviceName in any case. Without a name it is the one
 * that the environment variable PAIRSLAB_ADAPTER names, else the best there is.
 */
export async function chooseAdapter(name = process.env.PAIRSLAB_ADAPTER || undefined): Promise<AdapterEntry> {
  survey ??= lookAround();
  const { drivers, adapters, refused } = await survey;
  const wanted = name?.toLowerCase();
  const found =
    wanted === undefined
      ? adapters[0]
      : (adapters.find((entry) => entry.name === wanted) ??
        adapters.find((entry) => entry.deviceName.toLowerCase().includes(wanted)));
  if (found) return found;
  throw new AdapterError(
    [
      name === undefined ? 'no WebGPU adapter on this machine' : `no WebGPU adapter is called '${name}'`,
      adapters.length === 0
        ? 'there is none at all'
        : `there is ${adapters.map((entry) => `${entry.name} (${entry.deviceName})`).join(', ')}`,
      ...refused.map((text) => `Dawn refuses ${text}`),
      ...advice(drivers, wanted),
    ].join('; '),
    { wanted: name, adapters: adapters.map((entry) => entry.name), refused, drivers },
  );
}

/** What someone can do about an adapter that is not there. */
function advice(drivers: Drivers, wanted: string | undefined): string[] {
  if (drivers.loader === 'unneeded') return [];
  if (drivers.chosenBy) return [`${drivers.chosenBy} limits the drivers: unset it to see all of them`];
  if (drivers.loader === 'missing')
    return [
      'there is no Vulkan loader: install your GPU’s driver (or libvulkan1), or `npm install @sparticuz/chromium@147`, ' +
        'or start Node with LD_LIBRARY_PATH on a folder that holds libvulkan.so.1',
    ];
  if (wanted === 'lavapipe')
    return ['install Mesa 25 or later (.ci/install-lavapipe; Debian: mesa-vulkan-drivers from backports)'];
  if (wanted === 'swiftshader' || wanted === undefined)
    return [
      'for a software adapter `npm install @sparticuz/chromium@147` (Linux x64), which brings SwiftShader',
    ];
  return ['leave PAIRSLAB_ADAPTER and the adapter option out to have one chosen'];
}

const message = (error: unknown) => (error instanceof Error ? error.message : String(error));

async function lookAround(): Promise<Survey> {
  const drivers = prepareDrivers();
  const { create } = await loadDawn();
  const adapters: AdapterEntry[] = [];
  const refused: string[] = [];
  for (const { backend, deviceName } of await offered(create)) {
    try {
      // Alive until the adapter has been read: dawn.node's objects do not keep the instance alive (see device.ts).
      const gpu = create([`adapter=${deviceName}`]);
      const adapter = await gpu.requestAdapter();
      if (adapter) adapters.push(describe(adapter, backend, deviceName));
      else refused.push(`${deviceName} without a reason`);
    } catch (error) {
      refused.push(`${deviceName}: ${message(error).split('\n')[0]}`);
    }
  }
  adapters.sort((a, b) => rank(a) - rank(b));
  let gpus = 0;
  for (const entry of adapters) if (entry.name === 'gpu' && gpus++ > 0) entry.name = `gpu${gpus - 1}`;
  return { drivers, adapters, refused };
}

/**
 * WebGPU offers one adapter at a time and has no list. dawn.node's `adapter=` option takes part of a name, and when
 * nothing matches, it throws an error whose text lists all: "...\n * backend: 'vulkan', name: 'llvmpipe (...)'".
 * Two GPUs of one model have one name and cannot be told apart; they count as one.
 */
async function offered(create: Dawn['create']): Promise<{ backend: string; deviceName: string }[]> {
  let text = '';
  try {
    await create(['adapter=\u0001']).requestAdapter();
  } catch (error) {
    text = message(error);
  }
  const found = new Map<string, { backend: string; deviceName: string }>();
  for (const [, backend, deviceName] of text.matchAll(/^ \* backend: '(.*?)', name: '(.*)'$/gm))
    if (!found.has(deviceName)) found.set(deviceName, { backend, deviceName });
  return [...found.values()];
}

function describe(adapter: GPUAdapter, backend: string, deviceName: string): AdapterEntry {
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize, isFallbackAdapter } =
    adapter.info;
  const name = /llvmpipe/i.test(deviceName)
    ? 'lavapipe'
    : /swiftshader/i.test(deviceName)
      ? 'swiftshader'
      : 'gpu';
  const limits: Record<string, number> = {};
  for (const key in adapter.limits) {
    const value: unknown = Reflect.get(adapter.limits, key);
    if (typeof value === 'number') limits[key] = value;
  }
  return {
    name,
    deviceName,
    backend,
    info: { vendor, architecture, device, description },
    software: name !== 'gpu' || isFallbackAdapter,
    features: [...adapter.features].sort(),
    limits,
    subgroupMinSize,
    subgroupMaxSize,
  };
}

function rank(entry: AdapterEntry): number {
  return entry.name === 'swiftshader' ? 3 : entry.name === 'lavapipe' ? 2 : entry.software ? 1 : 0;
}
