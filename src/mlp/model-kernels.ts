/** The kernels of mlp/kernels as a model's layers want them besides; `SparseMLP` and the core do without. */
import finishAdd from '../../shaders/lib/finish_add.wgsl';
import finishResidual from '../../shaders/lib/finish_residual.wgsl';
import keepAll from '../../shaders/lib/keep_all.wgsl';
import normNone from '../../shaders/lib/norm_none.wgsl';
import normRms from '../../shaders/lib/norm_rms.wgsl';
import putAdd from '../../shaders/lib/put_add.wgsl';
import putGated from '../../shaders/lib/put_gated.wgsl';
import putResidual from '../../shaders/lib/put_residual.wgsl';
import rowsSegments from '../../shaders/lib/rows_segments.wgsl';
import rowsSlots from '../../shaders/lib/rows_slots.wgsl';
import spansRun from '../../shaders/lib/spans_run.wgsl';
import sumAdd from '../../shaders/lib/sum_add.wgsl';
import sumResidual from '../../shaders/lib/sum_residual.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import { downArriving } from './fused-update.js';
import { down, type DownTables, linear, sumPartials } from './kernels.js';

/** Whether x comes normed, or is left to be by the kernel that reads it. */
export const norm = { none: normNone, rms: normRms };
const slots = { slots: rowsSlots + keepAll + spansRun };
const finish = { add: finishAdd, residual: finishResidual };

/** `linear` that reads through a norm and adds to the residual stream. */
export const modelLinear: KernelTable = {
  ...linear,
  slots: {
    ...linear.slots,
    norm,
    rows: { ...linear.slots.rows, ...slots },
    put: { ...linear.slots.put, add: putAdd, residual: putResidual, gated: putGated },
  },
};

/** `down` that adds to the residual stream, of rows that gate_up_active listed or that lie anywhere in a slab. */
export const modelDown: KernelTable = {
  ...down,
  slots: {
    ...down.slots,
    rows: { ...down.slots.rows, ...slots, segments: rowsSegments },
    finish: { ...down.slots.finish, ...finish },
  },
};

export const modelDownArriving: KernelTable = {
  ...downArriving,
  slots: { ...downArriving.slots, finish: { ...downArriving.slots.finish, ...finish } },
};

export const modelSumPartials: KernelTable = {
  ...sumPartials,
  slots: { put: { ...sumPartials.slots.put, add: sumAdd, residual: sumResidual } },
};

export const modelDownTables: DownTables = { down: modelDown, sum: modelSumPartials };
