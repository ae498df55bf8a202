/** What a kernel test needs around a kernel: buffers, poison, a launch, and its uniforms in the order of the WGSL. */
import { BufferGroup, f32Bits, upload } from '../../src/gpu/buffers.js';
import {
  type Bindable,
  encodeDispatch,
  type KernelTable,
  kernel,
  type Variant,
} from '../../src/gpu/kernel.js';
import { packRows, rowBytes, type StoredDtype, valueVectors } from '../../src/gpu/layout.js';
import { readBuffer } from '../../src/gpu/readback.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { createTexels, texelBytes, uploadTexels } from '../../src/gpu/texels.js';

/** What outputs hold before a kernel runs, bit for bit: a NaN as f32, a number that nothing here uses as u32. */
export const POISON = 0xffc0beef;

export const poisoned = (words: number): Uint32Array<ArrayBuffer> => new Uint32Array(words).fill(POISON);

export interface Launch {
  table: KernelTable;
  variant?: Variant;
  /** The uniform `params`. */
  params: readonly number[];
  /** The uniform `step`, for kernels that have it. */
  step?: readonly number[];
  buffers: Readonly<Record<string, Bindable>>;
  grid: readonly [number, number, number];
}

/** Buffers of one test on one device; `useLab` destroys them. */
export class Lab {
  readonly device: GPUDevice;
  private readonly memory: BufferGroup;
  private readonly words = new Map<GPUBuffer, number>();

  constructor(device: GPUDevice) {
    this.device = device;
    this.memory = new BufferGroup(device);
  }

  /** A storage buffer with these contents; what alignment adds at the end is poisoned. */
  buffer(data: Float32Array | Uint32Array | Uint8Array): GPUBuffer {
    const words = Math.ceil(data.byteLength / 4);
    const buffer = this.memory.storage('test', words * 4);
    const padded = new Uint8Array(poisoned(buffer.size / 4).buffer);
    padded.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    upload(this.device, buffer, 0, padded);
    this.words.set(buffer, words);
    return buffer;
  }

  /** A texture of these stored vectors, as pools have it; what its last line has beyond them is poisoned. */
  texels(data: Float32Array | Uint32Array | Uint8Array): GPUTexture {
    const texture = createTexels(this.memory, 'test', data.byteLength);
    const lines = new Uint8Array(poisoned(texelBytes(data.byteLength) / 4).buffer);
    lines.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    uploadTexels(this.device, texture, lines);
    return texture;
  }

  /** One or the other. */
  rows(storage: RowStorage, data: Float32Array | Uint32Array | Uint8Array): Bindable {
    return storage === 'texture' ? this.texels(data) : this.buffer(data);
  }

  /** A uniform buffer of these words, beside `params` and `step`. */
  uniform(words: readonly number[]): GPUBuffer {
    return this.memory.uniform('test uniform', words);
  }

  poisoned(words: number): GPUBuffer {
    return this.buffer(poisoned(words));
  }

  /** Runs the launches in one pass, in order. */
  run(...launches: Launch[]): void {
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { table, variant, params, step, buffers, grid } of launches) {
      const made = kernel(this.device, table, variant);
      const uniforms = {
        params: this.memory.uniform('test params', params),
        step: step && this.memory.uniform('test step', step),
      };
      encodeDispatch(pass, { kernel: made, group: made.bind({ ...uniforms, ...buffers }), grid });
    }
    pass.end();
    this.device.queue.submit([encoder.finish()]);
  }

  /** The words given to `buffer`, as they are now. */
  async read(buffer: GPUBuffer): Promise<Uint32Array<ArrayBuffer>> {
    return new Uint32Array(await readBuffer(this.device, buffer)).slice(0, this.words.get(buffer));
  }

  destroy(): void {
    this.memory.destroy();
  }
}

export async function useLab(device: GPUDevice, use: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = new Lab(device);
  try {
    await use(lab);
  } finally {
    lab.destroy();
  }
}

/** lib/row_params.wgsl */
export function rowParams(p: {
  rows: number;
  base?: number;
  /** Of a stored row, in vectors of 16 bytes. */
  stride: number;
  /** Vectors of one part's values. */
  dotVectors: number;
  /** Units that a lane takes of them; default vectors. */
  units?: number;
  norm?: { columns: number; eps: number };
  /** Default: a row has one part. */
  partStride?: number;
  /** In vec4<f32>. */
  xStride: number;
  outStride?: number;
  gateStride?: number;
  threshold?: number;
  fat?: number;
}): number[] {
  const {
    rows,
    base = 0,
    stride,
    dotVectors,
    partStride = stride,
    xStride,
    outStride = 0,
    gateStride = 0,
  } = p;
  const floats = [f32Bits(p.threshold ?? -1), f32Bits(p.fat ?? 0)];
  const norm = [f32Bits(p.norm?.columns ?? 0), f32Bits(p.norm?.eps ?? 0)];
  const sizes = [rows, base, stride, p.units ?? dotVectors, xStride, outStride, gateStride];
  return [...sizes, ...floats, partStride, ...norm, dotVectors];
}

/** `count` workgroups over x and y, as foldGrid does on a device with a small limit: some workgroups are too many. */
export function folded(count: number, fold: number): [number, number] {
  return [Math.ceil(count / fold), fold];
}

/** Rows cut into `shards` of equal size, the last one smaller. */
export function shardsOf(rows: number, shards: number): { base: number; rows: number }[] {
  const each = Math.ceil(rows / shards);
  return Array.from({ length: shards }, (_, s) => ({
    base: s * each,
    rows: Math.min(each, rows - s * each),
  }));
}

/** Rows of `parts` ([N, K] each), in their order of `ids`, as they are stored. */
export function storeRows(
  parts: readonly ArrayLike<number>[],
  K: number,
  ids: readonly number[],
  dtype: StoredDtype,
): Uint8Array {
  const picked = parts.map((part) => ({ data: pickRows(part, K, ids), cols: K }));
  return packRows(picked, ids.length, 0, ids.length, dtype);
}

/** The figures of rows of `parts` parts of K columns, as kernels are given them, in vectors of 16 bytes. */
export function rowShape(K: number, dtype: StoredDtype, parts = 1) {
  const partStride = rowBytes(K, dtype) / 16;
  return { stride: parts * partStride, partStride, dotVectors: valueVectors(K, dtype) };
}

/** Makes the rows from `begin` on NaN, whatever their dtype: set bits are a NaN of f32, f16 and bf16, and of any scale. */
export function poisonRows(rows: Uint8Array, begin: number, count: number): Uint8Array {
  return rows.fill(0xff, (rows.length / count) * begin);
}

/** The slots of a slab of `slots.length` rows in which none of `ids` lies, poisoned. */
export function poisonOthers(rows: Uint8Array, slots: readonly number[], ids: readonly number[]): Uint8Array {
  const bytes = rows.length / slots.length;
  for (const [slot, id] of slots.entries())
    if (!ids.includes(id)) rows.fill(0xff, slot * bytes, (slot + 1) * bytes);
  return rows;
}

/** lib/rows_slots.wgsl, for `slots` that hold these ids. */
export function slotList(slots: readonly number[], ids: readonly number[]): Uint32Array<ArrayBuffer> {
  return Uint32Array.of(ids.length, 0, 0, 0, ...ids.flatMap((id) => [slots.indexOf(id), id]));
}

/** Rows `ids` of a [N, K] matrix, as [ids, K]. */
export function pickRows(
  matrix: ArrayLike<number>,
  K: number,
  ids: readonly number[],
): Float32Array<ArrayBuffer> {
  const out = new Float32Array(ids.length * K);
  ids.forEach((id, i) => {
    for (let k = 0; k < K; k++) out[i * K + k] = matrix[id * K + k];
  });
  return out;
}

/** A [rows, cols] matrix with a longer stride, `fill` in between. */
export function spread(
  matrix: ArrayLike<number>,
  cols: number,
  stride: number,
  fill: number,
  rows = matrix.length / cols,
): Float32Array<ArrayBuffer> {
  const out = new Float32Array(rows * stride).fill(fill);
  for (let i = 0; i < matrix.length; i++) out[Math.floor(i / cols) * stride + (i % cols)] = matrix[i];
  return out;
}
