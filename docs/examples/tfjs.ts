/**
 * A transformer block of TensorFlow.js operations whose MLP is pairslab's. Tensors stay on the device; nothing is copied
 * to hand them over.
 */
import * as tf from '@tensorflow/tfjs-core';
import { SparseMLP, type SparseMLPWeights, type StepMask } from 'pairslab';
import { TfMLP, tfDevice } from 'pairslab/tfjs';

/** Matrices [hidden, hidden] of attention, and [hidden, vocabulary] of the head. */
export interface BlockWeights {
  q: tf.Tensor2D;
  k: tf.Tensor2D;
  v: tf.Tensor2D;
  o: tf.Tensor2D;
  head: tf.Tensor2D;
}

export interface Block {
  /** @returns logits [T, vocabulary] for x of [T, hidden], over the rows of `mask` (default: all). */
  run(x: tf.Tensor2D, mask?: StepMask): tf.Tensor2D;
  /** What of the block is pairslab's. */
  readonly mlp: TfMLP<tf.Tensor>;
  close(): void;
}

/** Needs `await tf.setBackend('webgpu')` first. */
export async function openBlock(weights: BlockWeights, ofMlp: SparseMLPWeights): Promise<Block> {
  const layer = await SparseMLP.create(tfDevice(tf), { ...ofMlp, activation: 'silu' });
  const mlp = new TfMLP(tf, layer);
  return {
    mlp,
    run: (x, mask) =>
      tf.tidy(() => {
        const { residual, normed } = attend(x, weights);
        const y = mlp.run(normed, { mask }) as tf.Tensor2D;
        return tf.matMul(tf.add(residual, y) as tf.Tensor2D, weights.head);
      }),
    close() {
      mlp.destroy();
      layer.destroy();
    },
  };
}

/** One head of attention over all of x, added to x; and the norm that the MLP reads. */
export function attend(x: tf.Tensor2D, { q, k, v, o }: BlockWeights) {
  const normed = norm(x);
  const scores = tf.matMul(tf.matMul(normed, q), tf.matMul(normed, k), false, true);
  const shares = tf.softmax(tf.div(scores, Math.sqrt(x.shape[1]))) as tf.Tensor2D;
  const residual = tf.add(x, tf.matMul(tf.matMul(shares, tf.matMul(normed, v)), o)) as tf.Tensor2D;
  return { residual, normed: norm(residual) };
}

function norm(x: tf.Tensor2D): tf.Tensor2D {
  const { mean, variance } = tf.moments(x, 1, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5)));
}
