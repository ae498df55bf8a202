import { activationStride, isQuantized, type StoredDtype, valueVectors } from '../gpu/layout.js';
import type { RowStorage } from '../gpu/storage.js';
import { type Traits, traitsOf } from '../gpu/traits.js';
import { tuned } from '../gpu/tuning.js';
import { type Compute, checkCompute } from './compute.js';

/**
 * How many lanes work on a row together. `shared`: one, and a subgroup's lanes share what they read of x; `claims`: a
 * subgroup, a workgroup of its own, which takes ROWS rows whenever it is done with others.
 */
export type Team = 'lane' | 'shared' | 'subgroup' | 'claims' | 'workgroup';
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

/** Batch elements that the batched variants take at most; batched activations have rows for a multiple of it. */
export const BATCH_TILE = 8;

/** What `useSoftwareKernels` brings for adapters that are a CPU. */
export interface SoftwareVariants {
  readonly rows: typeof rowVariants;
  readonly down: typeof downVariants;
}
let forSoftware: SoftwareVariants | undefined;

export function setSoftwareVariants(variants: SoftwareVariants): void {
  forSoftware = variants;
}

/** A row variant but for its tile. */
export type RowCut = Omit<RowVariant, 'tile' | 'width'>;

export const rowCut = (team: Team, WORKGROUP: number, ROWS: number, unroll = 1): RowCut => ({
  team,
  WORKGROUP,
  ROWS,
  unroll,
  x: 'buffer',
});

/** Each cut with each tile, of whole tiles, and by each width. */
export const tiled =
  (kind: RowKind, widths: readonly Width[]) =>
  (tiles: readonly Tile[], ...cuts: readonly RowCut[]): RowVariant[] =>
    tiles.flatMap((tile) =>
      cuts.flatMap((one) =>
        widths.map((width) => ({ ...one, tile, width, ROWS: wholeTiles(one.ROWS, tile, kind) })),
      ),
    );

/**
 * The variants of a row kernel that can run on a device; the first is the default. GPUs want coalesced lanes over a row;
 * what software adapters want says software-variants.ts.
 */
export function rowVariants(
  traits: Traits,
  kind: RowKind,
  dtype: StoredDtype,
  batched: boolean,
  cols: number,
  storage: RowStorage = 'buffer',
): RowVariant[] {
  const { software, subgroup, softwareKit } = traits;
  if (software && softwareKit && forSoftware)
    return forSoftware.rows(traits, kind, dtype, batched, cols, storage);
  const quantized: readonly Width[] = software ? ['word'] : batched ? ['word', 'vector'] : ['vector', 'word'];
  const add = tiled(kind, isQuantized(dtype) ? quantized : ['vector']);
  if (software) {
    const lanes = rowCut('lane', 16, 64);
    if (batched) return add(['4x4', '1x8'], lanes);
    const tiles: Tile[] = kind === 'gate_up' ? ['2x1', '4x1', '1x1'] : ['4x1', '2x1', '1x1'];
    const rows = kind === 'gate_up_active' ? 128 : 64;
    return add(tiles, subgroup >= 4 ? rowCut('subgroup', subgroup, rows) : lanes);
  }
  const tiles: Tile[] = batched ? ['1x8', '4x4'] : ['1x1', '2x1', '4x1'];
  const teams = [rowCut('workgroup', 64, 4), rowCut('workgroup', 128, 8)];
  const unrolled = (one: RowCut) => (batched ? [] : [2, 4].map((unroll) => ({ ...one, unroll })));
  if (subgroup < 8) return [...add(tiles, ...teams), ...add(tiles.slice(0, 1), ...unrolled(teams[0]))];
  const subgroups = [128, 64].flatMap((WORKGROUP) =>
    [1, 4].map((rows) => rowCut('subgroup', WORKGROUP, (WORKGROUP / subgroup) * rows)),
  );
  return [...add(tiles, ...subgroups), ...add(tiles.slice(0, 1), ...unrolled(subgroups[0]), ...teams)];
}

/** Units of x that a lane of a team of `lanes` would keep; 0 where they are too many, or do not come out even. */
export function residentUnits(dtype: StoredDtype, width: Width, cols: number, lanes: number): number {
  const each = unitsOf(dtype, width, cols).units / lanes;
  return Number.isInteger(each) && each <= MOST_RESIDENT ? each : 0;
}

/** Whole tiles of rows; a segment of gate_up_active is worth its list from some rows on. */
export function wholeTiles(rows: number, tile: Tile, kind: RowKind): number {
  const step = tileRows(tile);
  return Math.max(kind === 'gate_up_active' ? 32 : step, Math.ceil(rows / step) * step);
}

/** The variants of down that can run on a device; the first is the default. Sums beyond the registers are left out. */
export function downVariants(
  traits: Traits,
  dtype: StoredDtype,
  batched: boolean,
  cols: number,
  storage: RowStorage = 'buffer',
): DownVariant[] {
  const { software, softwareKit } = traits;
  if (software && softwareKit && forSoftware) return forSoftware.down(traits, dtype, batched, cols, storage);
  const word: Width[] = batched || software ? ['word'] : ['vector', 'word'];
  const cuts = software
    ? [{ WORKGROUP: 8, workgroups: 4 }]
    : [
        { WORKGROUP: 64, workgroups: 512 },
        { WORKGROUP: 64, workgroups: 128 },
        { WORKGROUP: 32, workgroups: 512 },
        { WORKGROUP: 128, workgroups: 512 },
      ];
  return (isQuantized(dtype) ? word : (['vector'] as const)).flatMap((width) => {
    const { slots, units } = unitsOf(dtype, width, cols);
    const side: Sums[] = software && units >= 64 ? ['1x2', '1x1'] : ['1x1', '1x2'];
    const tiles: Sums[] = software && isQuantized(dtype) ? ['4x1', '8x1'] : ['8x1', '4x1'];
    const sums = batched ? tiles : Number(slots.quads) > 2 ? side.filter((s) => s === '1x1') : side;
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
