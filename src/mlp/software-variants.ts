import { isQuantized, type StoredDtype } from '../gpu/layout.js';
import type { RowStorage } from '../gpu/storage.js';
import type { Traits } from '../gpu/traits.js';
import {
  residentUnits,
  rowCut,
  type RowKind,
  type RowVariant,
  type SoftwareVariants,
  type Sums,
  type Tile,
  tiled,
  unitsOf,
  type Width,
  wholeTiles,
} from './variants.js';

/** Units of x that tile_8x1 has registers for. */
const MOST_KEPT = 4;
/** Lanes of a subgroup that tile_8x1 is written for. */
const KEEPERS = 8;
/** Columns of an x that fits a workgroup's memory beside what kernels have there, on every adapter: 12 of 16 KB. */
const MOST_NEAR = 3072;
/** Values of the rows that a workgroup claims at a time: some 64 KB of f32 take a core longer than ten claims. */
const CLAIMED = 16384;

/**
 * The variants of a row kernel that can run on an adapter that is a CPU; the first is the default.
 *
 * Measured on this project's machines (SwiftShader, and lavapipe of Mesa 25.0): a load costs more than arithmetic, so
 * four rows that share a read of x take half the time of one (two where a row is two, [gate | up]); a workgroup of one
 * subgroup is faster than a larger one, whose barriers and subgroups are run one after the other; and a load at one
 * address for all lanes costs as much as at eight, so that in a batch, where most loads are of x, a subgroup's lanes that
 * share them take half the time. Lavapipe's code for one load of a vector from a buffer is 1.6 KB: loops with more than
 * some six of them fall out of the cache of decoded instructions and are slower than short ones, so that rows want no
 * unrolling there. A load from a texture takes a fifth of that code, and one from the workgroup's memory a third of the
 * time, so that there x is staged: over rows in textures (2048 values, gate_up of all rows) f32 reads 13 GB/s, from buffers
 * 6 before and 9 with x staged; f16 8, 4 and 4. SwiftShader is a fifth slower so.
 * Lavapipe gives each thread its workgroups beforehand, and one thread wakes up some 90 µs after the other: where workgroups
 * claim rows instead, gate_up of 82, 819 and 8192 rows of 2048 values takes 0.9, 0.85 to 0.95 and 0.93 of the time.
 */
export const softwareRows: SoftwareVariants['rows'] = (
  traits,
  kind,
  dtype,
  batched,
  cols,
  storage = 'buffer',
) => {
  const { subgroup } = traits;
  const widths = widthsOf(traits, dtype, batched, storage);
  const add = tiled(kind, widths);
  const lanes = rowCut('lane', 16, 64);
  // A segment of gate_up_active has barriers of its own: few segments, as long as each core gets some.
  const rows = kind === 'gate_up_active' ? 128 : 64;
  const team = subgroup >= 4 ? rowCut('subgroup', subgroup, rows) : lanes;
  if (batched) {
    const others = [...add(['4x4'], ...new Set([lanes, team])), ...add(['1x8'], lanes)];
    // An octet takes eight lanes, and reads x by itself.
    const shared = add(['4x8'], rowCut('shared', subgroup, 4 * subgroup)).map((one) =>
      one.width === 'shifted' ? { ...one, width: 'vector' as const } : one,
    );
    return subgroup >= 8 ? [...shared, ...others] : others;
  }
  // A pair of rows, [gate | up], counts twice, unless x is near or weights are many loads in one.
  const pairs = kind === 'gate_up' && !(traits.octets && (storage === 'texture' || cols <= MOST_NEAR));
  const tiles: Tile[] = pairs ? ['2x1', '4x1', '1x1'] : ['4x1', '2x1', '1x1'];
  if (team === lanes) return add(tiles, lanes);
  const halves = { ...team, ROWS: rows / 2 };
  if (kind !== 'gate_up' && residentUnits(dtype, widths[0], cols, subgroup)) {
    // Not lanes by themselves: x is dealt out to a subgroup's.
    const resident = [...add(['resident', ...tiles], team), ...add(['resident'], halves)];
    return traits.octets && kind === 'linear' ? claiming(kind, cols, resident) : resident;
  }
  const near = traits.octets && cols <= MOST_NEAR ? { ...team, x: 'workgroup' as const } : undefined;
  const plain = near
    ? [
        ...add(tiles, near),
        ...add(tiles.slice(0, 1), { ...near, ROWS: rows / 2 }, { ...near, unroll: 2 }, team),
      ]
    : [...add(tiles, team), ...add(tiles.slice(0, 1), lanes, halves, { ...team, unroll: 2 })];
  const keeps = traits.octets && kind !== 'gate_up_active';
  const unroll = keeps ? keptUnits(dtype, widths[0], cols, subgroup) : 0;
  if (unroll === 0) return keeps ? claiming(kind, cols, plain) : plain;
  // Of a list there are few rows: more workgroups come out more evenly on the cores.
  const cuts = kind === 'gate_up' ? [halves, team] : [team, halves];
  const kept = cuts.map(
    (one) => ({ ...one, x: near?.x ?? 'buffer', unroll, tile: '8x1', width: widths[0] }) as const,
  );
  // Two quads of x to a unit: reading them again for every tile is what takes the time (gate_up of f16 by 1.14 to 1.2,
  // linear by 1.1; f32 is as fast or slower so).
  const keep = storage === 'buffer' && (dtype === 'f16' || dtype === 'bf16');
  return claiming(kind, cols, keep ? [...kept, ...plain] : [...plain, ...kept]);
};

/** Variants with the first of them by claims before it. */
const claiming = (kind: RowKind, cols: number, [first, ...others]: RowVariant[]): RowVariant[] => {
  const rows = Math.min(64, Math.max(8, CLAIMED / cols));
  return [{ ...first, team: 'claims', ROWS: wholeTiles(rows, first.tile, kind) }, first, ...others];
};

/**
 * How lanes take stored rows. A unit of a quantized vector is a page of instructions, and seconds of compiling in a batched
 * tile; one loaded from a texture is less.
 */
function widthsOf(
  { subnormals }: Traits,
  dtype: StoredDtype,
  batched: boolean,
  storage: RowStorage,
): Width[] {
  if (isQuantized(dtype)) return [batched || storage === 'buffer' ? 'word' : 'vector'];
  return dtype === 'f16' && subnormals ? ['shifted', 'vector'] : ['vector'];
}

/** Units of x that a lane of tile_8x1 keeps at a time: as many as come out even; 0 where that is none or one. */
function keptUnits(dtype: StoredDtype, width: Width, cols: number, lanes: number): number {
  const each = unitsOf(dtype, width, cols).units / lanes;
  if (lanes !== KEEPERS) return 0;
  for (let kept = MOST_KEPT; kept > 1; kept--) if (each % kept === 0) return kept;
  return 0;
}

/**
 * The variants of down on an adapter that is a CPU; the first is the default. Sums beyond the registers are left out. Out of
 * textures whole rows are worth a second pass, also short ones: 1536 rows of 256 values take 0.75 of the time so in f32,
 * 0.83 in f16 and 0.63 in q8.
 */
export const softwareDown: SoftwareVariants['down'] = (traits, dtype, batched, cols, storage = 'buffer') => {
  const widths = widthsOf(traits, dtype, batched, storage);
  const cuts = [
    { WORKGROUP: 8, workgroups: 4 },
    { WORKGROUP: 4, workgroups: 4 },
  ];
  return widths.flatMap((width) => {
    const { slots, units } = unitsOf(dtype, width, cols);
    // Long runs of each row (rows of a list lie far apart, and each visit waits for memory), as far as the columns still
    // give some workgroups without a second pass.
    const runs = (['1x4', '1x2', '1x1'] as const).filter(
      (s) => s === '1x1' || units >= 8 * Number(s[2]) * cuts[0].workgroups,
    );
    const side: Sums[] = Number(slots.quads) > 2 ? ['1x1'] : runs;
    const words = isQuantized(dtype) && storage === 'buffer';
    const tiles: Sums[] = words ? ['4x1', '8x1'] : ['8x1', '4x1'];
    const sums: Sums[] = batched ? tiles : storage === 'texture' ? ['row', ...side] : side;
    return sums.flatMap((s) => cuts.map((cut) => ({ ...cut, sums: s, width })));
  });
};
