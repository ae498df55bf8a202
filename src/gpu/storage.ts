import { OptionError } from '../errors.js';
import type { BufferGroup } from './buffers.js';
import type { KernelTable } from './kernel.js';
import type { StoredDtype } from './stored-dtype.js';

/** What rows are read from: a storage buffer, or a storage texture, which some adapters read faster. */
export type RowStorage = 'buffer' | 'texture';
/** The same, or `auto`: what the adapter is known to read faster. */
export type StorageChoice = RowStorage | 'auto';
export const STORAGE_CHOICES: readonly StorageChoice[] = ['buffer', 'texture', 'auto'];

/** Milliseconds a gigabyte to read and to copy, and to find a row. */
export interface TextureCosts {
  readonly read: Readonly<Record<StoredDtype, number>>;
  readonly copy: number;
  readonly seek: number;
}

/** What adapters that are a CPU want, and rows in textures. An app for GPUs does without its code: `useSoftwareKernels`. */
export interface SoftwareKernels {
  /** What is faster on `device`. */
  faster(device: GPUDevice): RowStorage;
  /** Bytes that one texture can hold on `device`. */
  most(device: GPUDevice): number;
  /** A texture of `bytes` of stored vectors, zeroed. */
  create(memory: BufferGroup, label: string, bytes: number): GPUTexture;
  /** Writes whole vectors from the texture's beginning on. */
  upload(device: GPUDevice, texture: GPUTexture, data: ArrayBufferView<ArrayBuffer>): void;
  /** Records the copy of whole vectors from byte `from` of a texture to byte `to` of a buffer. */
  copy(
    encoder: GPUCommandEncoder,
    texture: GPUTexture,
    from: number,
    buffer: GPUBuffer,
    to: number,
    bytes: number,
  ): void;
  /** What reading textures costs where that is faster than buffers, for `defaultCosts`. */
  textureCosts(device: GPUDevice): TextureCosts | undefined;
  /** The table with more choices. */
  kernels(table: KernelTable): KernelTable;
}

const known = new WeakMap<GPUDevice, SoftwareKernels>();

export function setSoftwareKernels(device: GPUDevice, kernels: SoftwareKernels): void {
  known.set(device, kernels);
}

/** Undefined where nobody called `useSoftwareKernels`. */
export function softwareKernels(device: GPUDevice): SoftwareKernels | undefined {
  return known.get(device);
}

/** What rows are to be read from on `device`. @throws OptionError for a storage that is none, or that is not in use. */
export function chooseStorage(device: GPUDevice, storage: StorageChoice): RowStorage {
  const kernels = softwareKernels(device);
  if (storage === 'auto') return kernels?.faster(device) ?? 'buffer';
  if (storage === 'buffer' || (storage === 'texture' && kernels)) return storage;
  throw new OptionError(
    `storage "${String(storage)}" cannot be: use buffer, auto, or texture after useSoftwareKernels.`,
    { storage },
  );
}
