import attentionCode from '../../shaders/attention.wgsl';
import embedCode from '../../shaders/embed.wgsl';
import freshCached from '../../shaders/lib/fresh_cached.wgsl';
import freshTurned from '../../shaders/lib/fresh_turned.wgsl';
import nextNone from '../../shaders/lib/next_none.wgsl';
import nextScaled from '../../shaders/lib/next_scaled.wgsl';
import rowParams from '../../shaders/lib/row_params.wgsl';
import nextTokenCode from '../../shaders/next_token.wgsl';
import rmsNormCode from '../../shaders/rms_norm.wgsl';
import ropeCode from '../../shaders/rope.wgsl';
import sampleTokenCode from '../../shaders/sample_token.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import type { Traits } from '../gpu/traits.js';
import { dtype, quads } from '../mlp/kernels.js';

export const embed: KernelTable = {
  name: 'embed',
  code: embedCode,
  slots: { params: { row: rowParams }, quads, dtype, next: { none: nextNone, scaled: nextScaled } },
  constants: { WORKGROUP: 64 },
};

export const rmsNorm: KernelTable = {
  name: 'rms_norm',
  code: rmsNormCode,
  slots: {},
  constants: { WORKGROUP: 64 },
};

export const nextToken: KernelTable = {
  name: 'next_token',
  code: nextTokenCode,
  slots: {},
  constants: { WORKGROUP: 256 },
};

/** What `next_token` gives where there is no likeliest token. */
export const NO_TOKEN = 0xffffffff;

/** One workgroup reads all logits: as wide as WebGPU promises, but on a software adapter, where barriers cost most. */
export const nextTokenConstants = ({ software, subgroup }: Traits): Record<string, number> => ({
  WORKGROUP: software ? Math.max(4, subgroup) : 256,
});

export const sampleToken: KernelTable = {
  name: 'sample_token',
  code: sampleTokenCode,
  slots: {},
  constants: { WORKGROUP: 128 },
};

/** As of `next_token`; on other adapters each lane adds up what all lanes found, so there are fewer. */
export const sampleTokenConstants = ({ software, subgroup }: Traits): Record<string, number> => ({
  WORKGROUP: software ? Math.max(4, subgroup) : 128,
});

export const rope: KernelTable = { name: 'rope', code: ropeCode, slots: {}, constants: { WORKGROUP: 64 } };

export const attention: KernelTable = {
  name: 'attention',
  code: attentionCode,
  slots: { fresh: { cached: freshCached, turned: freshTurned } },
  constants: { WORKGROUP: 64, TILE: 64, QUADS: 16, LANES: 16 },
};

/** A cached head is padded to whole quads of four values. */
export const headQuads = (headDim: number): number => Math.ceil(headDim / 4);

/** How attention is cut up: lanes of a workgroup, and cached positions between two of its barriers. */
export interface AttentionVariant {
  readonly WORKGROUP: number;
  readonly TILE: number;
}

/**
 * The variants of attention that can run on a device; the first is the default. A barrier costs a software adapter
 * about a microsecond for each of its subgroups: there a workgroup is small and a tile large.
 */
export function attentionVariants(traits: Traits): AttentionVariant[] {
  return traits.software
    ? [8, 16, 32].map((WORKGROUP) => ({ WORKGROUP, TILE: 256 }))
    : [64, 128, 32].map((WORKGROUP) => ({ WORKGROUP, TILE: 2 * WORKGROUP }));
}

/** The constants of `attention` for a head: lanes side by side on its quads, a power of two. */
export function attentionConstants(
  headDim: number,
  { WORKGROUP, TILE }: AttentionVariant,
): Record<string, number> {
  const QUADS = headQuads(headDim);
  return { WORKGROUP, TILE, QUADS, LANES: Math.min(WORKGROUP, 2 ** Math.ceil(Math.log2(QUADS))) };
}
