import { type BufferGroup, f32Bits } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import { traitsOf } from '../gpu/traits.js';
import {
  attentionChoice,
  type AttentionVariant,
  attentionVariant,
  type HeadShape,
} from './attention-variants.js';
import { attention, attentionMerge, headQuads, rope } from './kernels.js';

export interface AttentionOptions {
  shape: HeadShape;
  /** Tokens at a time, at most. */
  maxBatch: number;
  /** (tokens, position of the first). */
  step: GPUBuffer;
  /** `[maxBatch, qkvStride]`: q, k and v heads of each token as the projections left them; q is turned in place, or not. */
  qkv: GPUBuffer;
  qkvStride: number;
  /** [position, half a head] of (cos, sin). */
  turns: GPUBuffer;
  /** Of each layer: [position, kv heads, head dim padded to a multiple of 4] f32. */
  cache: { readonly keys: readonly GPUBuffer[]; readonly values: readonly GPUBuffer[] };
  /** [maxBatch, outStride] */
  out: GPUBuffer;
  outStride: number;
  /** Default: the tuned one for the positions at hand, else the adapter's default. */
  variant?: AttentionVariant;
}

/** One variant, bound to each layer's buffers. */
interface Way {
  readonly variant: AttentionVariant;
  readonly rope?: { kernel: Kernel; groups: GPUBindGroup[] };
  readonly attention: { kernel: Kernel; groups: GPUBindGroup[] };
  readonly merge?: { kernel: Kernel; group: GPUBindGroup };
}

const SMALL = 64;

/** Rope, the write to the cache and attention of every layer, in the variant that suits the positions so far. */
export class AttentionOp {
  private readonly memory: BufferGroup;
  private readonly options: AttentionOptions;
  private readonly params: GPUBuffer;
  private readonly ropeParams: GPUBuffer;
  private readonly ways = new Map<string, Way>();
  /** By the power of two that positions are rounded up to. */
  private readonly bands = new Map<number, Way>();

  constructor(memory: BufferGroup, options: AttentionOptions) {
    const { shape, qkvStride, outStride } = options;
    const { heads, kvHeads, headDim } = shape;
    const scale = f32Bits(1 / Math.sqrt(headDim));
    this.memory = memory;
    this.options = options;
    this.params = memory.uniform('attention params', [heads, kvHeads, headDim, qkvStride, outStride, scale]);
    this.ropeParams = memory.uniform('rope params', [
      heads,
      kvHeads,
      headDim / 2,
      qkvStride,
      headQuads(headDim) * 4,
    ]);
  }

  /** Layer `l`; `positions`: how many the last of `batch` tokens looks at, itself among them. */
  encode(pass: GPUComputePassEncoder, l: number, batch: number, positions: number): void {
    const { variant, rope, attention, merge } = this.wayFor(positions);
    const { heads, kvHeads, headDim } = this.options.shape;
    if (rope) {
      const pairs = ((heads + 2 * kvHeads) * headDim) / 2;
      encodeDispatch(pass, {
        kernel: rope.kernel,
        group: rope.groups[l],
        grid: [Math.ceil(pairs / SMALL), batch, 1],
      });
    }
    const grid = [heads / variant.heads, batch, variant.spans] as const;
    encodeDispatch(pass, { kernel: attention.kernel, group: attention.groups[l], grid });
    if (merge) encodeDispatch(pass, { ...merge, grid: [heads, batch, 1] });
  }

  private wayFor(positions: number): Way {
    const band = Math.ceil(Math.log2(Math.max(1, positions)));
    let way = this.bands.get(band);
    if (!way) {
      const { shape, maxBatch } = this.options;
      const variant =
        this.options.variant ?? attentionVariant(this.memory.device, shape, 2 ** band, maxBatch > 1);
      // Bands mostly differ in nothing, or in the spans alone.
      const key = JSON.stringify(variant);
      way = this.ways.get(key) ?? this.make(variant);
      this.ways.set(key, way);
      this.bands.set(band, way);
    }
    return way;
  }

  private make(variant: AttentionVariant): Way {
    const { memory, options } = this;
    const { device } = memory;
    const { shape, maxBatch, step, qkv, turns, cache, out, outStride } = options;
    const { heads, headDim } = shape;
    const { spans } = variant;
    const choice = attentionChoice(traitsOf(device), shape, variant);
    const made = kernel(device, attention, {
      ...choice,
      slots: { ...choice.slots, fresh: variant.rope === 'fused' ? 'turned' : 'cached' },
    });
    const mixed =
      spans > 1
        ? memory.storage('attention spans', maxBatch * heads * spans * (headQuads(headDim) + 1) * 16)
        : undefined;
    const perLayer = (one: Kernel, buffers: Record<string, GPUBuffer | undefined>) => ({
      kernel: one,
      groups: cache.keys.map((keys, l) => one.bind({ ...buffers, keys, values: cache.values[l] })),
    });
    const attended = { params: this.params, step, q: qkv, turns, out, mixed_spans: mixed };
    return {
      variant,
      rope:
        variant.rope === 'apart'
          ? perLayer(kernel(device, rope, { constants: { WORKGROUP: SMALL } }), {
              params: this.ropeParams,
              step,
              turns,
              qkv,
            })
          : undefined,
      attention: perLayer(made, attended),
      merge: mixed && this.makeMerge(mixed, [heads, headDim, outStride, spans]),
    };
  }

  private makeMerge(spans: GPUBuffer, params: readonly number[]): Way['merge'] {
    const { memory } = this;
    const { software, subgroup } = traitsOf(memory.device);
    const made = kernel(memory.device, attentionMerge, {
      constants: { WORKGROUP: software ? Math.max(4, subgroup) : SMALL },
    });
    const uniform = memory.uniform('attention_merge params', params);
    return { kernel: made, group: made.bind({ params: uniform, spans, out: this.options.out }) };
  }
}
