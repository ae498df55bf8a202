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
import dotF16 from '../../shaders/lib/dot_f16.wgsl';
import dotF32 from '../../shaders/lib/dot_f32.wgsl';
import finishAdd from '../../shaders/lib/finish_add.wgsl';
import finishPartials from '../../shaders/lib/finish_partials.wgsl';
import finishStore from '../../shaders/lib/finish_store.wgsl';
import putActivate from '../../shaders/lib/put_activate.wgsl';
import putAdd from '../../shaders/lib/put_add.wgsl';
import putGated from '../../shaders/lib/put_gated.wgsl';
import putStore from '../../shaders/lib/put_store.wgsl';
import quadsF16 from '../../shaders/lib/quads_f16.wgsl';
import quadsF32 from '../../shaders/lib/quads_f32.wgsl';
import rowParams from '../../shaders/lib/row_params.wgsl';
import rowsDense from '../../shaders/lib/rows_dense.wgsl';
import rowsIndexed from '../../shaders/lib/rows_indexed.wgsl';
import rowsMasked from '../../shaders/lib/rows_masked.wgsl';
import rowsPacked from '../../shaders/lib/rows_packed.wgsl';
import sumAdd from '../../shaders/lib/sum_add.wgsl';
import sumStore from '../../shaders/lib/sum_store.wgsl';
import sums1 from '../../shaders/lib/sums_1.wgsl';
import sums8 from '../../shaders/lib/sums_8.wgsl';
import teamLane from '../../shaders/lib/team_lane.wgsl';
import teamSubgroup from '../../shaders/lib/team_subgroup.wgsl';
import teamWorkgroup from '../../shaders/lib/team_workgroup.wgsl';
import tile1 from '../../shaders/lib/tile_1.wgsl';
import tile8 from '../../shaders/lib/tile_8.wgsl';
import weightsF16 from '../../shaders/lib/weights_f16.wgsl';
import weightsF32 from '../../shaders/lib/weights_f32.wgsl';
import linearCode from '../../shaders/linear.wgsl';
import sumPartialsCode from '../../shaders/sum_partials.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import type { Traits } from '../gpu/traits.js';

const params = { row: rowParams };
/** How a vector of stored weights widens to f32. */
export const weights = { f32: weightsF32, f16: weightsF16 };
/** How a vector of stored weights meets x. */
const dot = { f32: dotF32, f16: dotF16 };
/** Batch elements that share one read of a row. */
const tile = { '1': tile1, '8': tile8 };
const team = { lane: teamLane, subgroup: teamSubgroup, workgroup: teamWorkgroup };
const rows = {
  dense: rowsDense,
  masked: rowsMasked,
  packed: rowsPacked,
  indexed: rowsIndexed,
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

export type Team = keyof typeof team;
export type RowsMode = keyof typeof rows;

export const linear: KernelTable = {
  name: 'linear',
  code: linearCode,
  slots: {
    params,
    team,
    tile,
    dot,
    rows,
    bias,
    activation,
    put: { store: putStore, add: putAdd, activate: putActivate, gated: putGated },
  },
  constants: { WORKGROUP: 64, ROWS: 64 },
};

export const gateUp: KernelTable = {
  name: 'gate_up',
  code: gateUpCode,
  slots: { params, team, tile, dot, rows, bias, activation },
  constants: { WORKGROUP: 64, ROWS: 64 },
};

export const down: KernelTable = {
  name: 'down',
  code: downCode,
  slots: {
    weights: { f32: quadsF32, f16: quadsF16 },
    sums: { '1': sums1, '8': sums8 },
    rows,
    finish: { partials: finishPartials, store: finishStore, add: finishAdd },
  },
  constants: { WORKGROUP: 64 },
};

export const sumPartials: KernelTable = {
  name: 'sum_partials',
  code: sumPartialsCode,
  slots: { put: { store: sumStore, add: sumAdd } },
  constants: { WORKGROUP: 64 },
};

/** Batch elements that share one read of a row in the batched variants. */
export const BATCH_TILE = 8;

/** How a kernel is cut up on a device. */
export interface Cut {
  team: Team;
  WORKGROUP: number;
  /** Rows a workgroup takes. */
  ROWS: number;
}

/**
 * The default cut of row kernels, measured on this project's machines: a subgroup a row on lavapipe, a lane a row on
 * SwiftShader, where subgroups of 4 lanes and barriers are slow; both pay for every workgroup, so they get few. GPUs
 * want coalesced lanes over a row.
 */
export function defaultCut(traits: Traits): Cut {
  if (traits.software) return { team: traits.subgroup >= 8 ? 'subgroup' : 'lane', WORKGROUP: 64, ROWS: 64 };
  if (traits.subgroup >= 8) return { team: 'subgroup', WORKGROUP: 128, ROWS: 4 };
  return { team: 'workgroup', WORKGROUP: 64, ROWS: 1 };
}
