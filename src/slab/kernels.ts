import compactCode from '../../shaders/compact.wgsl';
import copyRowsCode from '../../shaders/copy_rows.wgsl';
import indexSelectCode from '../../shaders/index_select.wgsl';
import activeBits from '../../shaders/lib/active_bits.wgsl';
import activeUnion from '../../shaders/lib/active_union.wgsl';
import activeValues from '../../shaders/lib/active_values.wgsl';
import fields1 from '../../shaders/lib/fields_1.wgsl';
import fields2 from '../../shaders/lib/fields_2.wgsl';
import fields3 from '../../shaders/lib/fields_3.wgsl';
import fieldsConvert from '../../shaders/lib/fields_convert.wgsl';
import fromBf16 from '../../shaders/lib/from_bf16.wgsl';
import fromF16 from '../../shaders/lib/from_f16.wgsl';
import fromF32 from '../../shaders/lib/from_f32.wgsl';
import fromQ4 from '../../shaders/lib/from_q4.wgsl';
import fromQ8 from '../../shaders/lib/from_q8.wgsl';
import poolBuffer from '../../shaders/lib/pool_buffer.wgsl';
import toF16 from '../../shaders/lib/to_f16.wgsl';
import toF32 from '../../shaders/lib/to_f32.wgsl';
import vector1 from '../../shaders/lib/vector_1.wgsl';
import vector2 from '../../shaders/lib/vector_2.wgsl';
import vector4 from '../../shaders/lib/vector_4.wgsl';
import maskValuesCode from '../../shaders/mask_values.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import type { StoredDtype } from '../gpu/layout.js';

const from: Readonly<Record<StoredDtype, string>> = {
  f32: fromF32,
  f16: fromF16,
  bf16: fromBf16,
  q8: fromQ8,
  q4: fromQ4,
};

/** The pool of field k: each field has two bindings, one of its pool and one of its slab. */
export const nthPool = (code: string, k: number): string =>
  code.replaceAll('pool0', `pool${k}`).replace('@binding(3)', `@binding(${3 + 2 * k})`);
const pools = (count: number): string =>
  Array.from({ length: count }, (_, k) => nthPool(poolBuffer, k)).join('');

const slots = {
  /** Of copies that are blind to dtype. */
  vector: { '1': vector1, '2': vector2, '4': vector4 },
  /** How many fields a dispatch copies as they are; or one part of a field, converted. */
  fields: {
    '1': pools(1) + fields1,
    '2': pools(2) + fields2,
    '3': pools(3) + fields3,
    convert: poolBuffer + fieldsConvert,
  },
  /** Of `convert`: what the pool and what the slab stores. */
  from,
  to: { f32: toF32, f16: toF16 },
};

/** The row copy: WORKGROUP lanes along a row, ROWS rows a workgroup. STAGED 1: see staged-kernels. */
export const copyRows: KernelTable = {
  name: 'copy_rows',
  code: copyRowsCode,
  slots,
  constants: { WORKGROUP: 64, ROWS: 1, STAGED: 0 },
};

/** The gather of a whole block by id list. */
export const indexSelect: KernelTable = {
  name: 'index_select',
  code: indexSelectCode,
  slots,
  constants: { WORKGROUP: 64, ROWS: 1 },
};

/** Mask (or values) to a list of ids, one workgroup. */
export const compact: KernelTable = {
  name: 'compact',
  code: compactCode,
  slots: { active: { bits: activeBits, values: activeValues } },
  constants: { WORKGROUP: 64 },
};

/** Values to mask bits; `union`: of a batch, any of whose elements makes a row active. */
export const maskValues: KernelTable = {
  name: 'mask_values',
  code: maskValuesCode,
  slots: { active: { values: activeValues, union: activeUnion } },
  constants: { WORKGROUP: 64 },
};
