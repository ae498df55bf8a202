import { type BufferGroup, f32Bits, roundUp } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel, type KernelTable, type Variant } from '../gpu/kernel.js';
import { activationStride } from '../gpu/layout.js';
import { Scratch } from '../gpu/scratch.js';
import { BATCH_TILE } from '../mlp/kernels.js';
import { RowOp } from '../mlp/row-op.js';
import { type LayerRun, type LayerScratch, ThresholdLayer } from '../mlp/threshold-layer.js';
import type { Slab } from '../slab/slab.js';
import { attention, attentionConstants, embed, headQuads, rmsNorm, rope } from './kernels.js';
import type { LayerWeights, LlamaWeights } from './weights.js';

/** Keys and values of every layer: [context, kv heads, head dim padded to a multiple of 4] f32 each. */
export interface Cache {
  keys: GPUBuffer[];
  values: GPUBuffer[];
}

/** A kernel whose grid follows the batch. */
interface SmallOp {
  kernel: Kernel;
  group: GPUBindGroup;
  grid: (batch: number) => [number, number, number];
}

interface LayerOps {
  norm: SmallOp;
  qkv: RowOp;
  /** Batched graphs only: attention of a single token turns it itself. */
  rope?: SmallOp;
  attention: SmallOp;
  output: RowOp;
  mlpNorm: SmallOp;
  mlp: ThresholdLayer;
}

/**
 * The ops of a model for up to `maxBatch` tokens at a time, over one set of activation buffers. It only records; which
 * pieces, in what order and in which submits is the session's business.
 */
export class LlamaGraph {
  readonly maxBatch: number;
  /** [maxBatch] token ids. */
  readonly tokens: GPUBuffer;
  /** (batch, position of the first token). */
  readonly step: GPUBuffer;
  /** [maxBatch, xStride]: what the next matrix reads, after its norm. */
  readonly normed: GPUBuffer;
  readonly xStride: number;
  /** [maxBatch, gateStride] act(gate) of the layer encoded last. */
  readonly gate: GPUBuffer;
  readonly gateStride: number;
  readonly layers: readonly LayerOps[];
  private readonly weights: LlamaWeights;
  private readonly memory: BufferGroup;
  private readonly embeds: SmallOp[];
  private readonly norm: SmallOp;
  private readonly head: RowOp;
  private readonly x: GPUBuffer;
  private readonly qkv: GPUBuffer;
  private readonly mixed: GPUBuffer;
  private logitsBuffer?: GPUBuffer;
  private readonly logitRows: number;

  constructor(
    memory: BufferGroup,
    weights: LlamaWeights,
    cache: Cache,
    options: { maxBatch: number; thresholds: readonly number[]; slabs: readonly (Slab | undefined)[] },
  ) {
    const { config } = weights;
    const { maxBatch } = options;
    const batched = maxBatch > 1;
    const rows = batched ? roundUp(maxBatch, BATCH_TILE) : 1;
    const heads = config.heads + 2 * config.kvHeads;
    const qkvStride = roundUp(heads * config.headDim, 8);
    const mixedStride = activationStride(config.heads * config.headDim);
    this.memory = memory;
    this.weights = weights;
    this.maxBatch = maxBatch;
    this.logitRows = rows;
    this.xStride = activationStride(config.hiddenSize);
    this.gateStride = roundUp(config.intermediateSize, 4);
    this.tokens = memory.storage('tokens', rows * 4);
    this.step = memory.uniform('step', [1, 0, 0, 0]);
    this.x = memory.storage('residual', rows * this.xStride * 4);
    this.normed = memory.storage('normed', rows * this.xStride * 4);
    this.qkv = memory.storage('qkv', rows * qkvStride * 4);
    this.mixed = memory.storage('attention out', rows * mixedStride * 4);
    this.gate = memory.storage('gate', rows * this.gateStride * 4);
    const scratch: LayerScratch = {
      gate: this.gate,
      a: memory.storage('gate · up', rows * this.gateStride * 4),
      partials: new Scratch(memory, 'down partials'),
      gateStride: this.gateStride,
      xStride: this.xStride,
      hidden: config.hiddenSize,
      maxBatch,
    };
    this.embeds = this.makeEmbeds();
    const linear = { mode: 'dense', batched } as const;
    const ropeParams = memory.uniform('rope params', [
      config.heads,
      config.kvHeads,
      config.headDim / 2,
      qkvStride,
      headQuads(config.headDim) * 4,
    ]);
    const attentionParams = memory.uniform('attention params', [
      config.heads,
      config.kvHeads,
      config.headDim,
      qkvStride,
      mixedStride,
      f32Bits(1 / Math.sqrt(config.headDim)),
    ]);
    const headShape = {
      slots: { fresh: batched ? 'cached' : 'turned' },
      constants: attentionConstants(config.headDim),
    };
    this.layers = weights.layers.map((layer: LayerWeights, l) => {
      const { step, qkv } = this;
      const { turns } = weights;
      const keys = cache.keys[l];
      const values = cache.values[l];
      const turned = { params: ropeParams, step, turns, qkv, keys, values };
      const attended = { params: attentionParams, step, q: qkv, keys, values, turns, out: this.mixed };
      return {
        norm: this.makeNorm(layer.inputNorm),
        qkv: new RowOp(memory, {
          ...linear,
          rows: layer.qkv.field('weight'),
          bias: layer.qkv.fields.get('bias'),
          xStride: this.xStride,
          outStride: qkvStride,
        }),
        rope: batched
          ? this.small(rope, turned, (batch) => [Math.ceil((heads * config.headDim) / 2 / 64), batch, 1])
          : undefined,
        attention: this.small(attention, attended, (batch) => [config.heads, batch, 1], headShape),
        output: new RowOp(memory, {
          ...linear,
          rows: layer.output.field('weight'),
          bias: layer.output.fields.get('bias'),
          put: 'add',
          xStride: mixedStride,
          outStride: this.xStride,
        }),
        mlpNorm: this.makeNorm(layer.mlpNorm),
        mlp: new ThresholdLayer(
          memory,
          {
            gate: layer.gate,
            pool: layer.mlp,
            downBias: layer.downBias,
            activation: weights.activation,
            threshold: options.thresholds[l],
            slab: options.slabs[l],
          },
          scratch,
        ),
      };
    });
    this.norm = this.makeNorm(weights.finalNorm);
    this.head = new RowOp(memory, {
      ...linear,
      rows: weights.head.field('weight'),
      xStride: this.xStride,
      outStride: config.vocabSize,
    });
  }

  /** [maxBatch, vocab] f32; made when first asked for. */
  get logits(): GPUBuffer {
    this.logitsBuffer ??= this.memory.storage('logits', this.logitRows * this.weights.config.vocabSize * 4);
    return this.logitsBuffer;
  }

  /** Sets what the next submits work on: token ids and the position of the first. */
  setTokens(ids: ArrayLike<number>, position: number): void {
    const { queue } = this.memory.device;
    queue.writeBuffer(this.tokens, 0, Uint32Array.from(ids));
    queue.writeBuffer(this.step, 0, Uint32Array.of(ids.length, position));
  }

  encodeEmbed(pass: GPUComputePassEncoder, batch: number): void {
    for (const op of this.embeds) run(pass, op, batch);
  }

  /** Norm, attention and residual of a layer, then the norm before its MLP. */
  encodeAttention(pass: GPUComputePassEncoder, l: number, batch: number): void {
    const ops = this.layers[l];
    const { step, normed: x, qkv, mixed } = this;
    const { config } = this.weights;
    run(pass, ops.norm, batch);
    ops.qkv.encode(pass, {
      step,
      x,
      out: qkv,
      count: (config.heads + 2 * config.kvHeads) * config.headDim,
      batch,
    });
    if (ops.rope) run(pass, ops.rope, batch);
    run(pass, ops.attention, batch);
    ops.output.encode(pass, { step, x: mixed, out: this.x, count: config.hiddenSize, batch });
    run(pass, ops.mlpNorm, batch);
  }

  /** What a layer's MLP runs on. */
  layerRun(batch: number): LayerRun {
    return { step: this.step, x: this.normed, y: this.x, batch };
  }

  encodeFinalNorm(pass: GPUComputePassEncoder, batch: number): void {
    run(pass, this.norm, batch);
  }

  /** logits = head · normed. */
  encodeHead(pass: GPUComputePassEncoder, batch: number): void {
    const { step, normed: x, logits: out } = this;
    this.head.encode(pass, { step, x, out, count: this.weights.config.vocabSize, batch });
  }

  private makeEmbeds(): SmallOp[] {
    const field = this.weights.embedding.field('weight');
    const vectors = field.rowBytes / 16;
    return field.shards.map((shard) => {
      const params = [shard.rows, shard.base, vectors, vectors, this.xStride / 4, 0, 0, 0, 0];
      const buffers = {
        params: this.memory.uniform('embed params', params),
        step: this.step,
        weights: shard.buffer,
        tokens: this.tokens,
        x: this.x,
      };
      const grid = (batch: number): [number, number, number] => [Math.ceil(vectors / 64), batch, 1];
      return this.small(embed, buffers, grid, { slots: { weights: field.dtype } });
    });
  }

  private makeNorm(weight: GPUBuffer): SmallOp {
    const { hiddenSize, rmsNormEps } = this.weights.config;
    const params = this.memory.uniform('norm params', [hiddenSize, this.xStride, f32Bits(rmsNormEps)]);
    return this.small(rmsNorm, { params, x: this.x, weight, out: this.normed }, (batch) => [batch, 1, 1]);
  }

  private small(
    table: KernelTable,
    buffers: Record<string, GPUBuffer>,
    grid: SmallOp['grid'],
    variant: Variant = {},
  ): SmallOp {
    const made = kernel(this.memory.device, table, variant);
    return { kernel: made, group: made.bind(buffers), grid };
  }
}

function run(pass: GPUComputePassEncoder, op: SmallOp, batch: number): void {
  encodeDispatch(pass, { kernel: op.kernel, group: op.group, grid: op.grid(batch) });
}
