import { activationStride, isQuantized, type StoredDtype, valueVectors } from '../gpu/layout.js';
import type { RowStorage } from '../gpu/storage.js';
import { type Traits, traitsOf } from '../gpu/traits.js';
import { tuned } from '../gpu/tuning.js';
import { type Compute, checkCompute } from './compute.js';

/** How many lanes work on a row together; `shared`: one, and a subgroup's lanes share what they read of x. */
export type Team = 'lane' | 'shared' | 'subgroup' | 'workgroup';
/**
 * Rows by batch elements that a team takes at a time. `8x1` keeps a part of x in registers while it goes over its rows,
 * `resident` all of x, for a row at a time.
 */
export type Tile = '1x1' | '2x1' | '4x1' | '8x1' | '1x8' | '4x4' | '4x8' | 'resident';
/** Batch elements by stored vectors of columns that a lane sums up; `row`: one by as many as make a row. */
export type Sums = '1x1' | '1x2' | '1x4' | '4x1' | '8x1' | 'row';

/** What a lane takes of a stored row at a time; words are there for q8 and q4, vectors widened by shifts for f16. */
export type Width = 'vector' | 'word' | 'shifted';
/** The choice of slot `dtype` for a stored dtype and a width. */
export type StoredUnit = StoredDtype | 'f16_shifted' | 'q8_word' | 'q4_word';
/** The same in a row kernel, which can also take f16 as it is. */
export type RowUnit = StoredUnit | 'f16_half';
/** The same of rows in a texture. */
export type Texels<U extends RowUnit> = `${U}_texels`;

/** How a row kernel (linear, gate_up, gate_up_active) is cut up. */
export interface RowVariant {
  readonly team: Team;
  readonly tile: Tile;
  readonly width: Width;
  readonly WORKGROUP: number;
  /** Rows a workgroup takes: a multiple of the tile's. */
  readonly ROWS: number;
  /** Units that a lane takes of each row in a round of its loop: 1, 2 or 4; in tile `8x1` what it keeps of x, 2 to 4. */
  readonly unroll: number;
  /** Where lanes read x. */
  readonly x: 'buffer' | 'workgroup';
}

/** How down is cut up. */
export interface DownVariant {
  readonly sums: Sums;
  readonly width: Width;
  readonly WORKGROUP: number;
  /** Workgroups wanted: where the columns give fewer, the rows are split and a second pass adds the splits. */
  readonly workgroups: number;
}

/** The row kernels, which are tuned apart. */
export type RowKind = 'linear' | 'gate_up' | 'gate_up_active';

export const tileRows = (tile: Tile): number => (tile === 'resident' ? 1 : Number(tile[0]));
export const tileBatch = (tile: Tile): number => (tile === 'resident' ? 1 : Number(tile[2]));
export const sumsBatch = (sums: Sums): number => (sums === 'row' ? 1 : Number(sums[0]));

/** Quads of sums that a lane has at most, lib/sums_row.wgsl. */
const MOST_SUMS = 64;

/** Units that each lane sums up of rows of so many, where a row is to have at least so many workgroups. */
export function sumsVectors(
  { sums, WORKGROUP }: Pick<DownVariant, 'sums' | 'WORKGROUP'>,
  { units, slots }: Pick<ReturnType<typeof unitsOf>, 'units' | 'slots'>,
  groups = 1,
): number {
  if (sums !== 'row') return Number(sums[2]);
  const each = Math.ceil(units / (groups * WORKGROUP));
  const most = MOST_SUMS / Number.parseInt(slots.quads, 10);
  return Math.ceil(each / Math.ceil(each / most));
}

/** Quads of f32 that a unit widens to: the choice of the slots `quads` and `x` that goes with it. */
const QUADS: Readonly<Record<StoredUnit, number>> = {
  f32: 1,
  f16: 2,
  f16_shifted: 2,
  bf16: 2,
  q8: 4,
  q4: 8,
  q8_word: 1,
  q4_word: 2,
};

/**
 * The slots that say how rows are stored and multiplied, and the units of a row of `cols` values. What a row kernel
 * multiplies in is no part of its variant: the tuner does not choose it.
 * @throws OptionError for compute f16 of another dtype.
 */
export function unitsOf(
  dtype: StoredDtype,
  width: Width,
  cols: number,
  compute: Compute = 'f32',
  storage: RowStorage = 'buffer',
): { slots: { dtype: RowUnit | Texels<RowUnit>; quads: string; x: string }; units: number } {
  const half = checkCompute(compute, dtype) === 'f16';
  const word = width === 'word' && isQuantized(dtype);
  const shifted = width === 'shifted' && dtype === 'f16';
  const wide: StoredUnit = word ? `${dtype}_word` : shifted ? 'f16_shifted' : dtype;
  const unit: RowUnit = half ? 'f16_half' : wide;
  const quads = half ? '2_half' : shifted ? '2_shifted' : String(QUADS[wide]);
  return {
    slots: { dtype: storage === 'texture' ? `${unit}_texels` : unit, quads, x: quads },
    units: valueVectors(cols, dtype) * (word && !half ? 4 : 1),
  };
}

/** The registers that tile_resident has for x. */
const MOST_RESIDENT = 8;
/** The same of tile_8x1. */
const MOST_KEPT = 4;
/** Lanes of a subgroup that tile_8x1 is written for. */
const KEEPERS = 8;

/** Batch elements that the batched variants take at most; batched activations have rows for a multiple of it. */
export const BATCH_TILE = 8;

/**
 * The variants of a row kernel that can run on a device; the first is the default.
 *
 * Measured on this project's machines (SwiftShader, and lavapipe of Mesa 25.0): a load costs more than arithmetic, so
 * four rows that share a read of x take half the time of one (two where a row is two, [gate | up]); a workgroup of one
 * subgroup is faster than a larger one, whose barriers and subgroups are run one after the other; and a load at one
 * address for all lanes costs as much as at eight, so that in a batch, where most loads are of x, a subgroup's lanes that
 * share them take half the time. Lavapipe's code for one load of a vector from a buffer is 1.6 KB: loops with more than
 * some six of them fall out of the cache of decoded instructions and are slower than short ones, so that rows want no
 * unrolling there. A load from a texture takes a fifth of that code, and one from the workgroup's memory a third of the
 * time, so that there x is staged: over rows in textures (2048 values, gate_up of all rows) f32 reads 13 GB/s, from buffers
 * 6 before and 9 with x staged; f16 8, 4 and 4. SwiftShader is a fifth slower so. GPUs want coalesced lanes over a row.
 */
export function rowVariants(
  traits: Traits,
  kind: RowKind,
  dtype: StoredDtype,
  batched: boolean,
  cols: number,
  storage: RowStorage = 'buffer',
): RowVariant[] {
  const { software, subgroup } = traits;
  const cut = (team: Team, WORKGROUP: number, rows: number, unroll = 1) => ({
    team,
    WORKGROUP,
    ROWS: rows,
    unroll,
    x: 'buffer' as 'buffer' | 'workgroup',
  });
  const add = (tiles: readonly Tile[], ...cuts: ReturnType<typeof cut>[]): RowVariant[] =>
    tiles.flatMap((tile) =>
      cuts.flatMap((one) =>
        widths.map((width) => ({ ...one, tile, width, ROWS: wholeTiles(one.ROWS, tile, kind) })),
      ),
    );
  // A unit of a vector is a page of instructions on software adapters, and seconds of compiling in a batched tile; one loaded
  // from a texture is less.
  const vectors = batched ? (['word', 'vector'] as const) : (['vector', 'word'] as const);
  const quantized: readonly Width[] = software
    ? [batched || storage === 'buffer' ? 'word' : 'vector']
    : vectors;
  const widths = isQuantized(dtype) ? quantized : wholeVectors(traits, dtype);
  if (software) {
    const lanes = cut('lane', 16, 64);
    // A segment of gate_up_active has barriers of its own: few segments, as long as each core gets some.
    const rows = kind === 'gate_up_active' ? 128 : 64;
    const team = subgroup >= 4 ? cut('subgroup', subgroup, rows) : lanes;
    if (batched) {
      const others = [...add(['4x4'], ...new Set([lanes, team])), ...add(['1x8'], lanes)];
      // An octet takes eight lanes, and reads x by itself.
      const shared = add(['4x8'], cut('shared', subgroup, 4 * subgroup)).map((one) =>
        one.width === 'shifted' ? { ...one, width: 'vector' as const } : one,
      );
      return traits.more && subgroup >= 8 ? [...shared, ...others] : others;
    }
    // A pair of rows, [gate | up], counts twice, unless x is near or weights are many loads in one.
    const pairs = kind === 'gate_up' && !(traits.octets && (storage === 'texture' || cols <= MOST_NEAR));
    const tiles: Tile[] = pairs ? ['2x1', '4x1', '1x1'] : ['4x1', '2x1', '1x1'];
    if (team === lanes) return add(tiles, lanes);
    const halves = { ...team, ROWS: rows / 2 };
    if (traits.more && kind !== 'gate_up' && residentUnits(dtype, widths[0], cols, subgroup)) {
      // Not lanes by themselves: x is dealt out to a subgroup's.
      return [...add(['resident', ...tiles], team), ...add(['resident'], halves)];
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
    if (unroll === 0) return plain;
    // Of a list there are few rows: more workgroups come out more evenly on the cores.
    const cuts = kind === 'gate_up' ? [halves, team] : [team, halves];
    const kept = cuts.map(
      (one) => ({ ...one, x: near?.x ?? 'buffer', unroll, tile: '8x1', width: widths[0] }) as const,
    );
    // Two quads of x to a unit: reading them again for every tile is what takes the time (gate_up of f16 by 1.14 to 1.2,
    // linear by 1.1; f32 is as fast or slower so).
    const keep = storage === 'buffer' && (dtype === 'f16' || dtype === 'bf16');
    return keep ? [...kept, ...plain] : [...plain, ...kept];
  }
  const tiles: Tile[] = batched ? ['1x8', '4x4'] : ['1x1', '2x1', '4x1'];
  const teams = [cut('workgroup', 64, 4), cut('workgroup', 128, 8)];
  const unrolled = (one: ReturnType<typeof cut>) =>
    batched ? [] : [2, 4].map((unroll) => ({ ...one, unroll }));
  if (subgroup < 8) return [...add(tiles, ...teams), ...add(tiles.slice(0, 1), ...unrolled(teams[0]))];
  const subgroups = [128, 64].flatMap((WORKGROUP) =>
    [1, 4].map((rows) => cut('subgroup', WORKGROUP, (WORKGROUP / subgroup) * rows)),
  );
  return [...add(tiles, ...subgroups), ...add(tiles.slice(0, 1), ...unrolled(subgroups[0]), ...teams)];
}

/** How rows that are not quantized are taken. */
const wholeVectors = ({ subnormals }: Traits, dtype: StoredDtype): Width[] =>
  dtype === 'f16' && subnormals ? ['shifted', 'vector'] : ['vector'];

/** Units of x that a lane of a team of `lanes` would keep; 0 where they are too many, or do not come out even. */
export function residentUnits(dtype: StoredDtype, width: Width, cols: number, lanes: number): number {
  const each = unitsOf(dtype, width, cols).units / lanes;
  return Number.isInteger(each) && each <= MOST_RESIDENT ? each : 0;
}

/** Columns of an x that fits a workgroup's memory beside what kernels have there, on every adapter: 12 of 16 KB. */
const MOST_NEAR = 3072;

/** Units of x that a lane of tile_8x1 keeps at a time: as many as come out even; 0 where that is none or one. */
function keptUnits(dtype: StoredDtype, width: Width, cols: number, lanes: number): number {
  const each = unitsOf(dtype, width, cols).units / lanes;
  if (lanes !== KEEPERS) return 0;
  for (let kept = MOST_KEPT; kept > 1; kept--) if (each % kept === 0) return kept;
  return 0;
}

/** Whole tiles of rows; a segment of gate_up_active is worth its list from some rows on. */
function wholeTiles(rows: number, tile: Tile, kind: RowKind): number {
  const step = tileRows(tile);
  return Math.max(kind === 'gate_up_active' ? 32 : step, Math.ceil(rows / step) * step);
}

/** Units of a row that sums of whole rows are for. */
const SHORT_ROW = 128;

/** The variants of down that can run on a device; the first is the default. Sums beyond the registers are left out. */
export function downVariants(
  traits: Traits,
  dtype: StoredDtype,
  batched: boolean,
  cols: number,
  storage: RowStorage = 'buffer',
): DownVariant[] {
  const { software } = traits;
  const widths: Width[] = !isQuantized(dtype)
    ? wholeVectors(traits, dtype)
    : batched || (software && storage === 'buffer')
      ? ['word']
      : software
        ? ['vector']
        : ['vector', 'word'];
  const cuts = software
    ? [
        { WORKGROUP: 8, workgroups: 4 },
        { WORKGROUP: 4, workgroups: 4 },
      ]
    : [
        { WORKGROUP: 64, workgroups: 512 },
        { WORKGROUP: 64, workgroups: 128 },
        { WORKGROUP: 32, workgroups: 512 },
        { WORKGROUP: 128, workgroups: 512 },
      ];
  return widths.flatMap((width) => {
    const { slots, units } = unitsOf(dtype, width, cols);
    // Software adapters want long runs of each row (rows of a list lie far apart, and each visit waits for memory), as
    // far as the columns still give some workgroups without a second pass. GPUs want many workgroups.
    const runs: Sums[] = (traits.more ? (['1x4', '1x2', '1x1'] as const) : (['1x2', '1x1'] as const)).filter(
      (s) => s === '1x1' || units >= 8 * Number(s[2]) * cuts[0].workgroups,
    );
    const side: Sums[] = Number(slots.quads) > 2 ? ['1x1'] : software ? runs : ['1x1', '1x2'];
    // A second pass is not worth it for short rows.
    const row: Sums[] = units >= SHORT_ROW ? ['row', ...side] : [...side, 'row'];
    const one = software && storage === 'texture' ? row : side;
    const words = software && isQuantized(dtype) && storage === 'buffer';
    const tiles: Sums[] = words ? ['4x1', '8x1'] : ['8x1', '4x1'];
    const sums: Sums[] = batched ? tiles : one;
    return sums.flatMap((s) => cuts.map((cut) => ({ ...cut, sums: s, width })));
  });
}

/** The tuned variant of a row kernel over rows of `cols` values, else the default. */
export function rowVariant(
  device: GPUDevice,
  kind: RowKind,
  dtype: StoredDtype,
  batched: boolean,
  cols: number,
  compute: Compute = 'f32',
  storage: RowStorage = 'buffer',
): RowVariant {
  // Values that lanes share are f32.
  const variants = rowVariants(traitsOf(device), kind, dtype, batched, cols, storage).filter(
    ({ team }) => compute === 'f32' || team !== 'shared',
  );
  return tuned(device, { kernel: kind, dtype, batched, cols, storage }, variants) ?? variants[0];
}

/** Workgroups that are enough for any software adapter's threads. */
const ENOUGH_WORKGROUPS = 8;

/**
 * A variant for a matrix whose rows are all read: an x that stays in registers is brought there once a workgroup, so those
 * get more rows as long as there are enough of them. The head of 2048 rows of 256 values on lavapipe: 0.53 to 0.38 ms.
 */
export function forAllRows(variant: RowVariant, rows: number): RowVariant {
  if (variant.tile !== 'resident') return variant;
  const times = Math.max(1, Math.floor(rows / (variant.ROWS * ENOUGH_WORKGROUPS)));
  return { ...variant, ROWS: variant.ROWS * times };
}

/** The slots of a row kernel over rows that are stored so, in a variant. */
export function storedSlots({ slots }: ReturnType<typeof unitsOf>, { x }: RowVariant) {
  return { ...slots, x: x === 'workgroup' ? `${slots.x}_staged` : slots.x };
}

/** The constants of a row kernel in a variant. */
export function rowConstants(
  device: GPUDevice,
  { tile, width, WORKGROUP, ROWS, unroll, x }: RowVariant,
  dtype: StoredDtype,
  cols: number,
): Record<string, number> {
  const { subgroup, octets } = traitsOf(device);
  const staged: Record<string, number> = x === 'workgroup' ? { X_QUADS: activationStride(cols) / 4 } : {};
  const lanes = { SUBGROUP: Math.max(4, subgroup), OCTETS: octets ? 1 : 0 };
  const cut = { WORKGROUP, ROWS, UNROLL: unroll, ...lanes, ...staged };
  return tile === 'resident' ? { ...cut, RESIDENT: residentUnits(dtype, width, cols, subgroup) } : cut;
}

/** The tuned variant of down for rows of `cols` values, else the default. */
export function downVariant(
  device: GPUDevice,
  dtype: StoredDtype,
  batched: boolean,
  cols: number,
  storage: RowStorage = 'buffer',
): DownVariant {
  const variants = downVariants(traitsOf(device), dtype, batched, cols, storage);
  return tuned(device, { kernel: 'down', dtype, batched, cols, storage }, variants) ?? variants[0];
}
