import { rowBytes, type StoredDtype } from '../../src/gpu/layout.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { fusedUpdate } from '../../src/mlp/fused-update.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { randomSource } from '../../src/tune/stats.js';

/** An MLP's shape: hidden columns, N rows. */
export interface Shape {
  name: string;
  hidden: number;
  rows: number;
}

/** The published shape, and those of models that people run in a tab. */
export const SHAPES: readonly Shape[] = [
  { name: 'published', hidden: 1024, rows: 8192 },
  { name: 'smollm135m', hidden: 576, rows: 1536 },
  { name: 'qwen05b', hidden: 896, rows: 4864 },
  { name: 'llama1b', hidden: 2048, rows: 8192 },
  { name: 'llama3b', hidden: 3072, rows: 8192 },
];

export function shapeOf(name: string): Shape {
  const shape = SHAPES.find((one) => one.name === name);
  if (!shape) throw new Error(`no shape is called ${name}`);
  return shape;
}

/** Steps of a layer that may share one submit. */
export const MOST_STEPS = 32;

/** Finite values without a generator's cost: a random piece, again and again. Its length fits no row, so rows differ. */
export function weights(length: number, seed = 1): Float32Array {
  const random = randomSource(seed);
  const values = new Float32Array(length);
  let filled = Math.min(length, 4099);
  for (let i = 0; i < filled; i++) values[i] = (random() - 0.5) * 0.1;
  for (; filled < length; filled *= 2) values.copyWithin(filled, 0, Math.min(filled, length - filled));
  return values;
}

/** Slots that a slab of a gated layer can have: one binding holds its widest field. */
export function mostSlots(device: GPUDevice, shape: Shape, dtype: StoredDtype): number {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  return Math.min(shape.rows, Math.floor(limit / (2 * rowBytes(shape.hidden, dtype))));
}

/**
 * A gated layer with random weights. `capacity` is what the masks need; it is cut to what a binding holds, so that
 * what does not fit is refused case by case, with the library's own reason.
 */
export async function makeLayer(
  device: GPUDevice,
  shape: Shape,
  dtype: StoredDtype,
  capacity: number,
  { storage, pendingUpdates = MOST_STEPS }: { storage: RowStorage; pendingUpdates?: number },
): Promise<SparseMLP> {
  const { hidden, rows } = shape;
  // One array for all three: on the device they are three.
  const values = weights(hidden * rows);
  return SparseMLP.create(device, {
    hidden,
    gate: values,
    up: values,
    down: values,
    downRows: true,
    dtype,
    storage,
    capacity: Math.max(1, Math.min(capacity, mostSlots(device, shape, dtype))),
    pendingUpdates,
    fused: fusedUpdate,
    label: `bench ${shape.name} ${dtype}`,
  });
}

/** Bytes that a layer takes of a machine whose GPU memory is its own: values as given, rows as stored, a slab. */
export function hostBytes(shape: Shape, dtype: StoredDtype, capacity: number): number {
  const { hidden, rows } = shape;
  const stored = 3 * rowBytes(hidden, dtype);
  return hidden * rows * 4 + rows * stored + Math.min(capacity, rows) * stored;
}

const BITS: Readonly<Record<string, number>> = { f32: 32, f16: 16, bf16: 16, q8: 8, q4: 4 };

/** Fewest bytes of one row's weights: three of `hidden` values, nothing padded, no scales. */
export function bareRowBytes(shape: Shape, dtype: StoredDtype): number {
  return (3 * shape.hidden * BITS[dtype]) / 8;
}

let freeBytes: () => number = () => Number.POSITIVE_INFINITY;

/** Says where the free memory of this machine is looked up. A page cannot know, and asks for what it wants. */
export function setFreeBytes(look: () => number): void {
  freeBytes = look;
}

/** Why so many bytes should not be asked for now; null when they may. A quarter of what is free stays free. */
export function memoryShortage(bytes: number): string | null {
  const free = freeBytes();
  if (bytes < 0.75 * free) return null;
  const gib = (value: number): string => (value / 2 ** 30).toFixed(1);
  return `needs about ${gib(bytes)} GiB of memory; ${gib(free)} GiB are free`;
}
