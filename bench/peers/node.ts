import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { loadDawn } from '../../src/node/adapters.js';
import type { NodeDevice } from '../../src/node/device.js';
import { quietWait } from '../../src/node/quiet-wait.js';
import type { Host, PeerModule, Runtime } from './contest.js';

/** The peers' modules, in the order they are opened. */
export const PEERS = ['tfjs', 'onnxruntime', 'jax'] as const;

/** dawn.node's instance that the peers' devices come from: see device.ts for why it has to live on. */
let instance: GPU | undefined;

/**
 * Symptom: V8 optimises some of onnxruntime's functions, huge since they are asyncified, for 40 s of CPU in the
 * background, and the first step waits for it (26 to 80 s on two cores). Measured with onnxruntime-web 1.30.0 on Node
 * 20.20: a step of a tiny graph takes 1.3 to 1.5 ms with the optimised code and without.
 * Delete when onnxruntime-web needs no asyncify in Node.
 */
const NO_TIER_UP = '--wasm-tiering-budget=1000000000';

/**
 * Makes this process look enough like a browser for the peers: `navigator.gpu` that gives `gpu`'s adapter, and waits
 * that sleep (quiet-wait.ts), as pairslab's do. All peers share this process, and take turns.
 * @returns what undoes it.
 */
export async function pretendBrowser({ adapter }: NodeDevice, robustness: boolean): Promise<() => void> {
  setFlagsFromString(NO_TIER_UP);
  const { create } = await loadDawn();
  const flags = [`adapter=${adapter.deviceName}`];
  if (!robustness) flags.push('enable-dawn-features=disable_robustness');
  instance ??= create(flags);
  const undo = [
    replace(globalThis, 'navigator', { gpu: instance, userAgent: 'Node', hardwareConcurrency: 1 }),
    quiet(GPUBuffer.prototype, 'mapAsync'),
    quiet(GPUQueue.prototype, 'onSubmittedWorkDone'),
    quiet(GPUDevice.prototype, 'popErrorScope'),
    quiet(GPUDevice.prototype, 'createComputePipelineAsync'),
    unshare(),
  ];
  return () => {
    for (const step of undo) step();
  };
}

/** Sets a property and returns what puts the old one back. */
function replace(target: object, name: string, value: unknown): () => void {
  const old = Object.getOwnPropertyDescriptor(target, name);
  Object.defineProperty(target, name, { value, configurable: true, writable: true });
  return () => {
    if (old) Object.defineProperty(target, name, old);
    else Reflect.deleteProperty(target, name);
  };
}

type Method = (this: unknown, ...args: unknown[]) => Promise<unknown>;

function quiet(target: object, name: string): () => void {
  const plain = Reflect.get(target, name) as Method;
  return replace(target, name, function (this: unknown, ...args: unknown[]) {
    return quietWait(plain.apply(this, args));
  });
}

/** onnxruntime's memory is shared, and dawn.node's writeBuffer refuses views of shared memory. */
function unshare(): () => void {
  const plain = GPUQueue.prototype.writeBuffer;
  const write = function (
    this: GPUQueue,
    buffer: GPUBuffer,
    at: number,
    data: ArrayBuffer | SharedArrayBuffer | ArrayBufferView,
    offset?: number,
    size?: number,
  ): void {
    const view = ArrayBuffer.isView(data);
    const memory = view ? data.buffer : data;
    if (!(memory instanceof SharedArrayBuffer)) {
      plain.call(this, buffer, at, data as ArrayBuffer, offset, size);
      return;
    }
    // Offset and size count elements of a typed array, bytes of anything else.
    const unit = view && 'BYTES_PER_ELEMENT' in data ? (data.BYTES_PER_ELEMENT as number) : 1;
    const from = (view ? data.byteOffset : 0) + (offset ?? 0) * unit;
    const bytes =
      size === undefined ? (view ? data.byteLength : memory.byteLength) - (offset ?? 0) * unit : size * unit;
    plain.call(this, buffer, at, new Uint8Array(memory, from, bytes).slice());
  };
  return replace(GPUQueue.prototype, 'writeBuffer', write);
}

/** Opens one peer from the folder `peers`, whose packages are installed. */
export async function openPeer(peers: string, name: string, host: Host): Promise<Runtime> {
  const module = (await import(pathToFileURL(join(peers, `${name}.mjs`)).href)) as PeerModule;
  return module.open(host);
}
