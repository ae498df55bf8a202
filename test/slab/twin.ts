/**
 * A pool and what its stored rows must look like in memory, worked out value by value, with which a slab read back
 * from the device is compared.
 */
import { readBuffer } from '../../src/gpu/readback.js';
import { Bitmask } from '../../src/mask/index.js';
import { DevicePool, type PoolOptions } from '../../src/pool/device-pool.js';
import type { FieldSpec } from '../../src/pool/fields.js';
import type { Slab } from '../../src/slab/slab.js';
import { randomSource } from '../support/make-model.js';

export interface FieldShape {
  dtype?: 'f32' | 'f16';
  /** One number a part. */
  cols: readonly number[];
  /** Given as [cols, N]. */
  transposed?: boolean;
}

/** All rows of a field as u32 words, `stride` words each. */
export interface Image {
  readonly words: Uint32Array;
  readonly stride: number;
}

export interface PoolTwin {
  readonly pool: DevicePool;
  readonly rows: number;
  readonly images: ReadonlyMap<string, Image>;
}

/** Rows of raw bits, so that f16 patterns of every kind (NaN, subnormal) are among them; all rows differ. */
export function makeSpecs(
  rows: number,
  shapes: Readonly<Record<string, FieldShape>>,
  seed = 1,
): { specs: Record<string, FieldSpec>; images: Map<string, Image> } {
  const random = randomSource(seed);
  const specs: Record<string, FieldSpec> = {};
  const images = new Map<string, Image>();
  for (const [name, { dtype = 'f32', cols, transposed = false }] of Object.entries(shapes)) {
    const size = dtype === 'f32' ? 4 : 2;
    const strides = cols.map((c) => Math.ceil((c * size) / 16) * 16);
    const stride = strides.reduce((a, b) => a + b, 0);
    const image = new DataView(new ArrayBuffer(rows * stride));
    let start = 0;
    const parts = cols.map((count, p) => {
      const data = dtype === 'f32' ? new Float32Array(rows * count) : new Uint16Array(rows * count);
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < count; c++) {
          const at = r * stride + start + c * size;
          const first = p === 0 && c === 0;
          const value = dtype === 'f32' ? Math.fround(first ? r + 0.5 : random() - 0.5) : 0;
          const bits = first ? r + 1 : Math.floor(random() * 65_536);
          data[transposed ? c * rows + r : r * count + c] = dtype === 'f32' ? value : bits;
          if (dtype === 'f32') image.setFloat32(at, value, true);
          else image.setUint16(at, bits, true);
        }
      }
      start += strides[p];
      return { data, cols: count, transposed };
    });
    specs[name] = parts.length === 1 ? { ...parts[0], storeAs: dtype } : { parts, storeAs: dtype };
    images.set(name, { words: new Uint32Array(image.buffer), stride: stride / 4 });
  }
  return { specs, images };
}

export function makePool(
  device: GPUDevice,
  rows: number,
  shapes: Readonly<Record<string, FieldShape>>,
  { seed = 1, ...options }: PoolOptions & { seed?: number } = {},
): PoolTwin {
  const { specs, images } = makeSpecs(rows, shapes, seed);
  return { pool: DevicePool.from(device, specs, options), rows, images };
}

/** What was in a slab's buffers at one moment. */
export interface Contents {
  rowList: Uint32Array;
  fields: Map<string, Uint32Array>;
}

export async function readSlab(slab: Slab): Promise<Contents> {
  const { device } = slab;
  const fields = new Map<string, Uint32Array>();
  for (const [name, buffer] of slab.buffers)
    fields.set(name, new Uint32Array(await readBuffer(device, buffer)));
  return { rowList: new Uint32Array(await readBuffer(device, slab.rowList)), fields };
}

/**
 * Throws unless slots [0, m) hold, bit for bit, the rows of `mask`: as a set, per `rowIds`, and per the list on the
 * device. Plain throws: `expect` a million times over would be most of the test's time.
 */
export function checkContents(twin: PoolTwin, contents: Contents, mask: Bitmask, rowIds: Uint32Array): void {
  const { rowList, fields } = contents;
  const wrong = (what: string) => new Error(`${what}; mask [${mask.ids()}], rowIds [${rowIds}]`);
  const m = mask.count();
  if (rowIds.length !== m) throw wrong(`rowIds has ${rowIds.length} rows`);
  if (rowList[0] !== m) throw wrong(`the row list on the device counts ${rowList[0]}`);
  for (let k = 1; k < 4; k++) if (rowList[k] !== 0) throw wrong(`word ${k} of the row list is ${rowList[k]}`);
  for (let slot = 0; slot < m; slot++) {
    if (rowList[4 + slot] !== rowIds[slot]) throw wrong(`slot ${slot} is ${rowList[4 + slot]} on the device`);
  }
  for (const [name, { words, stride }] of twin.images) {
    const slab = fields.get(name) as Uint32Array;
    const found = Bitmask.empty(twin.rows);
    for (let slot = 0; slot < m; slot++) {
      const row = rowIds[slot];
      for (let w = 0; w < stride; w++) {
        if (slab[slot * stride + w] !== words[row * stride + w]) {
          throw wrong(`${name}: slot ${slot} differs from row ${row} in word ${w}`);
        }
      }
      found.add(row);
    }
    // Rows differ from each other, so a slab that agrees with rowIds holds the mask's rows as a set if the ids do.
    if (!found.equals(mask)) throw wrong(`${name} holds the rows [${found.ids()}]`);
  }
}

/** Reads the slab back and checks all of it against `mask`. */
export async function checkSlab(twin: PoolTwin, slab: Slab, mask: Bitmask): Promise<Contents> {
  if (!slab.mask().equals(mask)) throw new Error(`the slab's mask is [${slab.mask().ids()}]`);
  if (slab.active !== mask.count()) throw new Error(`the slab has ${slab.active} active rows`);
  const contents = await readSlab(slab);
  checkContents(twin, contents, mask, slab.rowIds());
  return contents;
}

/** Throws unless both are equal to the last word, what stands beyond m included. */
export function checkSame(a: Contents, b: Contents): void {
  for (const [name, words] of [['rowList', a.rowList] as const, ...a.fields]) {
    const other = name === 'rowList' ? b.rowList : (b.fields.get(name) as Uint32Array);
    for (let w = 0; w < words.length; w++) {
      if (words[w] !== other[w]) throw new Error(`${name}: word ${w} is ${words[w]} and ${other[w]}`);
    }
    if (words.length !== other.length) throw new Error(`${name}: ${words.length} and ${other.length} words`);
  }
}

/** `count` different rows of `size`, at random. */
export function randomMask(random: () => number, size: number, count: number): Bitmask {
  const ids = Array.from({ length: size }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(random() * (size - i));
    [ids[i], ids[j]] = [ids[j], ids[i]];
  }
  return Bitmask.fromIds(ids.slice(0, count), size);
}

/** A next mask as traces have them: mostly small changes, now and then a jump, all, or nothing. At most `most` rows. */
export function nextMask(random: () => number, before: Bitmask, most: number): Bitmask {
  const { size } = before;
  const kind = random();
  if (kind < 0.02) return Bitmask.empty(size);
  if (kind < 0.05) return randomMask(random, size, most);
  if (kind < 0.15) return randomMask(random, size, Math.floor(random() * (most + 1)));
  if (kind < 0.18) return before.clone();
  const next = before.clone();
  const grow = random() < 0.5;
  for (let n = Math.floor(random() * 8); n >= 0; n--) {
    const row = Math.floor(random() * size);
    if (next.has(row)) next.delete(row);
    else if (next.count() < most && (grow || random() < 0.5)) next.add(row);
  }
  return next;
}
