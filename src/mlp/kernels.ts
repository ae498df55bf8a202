import downCode from '../../shaders/down.wgsl';
import gateUpCode from '../../shaders/gate_up.wgsl';
import actFatrelu from '../../shaders/lib/act_fatrelu.wgsl';
import actGeluErf from '../../shaders/lib/act_gelu_erf.wgsl';
import actGeluTanh from '../../shaders/lib/act_gelu_tanh.wgsl';
import actIdentity from '../../shaders/lib/act_identity.wgsl';
import actRelu from '../../shaders/lib/act_relu.wgsl';
import actRelu2 from '../../shaders/lib/act_relu2.wgsl';
import actSilu from '../../shaders/lib/act_silu.wgsl';
import biasNone from '../../shaders/lib/bias_none.wgsl';
import biasRow from '../../shaders/lib/bias_row.wgsl';
import downParams from '../../shaders/lib/down_params.wgsl';
import dtypeBf16 from '../../shaders/lib/dtype_bf16.wgsl';
import dtypeF16 from '../../shaders/lib/dtype_f16.wgsl';
import dtypeF16Half from '../../shaders/lib/dtype_f16_half.wgsl';
import dtypeF32 from '../../shaders/lib/dtype_f32.wgsl';
import dtypeQ4 from '../../shaders/lib/dtype_q4.wgsl';
import dtypeQ4Word from '../../shaders/lib/dtype_q4_word.wgsl';
import dtypeQ8 from '../../shaders/lib/dtype_q8.wgsl';
import dtypeQ8Word from '../../shaders/lib/dtype_q8_word.wgsl';
import finishPartials from '../../shaders/lib/finish_partials.wgsl';
import finishStore from '../../shaders/lib/finish_store.wgsl';
import keepAll from '../../shaders/lib/keep_all.wgsl';
import keepMasked from '../../shaders/lib/keep_masked.wgsl';
import normNone from '../../shaders/lib/norm_none.wgsl';
import putActivate from '../../shaders/lib/put_activate.wgsl';
import putStore from '../../shaders/lib/put_store.wgsl';
import quads1 from '../../shaders/lib/quads_1.wgsl';
import quads2 from '../../shaders/lib/quads_2.wgsl';
import quads2Half from '../../shaders/lib/quads_2_half.wgsl';
import quads4 from '../../shaders/lib/quads_4.wgsl';
import quads8 from '../../shaders/lib/quads_8.wgsl';
import rowParams from '../../shaders/lib/row_params.wgsl';
import rowsDense from '../../shaders/lib/rows_dense.wgsl';
import rowsIndexed from '../../shaders/lib/rows_indexed.wgsl';
import rowsPacked from '../../shaders/lib/rows_packed.wgsl';
import spansRun from '../../shaders/lib/spans_run.wgsl';
import storedBuffer from '../../shaders/lib/stored_buffer.wgsl';
import sumStore from '../../shaders/lib/sum_store.wgsl';
import sums1x1 from '../../shaders/lib/sums_1x1.wgsl';
import sums1x2 from '../../shaders/lib/sums_1x2.wgsl';
import sums4x1 from '../../shaders/lib/sums_4x1.wgsl';
import sums8x1 from '../../shaders/lib/sums_8x1.wgsl';
import teamLane from '../../shaders/lib/team_lane.wgsl';
import teamAdd from '../../shaders/lib/team_add.wgsl';
import teamSubgroup from '../../shaders/lib/team_subgroup.wgsl';
import teamWorkgroup from '../../shaders/lib/team_workgroup.wgsl';
import workGrid from '../../shaders/lib/work_grid.wgsl';
import tile1x1 from '../../shaders/lib/tile_1x1.wgsl';
import tile1x8 from '../../shaders/lib/tile_1x8.wgsl';
import tile2x1 from '../../shaders/lib/tile_2x1.wgsl';
import tile4x1 from '../../shaders/lib/tile_4x1.wgsl';
import tile4x4 from '../../shaders/lib/tile_4x4.wgsl';
import tileLoop from '../../shaders/lib/tile_loop.wgsl';
import tilePart from '../../shaders/lib/tile_part.wgsl';
import tileX from '../../shaders/lib/tile_x.wgsl';
import weight from '../../shaders/lib/weight.wgsl';
import x1 from '../../shaders/lib/x_1.wgsl';
import x2 from '../../shaders/lib/x_2.wgsl';
import x2Half from '../../shaders/lib/x_2_half.wgsl';
import x4 from '../../shaders/lib/x_4.wgsl';
import x8 from '../../shaders/lib/x_8.wgsl';
import xPlain from '../../shaders/lib/x_plain.wgsl';
import linearCode from '../../shaders/linear.wgsl';
import sumPartialsCode from '../../shaders/sum_partials.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import type { RowUnit, StoredUnit, Sums, Team, Tile } from './variants.js';

/** WGSL by how rows are stored; f16_shifted is of software-kernels.ts. */
type Texts<U extends RowUnit> = Readonly<Record<Exclude<U, 'f16_shifted'>, string>>;
const params = { row: rowParams };
const stored = weight + storedBuffer;
/** How stored weights widen to f32: a unit at a time, which is a vector of 16 bytes, or a word. */
export const dtype: Texts<StoredUnit> = {
  f32: dtypeF32 + stored,
  f16: dtypeF16 + stored,
  bf16: dtypeBf16 + stored,
  q8: dtypeQ8 + stored,
  q4: dtypeQ4 + stored,
  q8_word: dtypeQ8Word + stored,
  q4_word: dtypeQ4Word + stored,
};
/** What such a unit widens to, by how many quads. */
export const quads = {
  '1': quads1,
  '2': quads2,
  '4': quads4,
  '8': quads8,
};
/** Row kernels can multiply in f16 as well. In down each product goes to a sum of its own, in f32: nothing is gained. */
const rowDtype: Texts<RowUnit> = { ...dtype, f16_half: dtypeF16Half + stored };
const rowQuads = { ...quads, '2_half': quads2Half };
const x = {
  '1': xPlain + x1,
  '2': xPlain + x2,
  '4': xPlain + x4,
  '8': xPlain + x8,
  '2_half': xPlain + x2Half,
};
/** Rows and batch elements that are worked on together; software-kernels.ts has more. */
const tile: Readonly<Record<Exclude<Tile, '8x1' | '4x8' | 'resident'>, string>> = {
  '1x1': tilePart + tileX + tile1x1 + tileLoop,
  '2x1': tilePart + tileX + tile2x1 + tileLoop,
  '4x1': tilePart + tileX + tile4x1 + tileLoop,
  '1x8': tilePart + tileX + tile1x8 + tileLoop,
  '4x4': tilePart + tileX + tile4x4 + tileLoop,
};
const team: Readonly<Record<Exclude<Team, 'shared' | 'claims'>, string>> = {
  lane: teamLane + workGrid,
  subgroup: teamSubgroup + teamAdd + workGrid,
  workgroup: teamWorkgroup + workGrid,
};
const sums: Readonly<Record<Exclude<Sums, '1x4' | 'row'>, string>> = {
  '1x1': sums1x1,
  '1x2': sums1x2,
  '4x1': sums4x1,
  '8x1': sums8x1,
};
const rows = {
  dense: rowsDense + keepAll + spansRun,
  packed: rowsPacked + keepAll + spansRun,
  indexed: rowsIndexed + keepAll + spansRun,
};
/** The same under the masks of the batch's elements: of all rows (the dense baseline), or of a list with the rows of any. */
const masked = {
  masked: rowsDense + keepMasked + spansRun,
  packed_masked: rowsPacked + keepMasked + spansRun,
  indexed_masked: rowsIndexed + keepMasked + spansRun,
};
const bias = { none: biasNone, row: biasRow };
const activation = {
  identity: actIdentity,
  silu: actSilu,
  gelu_erf: actGeluErf,
  gelu_tanh: actGeluTanh,
  relu: actRelu,
  relu2: actRelu2,
  fatrelu: actFatrelu,
};

/** How a kernel reaches its rows; in a model (model-kernels) also wherever they lie in a slab's slots. */
export type RowsMode = keyof typeof rows | 'arriving' | 'slots';
/** A model's down can take them from the list that gate_up_active leaves, too. */
export type DownMode = RowsMode | 'segments';
/** Ways that a row kernel has besides, and that down has no need of: what it reads is zero where a mask says so. */
export type MaskedMode = keyof typeof masked;

export const shared = {
  params,
  team,
  quads: rowQuads,
  x,
  // Named, the type would be written out in terms of the entry.
  dtype: rowDtype as Readonly<Record<string, string>>,
  tile,
  rows: { ...rows, ...masked },
  bias,
  activation,
};

/**
 * SUBGROUP: lanes of a subgroup at least; WebGPU promises four. OCTETS 1: eight exactly, on a software adapter. UNROLL:
 * units a lane takes in a round of its loop. X_QUADS: of x, where it is staged.
 */
export const rowDefaults = {
  WORKGROUP: 64,
  ROWS: 64,
  RESIDENT: 1,
  SUBGROUP: 4,
  OCTETS: 0,
  UNROLL: 1,
  X_QUADS: 1,
};

export const linear: KernelTable = {
  name: 'linear',
  code: linearCode,
  slots: {
    ...shared,
    norm: { none: normNone },
    put: { store: putStore, activate: putActivate },
  },
  constants: rowDefaults,
};

export const gateUp: KernelTable = {
  name: 'gate_up',
  code: gateUpCode,
  slots: shared,
  constants: rowDefaults,
};

const finish = { partials: finishPartials, store: finishStore };

export const down: KernelTable = {
  name: 'down',
  code: downCode,
  slots: {
    params: { down: downParams },
    quads,
    dtype,
    sums,
    rows,
    finish,
  },
  // SEGMENT is gate_up_active's ROWS, where its lists are read. LANE_VECTORS: of sums `row` (software-kernels.ts).
  constants: { WORKGROUP: 64, SEGMENT: 64, LANE_VECTORS: 1 },
};

export const sumPartials: KernelTable = {
  name: 'sum_partials',
  code: sumPartialsCode,
  slots: { put: { store: sumStore } },
  constants: { WORKGROUP: 64 },
};

/** The kernels of a down projection: its rows, or its rows while they arrive, and the second pass. */
export interface DownTables {
  readonly down: KernelTable;
  readonly sum: KernelTable;
}
export const downTables: DownTables = { down, sum: sumPartials };
