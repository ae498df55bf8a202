import compactCode from '../../shaders/compact.wgsl';
import copyRowsCode from '../../shaders/copy_rows.wgsl';
import indexSelectCode from '../../shaders/index_select.wgsl';
import activeBits from '../../shaders/lib/active_bits.wgsl';
import activeValues from '../../shaders/lib/active_values.wgsl';
import fields1 from '../../shaders/lib/fields_1.wgsl';
import fields2 from '../../shaders/lib/fields_2.wgsl';
import fields3 from '../../shaders/lib/fields_3.wgsl';
import vector1 from '../../shaders/lib/vector_1.wgsl';
import vector2 from '../../shaders/lib/vector_2.wgsl';
import vector4 from '../../shaders/lib/vector_4.wgsl';
import maskValuesCode from '../../shaders/mask_values.wgsl';
import type { KernelTable } from '../gpu/kernel.js';

const slots = {
  vector: { '1': vector1, '2': vector2, '4': vector4 },
  fields: { '1': fields1, '2': fields2, '3': fields3 },
};

/** The row copy: WORKGROUP lanes along a row, ROWS rows a workgroup. */
export const copyRows: KernelTable = {
  name: 'copy_rows',
  code: copyRowsCode,
  slots,
  constants: { WORKGROUP: 64, ROWS: 1 },
};

/** The gather of a whole block by id list. */
export const indexSelect: KernelTable = { ...copyRows, name: 'index_select', code: indexSelectCode };

/** Mask (or values) to a list of ids, one workgroup. */
export const compact: KernelTable = {
  name: 'compact',
  code: compactCode,
  slots: { active: { bits: activeBits, values: activeValues } },
  constants: { WORKGROUP: 64 },
};

/** Values to mask bits. */
export const maskValues: KernelTable = {
  name: 'mask_values',
  code: maskValuesCode,
  slots: { active: { values: activeValues } },
  constants: { WORKGROUP: 64 },
};
