import attentionCode from '../../shaders/attention.wgsl';
import embedCode from '../../shaders/embed.wgsl';
import freshCached from '../../shaders/lib/fresh_cached.wgsl';
import freshTurned from '../../shaders/lib/fresh_turned.wgsl';
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
  slots: { fresh: { cached: freshCached, turned: freshTurned } },
  constants: { WORKGROUP: 64, QUADS: 16, LANES: 16 },
};

/** A cached head is padded to whole quads of four values. */
export const headQuads = (headDim: number): number => Math.ceil(headDim / 4);

/** The constants of `attention` for a head: lanes side by side on its quads, a power of two. */
export function attentionConstants(headDim: number, workgroup = 64): Record<string, number> {
  const QUADS = headQuads(headDim);
  return { WORKGROUP: workgroup, QUADS, LANES: Math.min(workgroup, 2 ** Math.ceil(Math.log2(QUADS))) };
}
