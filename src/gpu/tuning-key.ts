import { VERSION } from '../version.js';

/** The features that pairslab makes use of where an adapter has them: they decide which variants there are. */
export const USED_FEATURES: readonly string[] = ['timestamp-query', 'shader-f16', 'subgroups'];

/** What a tuning holds for: nothing that was measured on another adapter, driver or version is taken. */
export interface TuningKey {
  /** All of it as one text, the same at each visit. */
  readonly text: string;
  /** Sixteen hexadecimal digits, for a file name. */
  readonly hash: string;
}

/** What WebGPU says of an adapter. Dawn's `description` names the driver and its version. */
export type KeyInfo = Partial<
  Pick<
    GPUAdapterInfo,
    'vendor' | 'architecture' | 'device' | 'description' | 'subgroupMinSize' | 'subgroupMaxSize'
  >
>;

export function tuningKey(info: KeyInfo, features: Iterable<string>): TuningKey {
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = info;
  const text = JSON.stringify({
    pairslab: VERSION,
    vendor: vendor ?? '',
    architecture: architecture ?? '',
    device: device ?? '',
    description: description ?? '',
    subgroups: [subgroupMinSize ?? 0, subgroupMaxSize ?? 0],
    features: [...features].filter((feature) => USED_FEATURES.includes(feature)).sort(),
    // A browser says little of the driver, and its compiler is part of what was measured.
    browser: browserName(),
  });
  return { text, hash: hash(text) };
}

export function tuningKeyOf(device: GPUDevice): TuningKey {
  return tuningKey(device.adapterInfo ?? {}, device.features);
}

function browserName(): string {
  const host = globalThis as {
    process?: { versions?: { node?: string } };
    navigator?: { userAgent?: string };
  };
  return host.process?.versions?.node ? '' : (host.navigator?.userAgent ?? '');
}

/** FNV-1a of 64 bits. A page without HTTPS has no crypto.subtle, and nothing here needs to be hard to forge. */
function hash(text: string): string {
  let state = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) {
    state = BigInt.asUintN(64, (state ^ BigInt(byte)) * 0x100000001b3n);
  }
  return state.toString(16).padStart(16, '0');
}
