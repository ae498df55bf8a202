/** Kernels of layers that find their own mask: a model's, not `SparseMLP`'s, so that the core does without them. */
import gateUpActiveCode from '../../shaders/gate_up_active.wgsl';
import gateUpPredictedCode from '../../shaders/gate_up_predicted.wgsl';
import mlpActiveCode from '../../shaders/mlp_active.wgsl';
import predictLowRank from '../../shaders/lib/predict_low_rank.wgsl';
import predictSigns from '../../shaders/lib/predict_signs.wgsl';
import residentSum from '../../shaders/lib/resident_sum.wgsl';
import residentSums from '../../shaders/lib/resident_sums.wgsl';
import residentX from '../../shaders/lib/resident_x.wgsl';
import stream from '../../shaders/lib/stream.wgsl';
import streamParts from '../../shaders/lib/stream_parts.wgsl';
import sumStreamPut from '../../shaders/lib/sum_stream.wgsl';
import teamAdd from '../../shaders/lib/team_add.wgsl';
import teamSubgroup from '../../shaders/lib/team_subgroup.wgsl';
import workClaims from '../../shaders/lib/work_claims.wgsl';
import upArrivingCode from '../../shaders/up_arriving.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import { arriving, widened } from './fused-update.js';
import { rowDefaults, shared, sumPartials } from './kernels.js';
import { norm } from './model-kernels.js';

const { params, team, quads, x, dtype, tile, activation } = shared;

export const gateUpActive: KernelTable = {
  name: 'gate_up_active',
  code: gateUpActiveCode,
  slots: { ...shared, rows: { dense: shared.rows.dense }, norm },
  constants: { ...rowDefaults, ALL: 0 },
};

/** BITS and INPUT_BITS: 1 to 4 each; WORDS: of x in one plane; VECTORS: of a row's codes. */
export const gateUpPredicted: KernelTable = {
  name: 'gate_up_predicted',
  code: gateUpPredictedCode,
  slots: {
    params,
    team,
    quads,
    x,
    dtype,
    tile,
    norm,
    activation,
    predictor: { low_rank: predictLowRank, signs: predictSigns },
  },
  constants: { ...rowDefaults, BITS: 1, INPUT_BITS: 1, WORDS: 1, VECTORS: 1 },
};

/** `linear` put `gated`, and the copy of its rows into the slab at once, for one token. */
export const upArriving: KernelTable = {
  name: 'up_arriving',
  code: upArrivingCode,
  slots: { params, team, quads, x, dtype: widened(dtype), rows: arriving, norm },
  constants: rowDefaults,
};

/** Of kernels that go from residual stream to residual stream, a workgroup a subgroup. X_QUADS: of x. */
export const whole: KernelTable['slots'] = {
  team: { subgroup: teamSubgroup + teamAdd },
  stream: { parts: streamParts + stream },
  x,
  dtype,
  resident: { x: residentX },
  sum: { row: residentSum + residentSums },
};
export const wholeDefaults = { WORKGROUP: 8, SUBGROUP: 4, OCTETS: 0, X_QUADS: 1 };

/** How workgroups come to their rows; those of attention have heads. */
export const work: KernelTable['slots'][string] = { claims: workClaims };

export const mlpActive: KernelTable = {
  name: 'mlp_active',
  code: mlpActiveCode,
  slots: { ...whole, work, params, quads, activation },
  constants: { ...wholeDefaults, RESIDENT: 1, RUNS: 1, ROWS: 1 },
};

/** `sum_partials` of the residual stream's parts, for kernels that read it whole. */
export const sumStream: KernelTable = { ...sumPartials, slots: { put: { stream: sumStreamPut } } };
