import activeAdded from '../../shaders/lib/active_added.wgsl';
import activeBits from '../../shaders/lib/active_bits.wgsl';
import activeRemoved from '../../shaders/lib/active_removed.wgsl';
import activeValues from '../../shaders/lib/active_values.wgsl';
import emitArrivals from '../../shaders/lib/emit_arrivals.wgsl';
import emitMoves from '../../shaders/lib/emit_moves.wgsl';
import ruleSigma from '../../shaders/lib/rule_sigma.wgsl';
import ruleThreshold from '../../shaders/lib/rule_threshold.wgsl';
import ruleTop from '../../shaders/lib/rule_top.wgsl';
import planMovesCode from '../../shaders/plan_moves.wgsl';
import selectRowsCode from '../../shaders/select_rows.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import type { Traits } from '../gpu/traits.js';
import { compact } from './kernels.js';

/** Scores to mask bits, by a rule. One workgroup. */
export const selectRows: KernelTable = {
  name: 'select_rows',
  code: selectRowsCode,
  slots: { rule: { threshold: ruleThreshold, sigma: ruleSigma, top: ruleTop } },
  constants: { WORKGROUP: 256, ABSOLUTE: 0 },
};

/** Two masks to the list of rows that were added, or removed: `compact`, on their difference. One workgroup. */
export const maskDiff: KernelTable = {
  ...compact,
  name: 'mask_diff',
  slots: { active: { added: activeAdded, removed: activeRemoved } },
};

/** A mask (or values that are not zero) and the rows in a slab, to the moves of the tight plan. One workgroup. */
export const planMoves: KernelTable = {
  name: 'plan_moves',
  code: planMovesCode,
  slots: {
    active: { bits: activeBits, values: activeValues },
    /** For the row copy, or for kernels that bring in the rows themselves. */
    emit: { moves: emitMoves, arrivals: emitArrivals },
  },
  constants: { WORKGROUP: 128 },
};

/** Lanes of these kernels: on a software adapter a barrier costs most where a workgroup has several subgroups. */
export const groupLanes = ({ software, subgroup }: Traits, most: number): Record<string, number> => ({
  WORKGROUP: software ? Math.max(4, subgroup) : most,
});
