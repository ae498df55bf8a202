import { DeviceLimitError } from '../errors.js';
import { checkLost } from './lost.js';

/** Every storage row is padded to this many bytes: one `vec4<u32>`, the unit of the row copy. */
export const ROW_ALIGN = 16;

/** WebGPU's usage bits by name: the global `GPUBufferUsage` is missing where no browser has put it. */
export const Usage = {
  MAP_READ: 0x0001,
  COPY_SRC: 0x0004,
  COPY_DST: 0x0008,
  UNIFORM: 0x0040,
  STORAGE: 0x0080,
  QUERY_RESOLVE: 0x0200,
} as const;

const STORAGE = Usage.STORAGE | Usage.COPY_SRC | Usage.COPY_DST;

/** `writeBuffer` calls are cut to this size: one huge call doubles the memory in flight. */
const UPLOAD_CHUNK = 16 << 20;

interface Ledger {
  bytes: number;
  sizes: WeakMap<GPUBuffer | GPUTexture, number>;
  /** Called before the next buffer or texture is made, in the order they came. */
  readonly waiting: Set<() => void>;
}
const ledgers = new WeakMap<GPUDevice, Ledger>();

function ledgerOf(device: GPUDevice): Ledger {
  let ledger = ledgers.get(device);
  if (!ledger) {
    ledger = { bytes: 0, sizes: new WeakMap(), waiting: new Set() };
    ledgers.set(device, ledger);
  }
  return ledger;
}

/** Bytes of GPU buffers and textures that this package holds on `device`. */
export function gpuBytes(device: GPUDevice): number {
  return ledgerOf(device).bytes;
}

/** Has `act` called once, right before the next buffer or texture is made on `device`. @returns what takes it back. */
export function beforeNextBuffer(device: GPUDevice, act: () => void): () => void {
  const { waiting } = ledgerOf(device);
  waiting.add(act);
  return () => void waiting.delete(act);
}

export const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

/** @throws DeviceLimitError when one binding of `bytes` cannot exist on `device`. */
export function checkBindingSize(device: GPUDevice, label: string, bytes: number): void {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  if (bytes > limit) {
    throw new DeviceLimitError(
      `${label} needs ${bytes} bytes in one binding, but this device allows ${limit}. ` +
        'Use a smaller capacity, a narrower dtype, or request the device with larger limits.',
      { label, bytes, limit },
    );
  }
}

/**
 * Creates a labelled buffer of at least `size` bytes (rounded up to 16, at least 16) and counts it.
 * @throws DeviceLimitError when the size exceeds the device's limits; DeviceLostError. For memory that runs out, which
 * the device reports later, see `allocate`.
 */
export function createBuffer(device: GPUDevice, label: string, size: number, usage: number): GPUBuffer {
  checkLost(device);
  const bytes = Math.max(ROW_ALIGN, roundUp(size, ROW_ALIGN));
  if (usage & Usage.STORAGE) checkBindingSize(device, label, bytes);
  else if (bytes > device.limits.maxBufferSize) {
    throw new DeviceLimitError(
      `${label} needs ${bytes} bytes; maxBufferSize is ${device.limits.maxBufferSize}.`,
      {
        label,
        bytes,
        limit: device.limits.maxBufferSize,
      },
    );
  }
  return counted(device, bytes, () =>
    device.createBuffer({ label: `pairslab ${label}`, size: bytes, usage }),
  );
}

/** What `make` makes, counted as so many bytes. */
export function counted<M extends GPUBuffer | GPUTexture>(
  device: GPUDevice,
  bytes: number,
  make: () => M,
): M {
  const ledger = ledgerOf(device);
  for (const act of ledger.waiting) act();
  ledger.waiting.clear();
  const memory = make();
  ledger.bytes += bytes;
  ledger.sizes.set(memory, bytes);
  return memory;
}

/** A storage buffer that can be copied from and to. Zeroed, as WebGPU promises. */
export function storageBuffer(device: GPUDevice, label: string, bytes: number): GPUBuffer {
  return createBuffer(device, label, bytes, STORAGE);
}

/** A small uniform buffer holding `words` (u32; put floats in through `f32Bits`). */
export function uniformBuffer(device: GPUDevice, label: string, words: ArrayLike<number>): GPUBuffer {
  const buffer = createBuffer(device, label, words.length * 4, Usage.UNIFORM | Usage.COPY_DST);
  device.queue.writeBuffer(buffer, 0, Uint32Array.from(words));
  return buffer;
}

const bits = new DataView(new ArrayBuffer(4));
/** The u32 with the bits of the f32 `value`. */
export function f32Bits(value: number): number {
  bits.setFloat32(0, value);
  return bits.getUint32(0);
}

/** Destroys what was made and counted, and takes it off the count. Safe to call twice. */
export function destroyBuffer(device: GPUDevice, buffer: GPUBuffer | GPUTexture): void {
  const ledger = ledgerOf(device);
  const bytes = ledger.sizes.get(buffer);
  if (bytes === undefined) return;
  ledger.sizes.delete(buffer);
  ledger.bytes -= bytes;
  buffer.destroy();
}

/** Writes `data` at `offset`, in pieces. */
export function upload(
  device: GPUDevice,
  buffer: GPUBuffer,
  offset: number,
  data: ArrayBufferView<ArrayBuffer>,
): void {
  for (let at = 0; at < data.byteLength; at += UPLOAD_CHUNK) {
    const size = Math.min(UPLOAD_CHUNK, data.byteLength - at);
    device.queue.writeBuffer(buffer, offset + at, data.buffer, data.byteOffset + at, size);
  }
}

/** Buffers and textures that live and die together. */
export class BufferGroup {
  readonly device: GPUDevice;
  private readonly buffers: (GPUBuffer | GPUTexture)[] = [];
  constructor(device: GPUDevice) {
    this.device = device;
  }
  storage(label: string, bytes: number): GPUBuffer {
    return this.keep(storageBuffer(this.device, label, bytes));
  }
  uniform(label: string, words: ArrayLike<number>): GPUBuffer {
    return this.keep(uniformBuffer(this.device, label, words));
  }
  create(label: string, size: number, usage: number): GPUBuffer {
    return this.keep(createBuffer(this.device, label, size, usage));
  }
  /** GPU bytes held by the group. */
  get bytes(): number {
    const { sizes } = ledgerOf(this.device);
    return this.buffers.reduce((sum, buffer) => sum + (sizes.get(buffer) ?? 0), 0);
  }
  /** How many buffers there are, for `destroy`. */
  get count(): number {
    return this.buffers.length;
  }
  /** Destroys all but the first `keep` that were made. */
  destroy(keep = 0): void {
    for (const buffer of this.buffers.splice(keep)) destroyBuffer(this.device, buffer);
  }
  /** Takes over what is counted: it is destroyed with the group. */
  keep<M extends GPUBuffer | GPUTexture>(memory: M): M {
    this.buffers.push(memory);
    return memory;
  }
}
