/** Rows in storage textures, by a call: an app whose users have GPUs does without. */
import biasRow from '../shaders/lib/bias_row.wgsl';
import biasRowTexels from '../shaders/lib/bias_row_texels.wgsl';
import poolBuffer from '../shaders/lib/pool_buffer.wgsl';
import poolTexels from '../shaders/lib/pool_texels.wgsl';
import storedBuffer from '../shaders/lib/stored_buffer.wgsl';
import storedTexels from '../shaders/lib/stored_texels.wgsl';
import storedTexelWords from '../shaders/lib/stored_texel_words.wgsl';
import sumsRow from '../shaders/lib/sums_row.wgsl';
import type { KernelTable } from './gpu/kernel.js';
import { setTextureRows, type TextureRows } from './gpu/storage.js';
import { copyTexels, createTexels, fasterStorage, mostTexelBytes, uploadTexels } from './gpu/texels.js';
import { nthPool } from './slab/kernels.js';

/** Fields that one dispatch of a row copy has at most. */
const POOLS = [0, 1, 2];
const inTextures: readonly (readonly [string, string])[] = [
  ...POOLS.map((k) => [nthPool(poolBuffer, k), nthPool(poolTexels, k)] as const),
  [biasRow, biasRowTexels],
];

function choice(name: string, code: string): string {
  const stored = code.replace(storedBuffer, name.endsWith('_word') ? storedTexelWords : storedTexels);
  return inTextures.reduce((text, [buffer, texels]) => text.replace(buffer, texels), stored);
}

const made = new WeakMap<KernelTable, KernelTable>();

/** Each choice that reads stored rows once more, as `NAME_texels`; and of down the sums that suit them. */
function kernels(table: KernelTable): KernelTable {
  let found = made.get(table);
  if (!found) {
    const slots = Object.entries(table.slots).map(([slot, choices]) => {
      const more = Object.entries(choices).flatMap(([name, code]) => {
        const changed = choice(name, code);
        return changed === code ? [] : [[`${name}_texels`, changed]];
      });
      const row = slot === 'sums' && Object.hasOwn(table.constants, 'LANE_VECTORS') ? { row: sumsRow } : {};
      return [slot, { ...choices, ...Object.fromEntries(more), ...row }];
    });
    found = { ...table, slots: Object.fromEntries(slots) };
    made.set(table, found);
  }
  return found;
}

const rows: TextureRows = {
  faster: fasterStorage,
  most: mostTexelBytes,
  create: createTexels,
  upload: uploadTexels,
  copy: copyTexels,
  kernels,
};

/**
 * From now on pools on `device` may have their rows in textures (`storage: 'texture'`, or `'auto'` where they are faster).
 * Devices of `pairslab/node` and those that models were loaded to have been told already.
 */
export function useTextures(device: GPUDevice): void {
  setTextureRows(device, rows);
}

/** `table` with the choices that read textures, as `kernel` has them on a device that uses them. */
export const withTextures = kernels;
