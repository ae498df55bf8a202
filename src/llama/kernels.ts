import attentionCode from '../../shaders/attention.wgsl';
import embedCode from '../../shaders/embed.wgsl';
import rowParams from '../../shaders/lib/row_params.wgsl';
import rmsNormCode from '../../shaders/rms_norm.wgsl';
import ropeCode from '../../shaders/rope.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import { weights } from '../mlp/kernels.js';

export const embed: KernelTable = {
  name: 'embed',
  code: embedCode,
  slots: { params: { row: rowParams }, weights },
  constants: { WORKGROUP: 64 },
};

export const rmsNorm: KernelTable = {
  name: 'rms_norm',
  code: rmsNormCode,
  slots: {},
  constants: { WORKGROUP: 64 },
};

export const rope: KernelTable = { name: 'rope', code: ropeCode, slots: {}, constants: { WORKGROUP: 64 } };

export const attention: KernelTable = {
  name: 'attention',
  code: attentionCode,
  slots: {},
  // A lane owns DIMS_PER_LANE dimensions of a head: ceil(head dim / WORKGROUP).
  constants: { WORKGROUP: 64, DIMS_PER_LANE: 1 },
};
