import { type BufferGroup, f32Bits } from '../gpu/buffers.js';
import { kernel } from '../gpu/kernel.js';
import { traitsOf } from '../gpu/traits.js';
import { WHOLE_VALUES, type WholeRows, wholeConstants, wholeRows } from '../mlp/fused-mlp.js';
import { biasSlot, type StoredRows } from '../mlp/row-op.js';
import { type Stream, type StreamNorm, StreamOp } from '../mlp/stream.js';
import { attentionChoice, type AttentionVariant, type HeadShape } from './attention-variants.js';
import { attention } from './kernels.js';

export interface FusedAttentionOptions {
  shape: HeadShape;
  /** [(heads + 2 · kvHeads) · headDim, columns] */
  qkv: StoredRows;
  /** f32, 4 values a row. */
  qkvBias?: StoredRows;
  /** [columns, heads · headDim], without biases. */
  output: StoredRows;
  norm: StreamNorm;
  /** Of the first layer, which takes the residual stream from its token's row. */
  embedding?: { rows: StoredRows; tokens: GPUBuffer };
  /** (1, position) */
  step: GPUBuffer;
  /** [position, half a head] of (cos, sin). */
  turns: GPUBuffer;
  /** [position, kvHeads, headDim] f32 */
  keys: GPUBuffer;
  values: GPUBuffer;
  /** Of the residual stream, in values. */
  stride: number;
  /** [kvHeads, stride] */
  out: GPUBuffer;
}

/** Heads that share their keys and values, at most: those of a workgroup. */
const MOST_SHARED = 4;
/** Storage buffers of the kernel, with biases and the embedding's rows. */
const BUFFERS = 10;

/** Whether the first layer's attention can look its token up: in rows of one shard, stored like its own. */
const servesEmbedding = (rows: StoredRows, { dtype, storage, parts }: StoredRows): boolean =>
  rows.shards.length === 1 && rows.dtype === dtype && rows.storage === storage && rows.parts[0] === parts[0];

/**
 * `attention` in the variant `projected`: norm, projections, rope, the write to the cache, attention and the projection of
 * what comes out, of one layer and one token, from residual stream to residual stream. A workgroup has a group of heads.
 */
export class FusedAttention {
  /** Whether it looks the token up. */
  readonly embeds: boolean;
  private readonly op: StreamOp;

  /**
   * Undefined where the kernel does not serve: other adapters, longer rows, several shards, heads that do not share or are
   * no whole quads.
   */
  static make(memory: BufferGroup, options: FusedAttentionOptions): FusedAttention | undefined {
    const { shape, qkv, output, embedding } = options;
    const { heads, kvHeads, headDim } = shape;
    const traits = traitsOf(memory.device);
    const shared = heads / kvHeads;
    const [cols] = qkv.parts;
    const x = wholeRows(traits, qkv.dtype, cols, qkv.storage);
    const out = wholeRows(traits, output.dtype, shared * headDim, output.storage);
    const serves =
      shared <= MOST_SHARED &&
      headDim % 4 === 0 &&
      cols % WHOLE_VALUES === 0 &&
      qkv.dtype === output.dtype &&
      qkv.storage === output.storage &&
      qkv.shards.length === 1 &&
      output.shards.length === 1 &&
      (!embedding || servesEmbedding(embedding.rows, qkv)) &&
      memory.device.limits.maxStorageBuffersPerShaderStage >= BUFFERS;
    return x && out && serves ? new FusedAttention(memory, options, [x, out]) : undefined;
  }

  private constructor(
    memory: BufferGroup,
    options: FusedAttentionOptions,
    [x, out]: readonly [WholeRows, WholeRows],
  ) {
    const { shape, qkv, qkvBias, output, norm, embedding, step, turns, keys, values, stride } = options;
    this.embeds = embedding !== undefined;
    const { heads, kvHeads, headDim } = shape;
    const { device } = memory;
    const traits = traitsOf(device);
    const variant: AttentionVariant = {
      walk: 'subgroup',
      heads: (heads / kvHeads) as AttentionVariant['heads'],
      spans: 1,
      rope: 'fused',
      WORKGROUP: traits.subgroup,
      TILE: 4,
    };
    const choice = attentionChoice(traits, shape, variant);
    const { dtype, quads, x: reads } = x.slots;
    const made = kernel(device, attention, {
      slots: {
        ...choice.slots,
        fresh: 'projected',
        stream: embedding ? 'token' : 'parts',
        finish: 'projected',
        dtype,
        stored_quads: quads,
        x: reads,
        bias: biasSlot(qkvBias),
      },
      constants: {
        ...choice.constants,
        ...wholeConstants(traits, stride),
        qkv_RESIDENT: x.units,
        out_RESIDENT: out.units,
      },
    });
    const scale = f32Bits(1 / Math.sqrt(headDim));
    const group = output.rowBytes / 16 / kvHeads;
    this.op = new StreamOp(memory, {
      kernel: made,
      buffers: {
        params: memory.uniform('attention params', [heads, kvHeads, headDim, 0, 0, scale]),
        projections: memory.uniform('projections', [qkv.rowBytes / 16, output.rowBytes / 16, group]),
        step,
        tokens: embedding?.tokens,
        qkv_weights: qkv.shards[0].memory,
        qkv_bias: qkvBias?.shards[0].memory,
        out_weights: output.shards[0].memory,
        turns,
        keys,
        values,
      },
      norm,
      embedding: embedding?.rows,
      stride,
      out: options.out,
      parts: kvHeads,
    });
  }

  /** @returns the stream after the layer's attention, in `out`. */
  encode(pass: GPUComputePassEncoder, from: Stream): Stream {
    return this.op.encode(pass, from);
  }
}
