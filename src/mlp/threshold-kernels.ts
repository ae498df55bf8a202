/** Kernels of layers that find their own mask: a model's, not `SparseMLP`'s, so that the core does without them. */
import gateUpActiveCode from '../../shaders/gate_up_active.wgsl';
import gateUpPredictedCode from '../../shaders/gate_up_predicted.wgsl';
import predictLowRank from '../../shaders/lib/predict_low_rank.wgsl';
import predictSigns from '../../shaders/lib/predict_signs.wgsl';
import upArrivingCode from '../../shaders/up_arriving.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import { arriving, norm, rowDefaults, shared } from './kernels.js';

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
  slots: { params, team, quads, x, dtype, rows: arriving, norm },
  constants: rowDefaults,
};
