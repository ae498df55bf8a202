import { type BufferGroup, f32Bits } from '../gpu/buffers.js';
import { type Dispatch, encodeDispatch, kernel } from '../gpu/kernel.js';
import { modelLinear } from '../mlp/model-kernels.js';
import { RowOp } from '../mlp/row-op.js';
import type { LlamaGraph } from './graph.js';
import { rmsNorm } from './kernels.js';
import type { LlamaWeights } from './weights.js';

/** What guesses one layer's gate. */
interface Guess {
  norm: Dispatch;
  gate: RowOp;
}

/**
 * A guess of a layer's gate, made before the layer in front of it has run: the layer's own norm and gate over the residual
 * stream as it is then. For a graph of a single token.
 */
export class NextGates {
  /** [N] act(gate) of the layer that was encoded last, zero where it does not exceed the threshold. */
  readonly gate: GPUBuffer;
  private readonly graph: LlamaGraph;
  private readonly normed: GPUBuffer;
  private readonly guesses: readonly Guess[];

  /** @param thresholds One a layer, as the layers themselves have them. */
  constructor(
    memory: BufferGroup,
    graph: LlamaGraph,
    { config, layers, activation }: LlamaWeights,
    thresholds: readonly number[],
  ) {
    const { xStride, gateStride, compute, scratch } = graph;
    this.graph = graph;
    this.normed = memory.storage('guess normed', xStride * 4);
    this.gate = memory.storage('guessed gate', gateStride * 4);
    const params = memory.uniform('guess norm params', [
      config.hiddenSize,
      xStride,
      f32Bits(config.rmsNormEps),
    ]);
    const x = scratch.norm?.residual as GPUBuffer;
    const made = kernel(memory.device, rmsNorm, {});
    this.guesses = layers.map(({ mlpNorm, gate }, l) => ({
      norm: {
        kernel: made,
        group: made.bind({ params, x, weight: mlpNorm, out: this.normed }),
        grid: [1, 1, 1],
      },
      gate: new RowOp(memory, {
        table: modelLinear,
        rows: gate.field('weight'),
        bias: gate.fields.get('bias'),
        mode: 'dense',
        activation,
        compute,
        put: 'activate',
        threshold: thresholds[l],
        xStride,
        outStride: gateStride,
        batched: false,
      }),
    }));
  }

  encode(pass: GPUComputePassEncoder, l: number): void {
    const { norm, gate } = this.guesses[l];
    const { step } = this.graph;
    encodeDispatch(pass, norm);
    gate.encode(pass, { step, x: this.normed, out: this.gate, count: 0, batch: 1 });
  }
}
