import downArrivingCode from '../../shaders/down_arriving.wgsl';
import gateUpArrivingCode from '../../shaders/gate_up_arriving.wgsl';
import arrive1 from '../../shaders/lib/arrive_1.wgsl';
import arrive2 from '../../shaders/lib/arrive_2.wgsl';
import arrive4 from '../../shaders/lib/arrive_4.wgsl';
import rowsArriving from '../../shaders/lib/rows_arriving.wgsl';
import sums1x4 from '../../shaders/lib/sums_1x4.wgsl';
import storedBuffer from '../../shaders/lib/stored_buffer.wgsl';
import spansRun from '../../shaders/lib/spans_run.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import { down, gateUp, rowDefaults } from './kernels.js';

/** Rows of a slab that are multiplied while they are brought in: of the kernels that do both. */
export const arriving = { arriving: rowsArriving + spansRun };

const { team, quads, x, tile, params, activation } = gateUp.slots;

/** As rows are widened by kernels that say themselves where they are stored. */
export const widened = (dtypes: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(dtypes).map(([name, code]) => [name, code.replace(storedBuffer, '')]));

/** `gate_up` and the copy of its rows into the slab at once, for one token. */
export const gateUpArriving: KernelTable = {
  name: 'gate_up_arriving',
  code: gateUpArrivingCode,
  slots: {
    params,
    team,
    quads,
    x,
    dtype: widened(gateUp.slots.dtype),
    tile: { '1x1': tile['1x1'], '2x1': tile['2x1'], '4x1': tile['4x1'] },
    rows: arriving,
    activation,
  },
  constants: rowDefaults,
};

const { sums } = down.slots;

/** `down` and the copy of its rows into the slab at once, for one token. */
export const downArriving: KernelTable = {
  name: 'down_arriving',
  code: downArrivingCode,
  slots: {
    ...down.slots,
    dtype: widened(down.slots.dtype),
    sums: { '1x1': sums['1x1'], '1x2': sums['1x2'], '1x4': sums1x4 },
    arrive: { '1x1': arrive1, '1x2': arrive2, '1x4': arrive4 },
    rows: arriving,
  },
  constants: { WORKGROUP: 64 },
};

/** The kernels of a fused update: `gate_up` and `down` that bring their rows into the slab themselves. */
export interface FusedUpdate {
  readonly gateUp: KernelTable;
  readonly down: KernelTable;
}

/** For `SparseMLPOptions.fused`: a layer that is made without has 2 kB less of code. */
export const fusedUpdate: FusedUpdate = { gateUp: gateUpArriving, down: downArriving };
