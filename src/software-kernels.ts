/**
 * What adapters that are a CPU (lavapipe, SwiftShader) want besides: tiles for their subgroups, an x that is staged, rows in
 * storage textures. By a call: an app whose users have GPUs does without.
 */
import biasRow from '../shaders/lib/bias_row.wgsl';
import biasRowTexels from '../shaders/lib/bias_row_texels.wgsl';
import poolBuffer from '../shaders/lib/pool_buffer.wgsl';
import poolTexels from '../shaders/lib/pool_texels.wgsl';
import storedBuffer from '../shaders/lib/stored_buffer.wgsl';
import storedTexels from '../shaders/lib/stored_texels.wgsl';
import storedTexelWords from '../shaders/lib/stored_texel_words.wgsl';
import dtypeF16 from '../shaders/lib/dtype_f16.wgsl';
import dtypeF16Shifted from '../shaders/lib/dtype_f16_shifted.wgsl';
import quads2 from '../shaders/lib/quads_2.wgsl';
import quads2Shifted from '../shaders/lib/quads_2_shifted.wgsl';
import sums1x4 from '../shaders/lib/sums_1x4.wgsl';
import x2 from '../shaders/lib/x_2.wgsl';
import x2Shifted from '../shaders/lib/x_2_shifted.wgsl';
import octet from '../shaders/lib/octet.wgsl';
import residentSum from '../shaders/lib/resident_sum.wgsl';
import residentX from '../shaders/lib/resident_x.wgsl';
import teamAdd from '../shaders/lib/team_add.wgsl';
import teamAddOctets from '../shaders/lib/team_add_octets.wgsl';
import teamShared from '../shaders/lib/team_shared.wgsl';
import tile4x8 from '../shaders/lib/tile_4x8.wgsl';
import tile8x1 from '../shaders/lib/tile_8x1.wgsl';
import tileLoop from '../shaders/lib/tile_loop.wgsl';
import tilePart from '../shaders/lib/tile_part.wgsl';
import tileResident from '../shaders/lib/tile_resident.wgsl';
import workClaims from '../shaders/lib/work_claims.wgsl';
import workGrid from '../shaders/lib/work_grid.wgsl';
import xPlain from '../shaders/lib/x_plain.wgsl';
import xStaged from '../shaders/lib/x_staged.wgsl';
import sumsRow from '../shaders/lib/sums_row.wgsl';
import type { KernelTable } from './gpu/kernel.js';
import { setSoftwareKernels, type SoftwareKernels, type TextureCosts } from './gpu/storage.js';
import { traitsOf } from './gpu/traits.js';
import { copyTexels, createTexels, fasterStorage, mostTexelBytes, uploadTexels } from './gpu/texels.js';
import { softwareDown, softwareRows } from './mlp/software-variants.js';
import { setSoftwareVariants } from './mlp/variants.js';
import { nthPool } from './slab/kernels.js';

/** Fields that one dispatch of a row copy has at most. */
const POOLS = [0, 1, 2];
const inTextures: readonly (readonly [string, string])[] = [
  ...POOLS.map((k) => [nthPool(poolBuffer, k), nthPool(poolTexels, k)] as const),
  [biasRow, biasRowTexels],
];

function inTexture(name: string, code: string): string {
  const stored = code.replace(storedBuffer, name.endsWith('_word') ? storedTexelWords : storedTexels);
  return inTextures.reduce((text, [buffer, texels]) => text.replace(buffer, texels), stored);
}

const shiftedQuads = quads2.replace('fn quads_at(', 'fn quads_of(') + quads2Shifted;
/** Row kernels have a slot for the tile; some of them take fewer. */
const tiles = {
  '8x1': tilePart + tile8x1,
  '4x8': octet + tilePart + tile4x8 + tileLoop,
  resident: tilePart + residentX + residentSum + tileResident,
};

/** What a slot can have besides. */
function more(slot: string, choices: Readonly<Record<string, string>>): Record<string, string> {
  const has = (choice: string): boolean => Object.hasOwn(choices, choice);
  if (slot === 'tile' && has('1x8')) return tiles;
  if (slot === 'team' && has('subgroup')) {
    const subgroup = choices.subgroup.replace(teamAdd, teamAddOctets);
    const claims = subgroup.replace(workGrid, workClaims);
    return has('workgroup') ? { subgroup, shared: teamShared + workGrid, claims } : { subgroup };
  }
  if (slot === 'sums' && has('8x1')) return { '1x4': sums1x4, row: sumsRow };
  if (slot === 'dtype' && has('f16')) return { f16_shifted: choices.f16.replace(dtypeF16, dtypeF16Shifted) };
  if ((slot === 'quads' || slot === 'stored_quads') && has('2')) return { '2_shifted': shiftedQuads };
  return slot === 'x' && has('2') ? { '2_shifted': choices['2'].replace(x2, x2Shifted) } : {};
}

const made = new WeakMap<KernelTable, KernelTable>();

/** The table with more choices, each that reads stored rows once more as `NAME_texels`, and x staged as `NAME_staged`. */
function kernels(table: KernelTable): KernelTable {
  let found = made.get(table);
  if (!found) {
    const slots = Object.entries(table.slots).map(([slot, choices]) => {
      const all = { ...choices, ...more(slot, choices) };
      const changed = Object.entries(all).flatMap(([name, code]) =>
        [
          [`${name}_texels`, inTexture(name, code)],
          [`${name}_staged`, code.replace(xPlain, xStaged)],
        ].filter(([, text]) => text !== code),
      );
      return [slot, { ...all, ...Object.fromEntries(changed) }];
    });
    found = { ...table, slots: Object.fromEntries(slots) };
    made.set(table, found);
  }
  return found;
}

/**
 * As measured on lavapipe, on two cores: of what packed rows in buffers took in the same runs 0.33 to 0.36, 0.47, 0.5 and
 * 0.66. seek: where half of the rows are wanted, which is where reading all of them begins to compete; of few it is up to
 * three times that.
 */
const TEXTURE_COSTS: TextureCosts = {
  read: { f32: 55, f16: 110, bf16: 110, q8: 160, q4: 450 },
  copy: 150,
  seek: 2.5e-4,
};

const software: SoftwareKernels = {
  textureCosts: (device) => (traitsOf(device).fastTexels ? TEXTURE_COSTS : undefined),
  faster: fasterStorage,
  most: mostTexelBytes,
  create: createTexels,
  upload: uploadTexels,
  copy: copyTexels,
  kernels,
};

/**
 * From now on kernels made for `device` have these variants, and pools on it may have their rows in textures
 * (`storage: 'texture'`, or `'auto'` where that is faster). Devices of `pairslab/node`, and those that a model was loaded
 * to, have been told already.
 */
export function useSoftwareKernels(device: GPUDevice): void {
  setSoftwareVariants({ rows: softwareRows, down: softwareDown });
  setSoftwareKernels(device, software);
}
