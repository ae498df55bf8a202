import attentionCode from '../../shaders/attention.wgsl';
import attentionMergeCode from '../../shaders/attention_merge.wgsl';
import embedCode from '../../shaders/embed.wgsl';
import attendSubgroup from '../../shaders/lib/attend_subgroup.wgsl';
import attendTiles from '../../shaders/lib/attend_tiles.wgsl';
import finishHead from '../../shaders/lib/finish_head.wgsl';
import finishSpan from '../../shaders/lib/finish_span.wgsl';
import finishProjected from '../../shaders/lib/finish_projected.wgsl';
import freshCached from '../../shaders/lib/fresh_cached.wgsl';
import freshProjected from '../../shaders/lib/fresh_projected.wgsl';
import freshTurned from '../../shaders/lib/fresh_turned.wgsl';
import heads1 from '../../shaders/lib/heads_1.wgsl';
import heads2 from '../../shaders/lib/heads_2.wgsl';
import heads3 from '../../shaders/lib/heads_3.wgsl';
import heads4 from '../../shaders/lib/heads_4.wgsl';
import lane from '../../shaders/lib/lane.wgsl';
import lane1 from '../../shaders/lib/lane_1.wgsl';
import lane2 from '../../shaders/lib/lane_2.wgsl';
import lane4 from '../../shaders/lib/lane_4.wgsl';
import lane8 from '../../shaders/lib/lane_8.wgsl';
import stream from '../../shaders/lib/stream.wgsl';
import streamToken from '../../shaders/lib/stream_token.wgsl';
import nextNone from '../../shaders/lib/next_none.wgsl';
import nextScaled from '../../shaders/lib/next_scaled.wgsl';
import rowParams from '../../shaders/lib/row_params.wgsl';
import turned from '../../shaders/lib/turned.wgsl';
import logitsCode from '../../shaders/logits.wgsl';
import nextTokenCode from '../../shaders/next_token.wgsl';
import rmsNormCode from '../../shaders/rms_norm.wgsl';
import ropeCode from '../../shaders/rope.wgsl';
import sampleTokenCode from '../../shaders/sample_token.wgsl';
import type { KernelTable } from '../gpu/kernel.js';
import type { Traits } from '../gpu/traits.js';
import { dtype, quads, shared } from '../mlp/kernels.js';
import { whole, wholeDefaults, work } from '../mlp/threshold-kernels.js';

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

/** `linear` of all rows, from the residual stream on. */
export const logits: KernelTable = {
  name: 'logits',
  code: logitsCode,
  slots: { ...whole, work, params: { row: rowParams }, quads },
  constants: { ...wholeDefaults, RESIDENT: 1, ROWS: 1 },
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
  slots: {
    fresh: { cached: freshCached, turned: freshTurned + turned, projected: freshProjected + turned },
    quads,
    lane: { '1': lane + lane1, '2': lane + lane2, '4': lane + lane4, '8': lane + lane8 },
    heads: { '1': heads1, '2': heads2, '3': heads3, '4': heads4 },
    walk: { tiles: attendTiles, subgroup: attendSubgroup },
    finish: { head: finishHead, span: finishSpan, projected: finishProjected },
    ...whole,
    stream: { ...whole.stream, token: streamToken + stream },
    // Of the projections, where a lane's quads of a head are others.
    stored_quads: quads,
    bias: shared.bias,
  },
  constants: {
    ...wholeDefaults,
    WORKGROUP: 64,
    TILE: 64,
    HEAD_QUADS: 16,
    LANES: 16,
    qkv_RESIDENT: 1,
    out_RESIDENT: 1,
  },
};

/** The second pass of `attention` over several spans of the cache. */
export const attentionMerge: KernelTable = {
  name: 'attention_merge',
  code: attentionMergeCode,
  slots: {},
  constants: { WORKGROUP: 64 },
};

/** A cached head is padded to whole quads of four values. */
export const headQuads = (headDim: number): number => Math.ceil(headDim / 4);
