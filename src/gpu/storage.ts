import { OptionError } from '../errors.js';
import type { BufferGroup } from './buffers.js';
import type { KernelTable } from './kernel.js';

/** What rows are read from: a storage buffer, or a storage texture, which some adapters read faster. */
export type RowStorage = 'buffer' | 'texture';
/** The same, or `auto`: what the adapter is known to read faster. */
export type StorageChoice = RowStorage | 'auto';
export const STORAGE_CHOICES: readonly StorageChoice[] = ['buffer', 'texture', 'auto'];

/** What rows in textures need. An app that has none of them does without its code: see `useTextures`. */
export interface TextureRows {
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
  /** The table with the choices that read textures. */
  kernels(table: KernelTable): KernelTable;
}

const known = new WeakMap<GPUDevice, TextureRows>();

export function setTextureRows(device: GPUDevice, rows: TextureRows): void {
  known.set(device, rows);
}

/** Undefined where nobody called `useTextures`. */
export function textureRows(device: GPUDevice): TextureRows | undefined {
  return known.get(device);
}

/** What rows are to be read from on `device`. @throws OptionError for a storage that is none, or that is not in use. */
export function chooseStorage(device: GPUDevice, storage: StorageChoice): RowStorage {
  const textures = textureRows(device);
  if (!STORAGE_CHOICES.includes(storage) || (storage === 'texture' && !textures)) {
    throw new OptionError(
      storage === 'texture'
        ? 'rows in textures need `useTextures(device)` of pairslab/kernels first.'
        : `storage "${String(storage)}" is unknown; use ${STORAGE_CHOICES.join(', ')}.`,
      { storage },
    );
  }
  return storage === 'auto' ? (textures?.faster(device) ?? 'buffer') : storage;
}
