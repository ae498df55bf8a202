/**
 * A transformer block whose attention and head are ONNX graphs, and whose MLP is pairslab's. Tensors stay on the device
 * from the first graph to the last.
 */
import * as ort from 'onnxruntime-web/webgpu';
import { SparseMLP, type SparseMLPWeights, type StepMask } from 'pairslab';
import { OrtMLP, ortDevice } from 'pairslab/onnxruntime';

export interface Block {
  /** @returns logits [1, T, vocabulary] for x of [1, T, hidden], over the rows of `mask` (default: all). */
  run(x: ort.Tensor, mask?: StepMask): Promise<ort.Tensor>;
  /** What of the block is pairslab's. */
  readonly mlp: OrtMLP<ort.Tensor>;
  close(): Promise<void>;
}

/**
 * @param graphs `attention`: x to residual and normed; `head`: residual and y to logits.
 * @param weights Of the MLP between them.
 */
export async function openBlock(
  graphs: { attention: Uint8Array; head: Uint8Array },
  weights: SparseMLPWeights,
): Promise<Block> {
  const session = (graph: Uint8Array) =>
    ort.InferenceSession.create(graph, {
      executionProviders: ['webgpu'],
      preferredOutputLocation: 'gpu-buffer',
    });
  const attention = await session(graphs.attention);
  const head = await session(graphs.head);
  // onnxruntime makes its device with its first session, and everybody else uses that one.
  const device = await ortDevice(ort);
  const layer = await SparseMLP.create(device, { ...weights, activation: 'silu' });
  const mlp = await OrtMLP.create(ort, layer);
  return {
    mlp,
    async run(x, mask) {
      const { residual, normed } = await attention.run({ x });
      const y = mlp.run(normed, { mask });
      const { logits } = await head.run({ residual, y });
      for (const tensor of [residual, normed, y]) tensor.dispose();
      return logits;
    },
    async close() {
      mlp.destroy();
      layer.destroy();
      await attention.release();
      await head.release();
    },
  };
}
