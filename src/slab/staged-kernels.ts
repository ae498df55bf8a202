import bundled1 from '../../shaders/lib/bundled_1.wgsl';
import bundled2 from '../../shaders/lib/bundled_2.wgsl';
import bundled3 from '../../shaders/lib/bundled_3.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import poolBuffer from '../../shaders/lib/pool_buffer.wgsl';
import { copyRows } from './kernels.js';

/** The row copy out of rows that are staged in the moves' order, all fields of a row side by side. */
export const copyStagedRows: KernelTable = {
  ...copyRows,
  slots: {
    ...copyRows.slots,
    fields: {
      ...copyRows.slots.fields,
      bundled_1: poolBuffer + bundled1,
      bundled_2: poolBuffer + bundled2,
      bundled_3: poolBuffer + bundled3,
    },
  },
};
