import type { BufferGroup } from '../gpu/buffers.js';
import { FusedMlp, runsOf } from '../mlp/fused-mlp.js';
import { type Stream, StreamSum } from '../mlp/stream.js';
import { DevicePool } from '../pool/device-pool.js';
import type { AttentionOptions } from './attention-op.js';
import { FusedAttention, type FusedAttentionOptions } from './fused-attention.js';
import { FusedHead } from './fused-head.js';
import type { LlamaWeights } from './weights.js';

export interface FusedLayersOptions {
  weights: LlamaWeights;
  cache: AttentionOptions['cache'];
  /** [1] */
  tokens: GPUBuffer;
  /** Of each layer's MLP; null for one whose rows are not chosen by a threshold. */
  thresholds: readonly (number | null)[];
  step: GPUBuffer;
  /** The residual stream, and it times the next norm's weight: `[xStride]`. */
  x: GPUBuffer;
  normed: GPUBuffer;
  /** In values. */
  xStride: number;
  /** [vocab] */
  logits: GPUBuffer;
}

interface FusedLayer {
  attention: FusedAttention;
  mlp?: FusedMlp;
}

/**
 * A model for one token, a dispatch for each attention and one for each MLP by its active rows, with the embedding in the
 * first of them, and one for the head. Between them the residual stream stays in the parts that workgroups leave.
 */
export class FusedLayers {
  /** The last norm and the logits, where that is fused. */
  readonly head?: FusedHead;
  private readonly layers: readonly FusedLayer[];
  private readonly sum: StreamSum;

  /** Undefined where a layer's attention cannot be fused: then nothing is. */
  static make(memory: BufferGroup, options: FusedLayersOptions): FusedLayers | undefined {
    const { weights, cache, thresholds, step, tokens, xStride: stride } = options;
    const { config, turns } = weights;
    if (weights.layers.some(({ output }) => output.fields.has('bias'))) return undefined;
    const attended = memory.storage('stream of attention', config.kvHeads * stride * 4);
    const left = memory.storage('stream of MLPs', runsOf(config.intermediateSize) * stride * 4);
    const layers: FusedLayer[] = [];
    for (const [l, layer] of weights.layers.entries()) {
      const { gate, mlp: pool } = layer;
      const norm = { columns: config.hiddenSize, eps: config.rmsNormEps };
      const plain: FusedAttentionOptions = {
        shape: config,
        qkv: layer.qkv.field('weight'),
        qkvBias: layer.qkv.fields.get('bias'),
        output: layer.output.field('weight'),
        norm: { ...norm, weight: layer.inputNorm },
        step,
        turns,
        keys: cache.keys[l],
        values: cache.values[l],
        stride,
        out: attended,
      };
      const embedding = { rows: weights.embedding.field('weight'), tokens };
      const first = l === 0 ? FusedAttention.make(memory, { ...plain, embedding }) : undefined;
      const attention = first ?? FusedAttention.make(memory, plain);
      if (!attention) return undefined;
      const threshold = thresholds[l];
      const biased = gate.fields.has('bias') || pool.fields.has('bias');
      const mlp =
        pool instanceof DevicePool && !biased && threshold !== null
          ? FusedMlp.make(memory, {
              gate: gate.field('weight'),
              up: pool.field('up'),
              down: pool.field('down'),
              downBias: layer.downBias,
              activation: weights.activation,
              threshold,
              norm: { ...norm, weight: layer.mlpNorm },
              stride,
              out: left,
            })
          : undefined;
      layers.push({ attention, mlp });
    }
    return new FusedLayers(memory, options, layers);
  }

  private constructor(memory: BufferGroup, options: FusedLayersOptions, layers: readonly FusedLayer[]) {
    const { step, x, normed, xStride, weights, logits: out } = options;
    const { hiddenSize: columns, rmsNormEps: eps } = weights.config;
    const zeros = memory.storage('no bias', columns * 4);
    this.layers = layers;
    const norm = { weight: weights.finalNorm, columns, eps };
    this.head = FusedHead.make(memory, { rows: weights.head.field('weight'), norm, stride: xStride, out });
    this.sum = new StreamSum(memory, { step, zeros, out: x, scaled: normed, columns, stride: xStride });
  }

  /** Whether the first layer's attention looks the token up. */
  get embeds(): boolean {
    return this.layers[0].attention.embeds;
  }

  encodeAttention(pass: GPUComputePassEncoder, l: number, from: Stream): Stream {
    return this.layers[l].attention.encode(pass, from);
  }

  /** Layer l's MLP by its active rows, where that is fused. */
  mlp(l: number): FusedMlp | undefined {
    return this.layers[l].mlp;
  }

  /** Leaves the stream, and it times the next norm's weight, for ops that are not fused. */
  encodeSum(pass: GPUComputePassEncoder, from: Stream, weight: GPUBuffer): void {
    this.sum.encode(pass, from, weight);
  }
}
