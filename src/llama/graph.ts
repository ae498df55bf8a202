import { type BufferGroup, f32Bits, roundUp, Usage } from '../gpu/buffers.js';
import {
  type Bindable,
  encodeDispatch,
  type Kernel,
  kernel,
  type KernelTable,
  type Variant,
} from '../gpu/kernel.js';
import { activationStride, partVectors, valueVectors } from '../gpu/layout.js';
import { Scratch } from '../gpu/scratch.js';
import { traitsOf } from '../gpu/traits.js';
import type { Compute } from '../mlp/compute.js';
import { modelLinear } from '../mlp/model-kernels.js';
import { type FusedNorm, type NextNorm, RowOp } from '../mlp/row-op.js';
import { type LayerRun, type LayerScratch, ThresholdLayer } from '../mlp/threshold-layer.js';
import type { Stream } from '../mlp/stream.js';
import { BATCH_TILE, unitsOf } from '../mlp/variants.js';
import { DevicePool } from '../pool/device-pool.js';
import type { Slab } from '../slab/slab.js';
import { AttentionOp } from './attention-op.js';
import { FusedLayers } from './fused-layers.js';
import { embed, nextToken, nextTokenConstants, rmsNorm } from './kernels.js';
import type { RowChooser } from './row-choice.js';
import { type Draws, TokenDrawer } from './token-drawer.js';
import type { LayerWeights, LlamaWeights } from './weights.js';

/** Keys and values of every layer: [context, kv heads, head dim padded to a multiple of 4] f32 each. */
export interface Cache {
  keys: GPUBuffer[];
  values: GPUBuffer[];
}

/** Tokens that may be made one after the other before they are read back. */
export const MOST_TOKENS = 16;

/** A kernel whose grid follows the batch. */
interface SmallOp {
  kernel: Kernel;
  group: GPUBindGroup;
  grid: (batch: number) => [number, number, number];
}

/** Batched graphs have norms of their own; for a single token their neighbours do them on the way. */
interface LayerOps {
  norm?: SmallOp;
  /** Where attention is not fused. */
  projections?: { qkv: RowOp; output: RowOp };
  mlpNorm?: SmallOp;
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
  /** (batch, position of the first token, tokens that `encodeNextToken` made since `setTokens`). */
  readonly step: GPUBuffer;
  /**
   * `[maxBatch, xStride]`: what the next matrix reads. Batched: after its norm. A single token: times the norm's weight
   * only, and the matrix's kernel divides by the residual stream's root mean square.
   */
  readonly normed: GPUBuffer;
  readonly xStride: number;
  /** [maxBatch, gateStride] act(gate) of the layer encoded last. */
  readonly gate: GPUBuffer;
  readonly gateStride: number;
  readonly layers: readonly LayerOps[];
  private readonly attention: AttentionOp;
  /** A single token, where dispatches cost more than short rows. */
  private readonly fused?: FusedLayers;
  /** Where the residual stream is, as it is recorded. */
  private stream: Stream;
  /** Of the token that is recorded next, or of the first of a batch. */
  private position = 0;
  /** What the layers' MLPs share. */
  readonly scratch: LayerScratch;
  readonly compute: Compute;
  private readonly weights: LlamaWeights;
  private readonly memory: BufferGroup;
  /** One a shard; none where the first layer does it. */
  private readonly embeds: SmallOp[];
  private readonly norm?: SmallOp;
  /** Where it is not fused. */
  private readonly head?: RowOp;
  private normedHead?: RowOp;
  private readonly x: GPUBuffer;
  private readonly qkv: GPUBuffer;
  private readonly mixed: GPUBuffer;
  private logitsBuffer?: GPUBuffer;
  private madeBuffer?: GPUBuffer;
  private follower?: SmallOp;
  private drawerMade?: TokenDrawer;
  private readonly logitRows: number;

  constructor(
    memory: BufferGroup,
    weights: LlamaWeights,
    cache: Cache,
    options: {
      maxBatch: number;
      thresholds: readonly number[];
      slabs: readonly (Slab | undefined)[];
      /** Of all matrices but down. */
      compute: Compute;
      /** A single token: what chooses each layer's rows, where it is not a threshold. */
      choosers?: readonly RowChooser[];
    },
  ) {
    const { config } = weights;
    const { maxBatch, compute } = options;
    const batched = maxBatch > 1;
    const rows = batched ? roundUp(maxBatch, BATCH_TILE) : 1;
    const heads = config.heads + 2 * config.kvHeads;
    const qkvStride = roundUp(heads * config.headDim, 8);
    const mixedStride = activationStride(config.heads * config.headDim);
    this.memory = memory;
    this.weights = weights;
    this.maxBatch = maxBatch;
    this.compute = compute;
    this.logitRows = rows;
    this.xStride = activationStride(config.hiddenSize);
    this.gateStride = roundUp(config.intermediateSize, 4);
    this.tokens = memory.storage('tokens', rows * 4);
    // A single token's is moved on by next_token as well.
    this.step = memory.create('step', 16, Usage.UNIFORM | Usage.STORAGE | Usage.COPY_DST);
    this.x = memory.storage('residual', rows * this.xStride * 4);
    this.normed = memory.storage('normed', rows * this.xStride * 4);
    this.qkv = memory.storage('qkv', rows * qkvStride * 4);
    this.mixed = memory.storage('attention out', rows * mixedStride * 4);
    this.gate = memory.storage('gate', rows * this.gateStride * 4);
    const norm: FusedNorm | undefined = batched
      ? undefined
      : { residual: this.x, columns: config.hiddenSize, eps: config.rmsNormEps };
    const scratch: LayerScratch = {
      x: this.normed,
      norm,
      gate: this.gate,
      a: memory.storage('gate · up', rows * this.gateStride * 4),
      partials: new Scratch(memory, 'down partials'),
      gateStride: this.gateStride,
      xStride: this.xStride,
      hidden: config.hiddenSize,
      maxBatch,
    };
    this.scratch = scratch;
    const linear = { table: modelLinear, mode: 'dense', batched, compute } as const;
    this.attention = new AttentionOp(memory, {
      shape: config,
      maxBatch,
      step: this.step,
      qkv: this.qkv,
      qkvStride,
      turns: weights.turns,
      cache,
      out: this.mixed,
      outStride: mixedStride,
    });
    this.stream = { buffer: this.x, count: 1 };
    if (!batched && compute === 'f32') {
      const { tokens, step, x, normed, xStride, logits } = this;
      const thresholds = options.thresholds.map((threshold, l) => (options.choosers?.[l] ? null : threshold));
      this.fused = FusedLayers.make(memory, {
        weights,
        cache,
        thresholds,
        tokens,
        step,
        x,
        normed,
        xStride,
        logits,
      });
    }
    this.embeds = this.fused?.embeds ? [] : this.makeEmbeds(this.next(weights.layers[0].inputNorm));
    this.layers = weights.layers.map((layer: LayerWeights, l) => {
      return {
        norm: batched ? this.makeNorm(layer.inputNorm) : undefined,
        projections: this.fused
          ? undefined
          : {
              qkv: new RowOp(memory, {
                ...linear,
                norm,
                rows: layer.qkv.field('weight'),
                bias: layer.qkv.fields.get('bias'),
                xStride: this.xStride,
                outStride: qkvStride,
              }),
              output: new RowOp(memory, {
                ...linear,
                rows: layer.output.field('weight'),
                bias: layer.output.fields.get('bias'),
                put: batched ? 'add' : 'residual',
                next: this.next(layer.mlpNorm),
                xStride: mixedStride,
                outStride: this.xStride,
              }),
            },
        mlpNorm: batched ? this.makeNorm(layer.mlpNorm) : undefined,
        mlp: new ThresholdLayer(
          memory,
          {
            gate: layer.gate,
            pool: layer.mlp instanceof DevicePool ? layer.mlp : undefined,
            downBias: layer.downBias,
            activation: weights.activation,
            compute,
            threshold: options.thresholds[l],
            slab: options.slabs[l],
            next: this.nextNorm(l),
            ...(batched ? {} : options.choosers?.[l]),
          },
          scratch,
        ),
      };
    });
    this.norm = batched ? this.makeNorm(weights.finalNorm) : undefined;
    this.head = this.fused?.head ? undefined : this.makeHead(norm);
  }

  /** Values of a row of logits. */
  get vocab(): number {
    return this.weights.config.vocabSize;
  }

  /** [maxBatch, vocab] f32; made when first asked for. */
  get logits(): GPUBuffer {
    this.logitsBuffer ??= this.memory.storage('logits', this.logitRows * this.weights.config.vocabSize * 4);
    return this.logitsBuffer;
  }

  /** Tokens that `encodeNextToken` made since `setTokens`, in order. */
  get made(): GPUBuffer {
    this.madeBuffer ??= this.memory.storage('made tokens', MOST_TOKENS * 4);
    return this.madeBuffer;
  }

  /** A single token: what the MLP of layer l does of the norm after it. */
  nextNorm(l: number): NextNorm | undefined {
    const { layers, finalNorm } = this.weights;
    return this.next(layers[l + 1]?.inputNorm ?? finalNorm);
  }

  /** Sets what the next submits work on: token ids and the position of the first. */
  setTokens(ids: ArrayLike<number>, position: number): void {
    const { queue } = this.memory.device;
    this.position = position;
    queue.writeBuffer(this.tokens, 0, Uint32Array.from(ids));
    queue.writeBuffer(this.step, 0, Uint32Array.of(ids.length, position, 0));
  }

  encodeEmbed(pass: GPUComputePassEncoder, batch: number): void {
    for (const op of this.embeds) run(pass, op, batch);
    this.stream = { buffer: this.x, count: 1 };
  }

  /** Norm, attention and residual of a layer, then the norm before its MLP. */
  encodeAttention(pass: GPUComputePassEncoder, l: number, batch: number): void {
    if (this.fused) {
      this.stream = this.fused.encodeAttention(pass, l, this.stream);
      this.putTogether(pass, this.weights.layers[l].mlpNorm);
      return;
    }
    const { norm, projections, mlpNorm } = this.layers[l];
    const { step, normed: x, qkv, mixed } = this;
    const { config } = this.weights;
    if (norm) run(pass, norm, batch);
    projections?.qkv.encode(pass, {
      step,
      x,
      out: qkv,
      count: (config.heads + 2 * config.kvHeads) * config.headDim,
      batch,
    });
    this.attention.encode(pass, l, batch, this.position + batch);
    projections?.output.encode(pass, { step, x: mixed, out: this.x, count: config.hiddenSize, batch });
    if (mlpNorm) run(pass, mlpNorm, batch);
  }

  /** Layer l by the rows that its gate leaves: its attention, and its MLP without waiting for the CPU. */
  encodeActive(pass: GPUComputePassEncoder, l: number, batch: number): void {
    const mlp = this.fused?.mlp(l);
    if (this.fused && mlp) {
      this.stream = mlp.encode(pass, this.fused.encodeAttention(pass, l, this.stream));
      return;
    }
    this.encodeAttention(pass, l, batch);
    this.layers[l].mlp.encodeActive(pass, this.layerRun(batch));
  }

  /** Where the last `encodeActive` of layer l left how many rows were active, and predicted where they are. */
  activeCounts(l: number): { buffer: GPUBuffer; at: number; words: number }[] {
    const fused = this.fused?.mlp(l);
    if (fused) return [{ at: 0, ...fused.counts }];
    const { counts, predicted } = this.layers[l].mlp;
    return [{ at: 0, ...counts }, ...(predicted ? [predicted] : [])];
  }

  /** The residual stream as ops read it that are not fused. */
  private putTogether(pass: GPUComputePassEncoder, norm: GPUBuffer): void {
    if (this.stream.buffer === this.x) return;
    this.fused?.encodeSum(pass, this.stream, norm);
    this.stream = { buffer: this.x, count: 1 };
  }

  /** What a layer's MLP runs on. */
  layerRun(batch: number): LayerRun {
    return { step: this.step, x: this.normed, y: this.x, batch };
  }

  /** Batched: the last norm. A single token: the head does it. */
  encodeFinalNorm(pass: GPUComputePassEncoder, batch: number): void {
    if (this.norm) run(pass, this.norm, batch);
    if (!this.fused?.head) this.putTogether(pass, this.weights.finalNorm);
  }

  /** logits = head · x, of what the layers left. */
  encodeHead(pass: GPUComputePassEncoder, batch: number): void {
    if (this.head) this.runHead(pass, this.head, batch);
    else this.fused?.head?.encode(pass, this.stream);
  }

  /** logits = head · normed, for a `normed` that a batched graph left: the last token of a prompt. */
  encodeHeadOfNormed(pass: GPUComputePassEncoder): void {
    this.normedHead ??= this.makeHead();
    this.runHead(pass, this.normedHead, 1);
  }

  /** How the tokens are drawn that `encodeNextToken` makes `drawn`, from what is submitted next on. */
  setDraws(draws: Draws): void {
    this.drawer.set(draws);
  }

  /**
   * A token by `logits` becomes the next step's, and is noted in `made`: the likeliest, or one `drawn` as `setDraws` said.
   * A single token only.
   */
  encodeNextToken(pass: GPUComputePassEncoder, drawn = false): void {
    this.position++;
    if (drawn) {
      this.drawer.encode(pass);
      return;
    }
    this.follower ??= this.small(
      nextToken,
      {
        params: this.memory.uniform('next_token params', [this.weights.config.vocabSize]),
        next: this.step,
        logits: this.logits,
        tokens: this.tokens,
        made: this.made,
      },
      () => [1, 1, 1],
      { constants: nextTokenConstants(traitsOf(this.memory.device)) },
    );
    run(pass, this.follower, 1);
  }

  private get drawer(): TokenDrawer {
    const { step: next, logits, tokens, made } = this;
    this.drawerMade ??= new TokenDrawer(this.memory, this.vocab, MOST_TOKENS, { next, logits, tokens, made });
    return this.drawerMade;
  }

  private next(weight: GPUBuffer): NextNorm | undefined {
    return this.maxBatch > 1 ? undefined : { scaled: this.normed, weight };
  }

  private runHead(pass: GPUComputePassEncoder, head: RowOp, batch: number): void {
    const { step, normed: x, logits: out } = this;
    head.encode(pass, { step, x, out, count: this.weights.config.vocabSize, batch });
  }

  private makeHead(norm?: FusedNorm): RowOp {
    return new RowOp(this.memory, {
      table: modelLinear,
      mode: 'dense',
      compute: this.compute,
      batched: this.maxBatch > 1,
      norm,
      rows: this.weights.head.field('weight'),
      xStride: this.xStride,
      outStride: this.weights.config.vocabSize,
    });
  }

  private makeEmbeds(next?: NextNorm): SmallOp[] {
    const field = this.weights.embedding.field('weight');
    const [cols] = field.parts;
    const values = valueVectors(cols, field.dtype);
    const stored = unitsOf(field.dtype, 'vector', cols, 'f32', field.storage).slots;
    const part = partVectors(cols, field.dtype);
    return field.shards.map((shard) => {
      const params = [shard.rows, shard.base, part, values, this.xStride / 4, 0, 0, 0, 0, part, 0, 0, values];
      const buffers = {
        params: this.memory.uniform('embed params', params),
        step: this.step,
        weights: shard.memory,
        tokens: this.tokens,
        x: this.x,
        ...(next ? { scaled: next.scaled, next_norm: next.weight } : {}),
      };
      const grid = (batch: number): [number, number, number] => [Math.ceil(values / 64), batch, 1];
      const slots = { quads: stored.quads, dtype: stored.dtype, next: next ? 'scaled' : 'none' };
      return this.small(embed, buffers, grid, { slots });
    });
  }

  private makeNorm(weight: GPUBuffer): SmallOp {
    const { hiddenSize, rmsNormEps } = this.weights.config;
    const params = this.memory.uniform('norm params', [hiddenSize, this.xStride, f32Bits(rmsNormEps)]);
    return this.small(rmsNorm, { params, x: this.x, weight, out: this.normed }, (batch) => [batch, 1, 1]);
  }

  private small(
    table: KernelTable,
    buffers: Record<string, Bindable>,
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
