/**
 * What the twin of the whole model computes inside: the activated gates of one layer. No second forward pass is
 * written for it: LlamaTwin itself runs on a checkpoint that is cut off behind the layer's MLP norm and has the gate
 * matrix for its output head.
 */
import { Checkpoint } from '../../src/llama/checkpoint.js';
import { activate } from './layer-twin.js';
import { LlamaTwin } from './llama-twin.js';

/** Ends behind the MLP norm of `layer`; its logits are that layer's gates, without their bias. */
class CutCheckpoint extends Checkpoint {
  readonly #from: Checkpoint;
  readonly #at: string;

  constructor(from: Checkpoint, layer: number) {
    const config = { ...from.config, layers: layer + 1, tieWordEmbeddings: false };
    super(`${from.name} up to the gate of layer ${layer}`, config, new Map());
    this.#from = from;
    this.#at = `model.layers.${layer}.`;
  }

  override async readF32(name: string, shape: readonly number[]): Promise<Float32Array<ArrayBuffer>> {
    const { hiddenSize, intermediateSize } = this.config;
    if (name === 'model.norm.weight')
      return this.#from.readF32(`${this.#at}post_attention_layernorm.weight`, shape);
    if (name === 'lm_head.weight')
      return this.#from.readF32(`${this.#at}mlp.gate_proj.weight`, [intermediateSize, hiddenSize]);
    // The last MLP adds nothing, so that what reaches the final norm is what reached its own.
    if (name.startsWith(`${this.#at}mlp.down_proj`))
      return new Float32Array(shape.reduce((a, b) => a * b, 1));
    return this.#from.readF32(name, shape);
  }
}

/** act(gate) of `layer` after each token of a sequence, [ids][N]. Thresholds apply to the layers before it. */
export async function gateTwin(
  checkpoint: Checkpoint,
  layer: number,
  ids: readonly number[],
  threshold?: readonly number[],
): Promise<Float64Array[]> {
  const { mlpBias, intermediateSize, hiddenAct } = checkpoint.config;
  const before = threshold?.slice(0, layer);
  const twin = await LlamaTwin.load(new CutCheckpoint(checkpoint, layer), { threshold: before });
  const bias = mlpBias
    ? await checkpoint.readF32(`model.layers.${layer}.mlp.gate_proj.bias`, [intermediateSize])
    : null;
  return ids.map((id) => twin.next(id).map((gate, r) => activate(hiddenAct, gate + (bias ? bias[r] : 0))));
}

/** The rows of a layer whose |act(gate)| exceeds the threshold. */
export function activeRows(gates: Float64Array, threshold = 0): number[] {
  const rows: number[] = [];
  gates.forEach((gate, r) => {
    if (Math.abs(gate) > threshold) rows.push(r);
  });
  return rows;
}

/**
 * Random thresholds, one a layer, that leave out about `share` of the rows over the sequence. Each stands in the middle
 * of the widest gap near there, so that f32 and f64 agree about every row of it.
 */
export async function chooseThresholds(
  checkpoint: Checkpoint,
  ids: readonly number[],
  random: () => number,
  [least, most]: readonly [number, number] = [0.3, 0.8],
): Promise<number[]> {
  const chosen: number[] = [];
  for (let layer = 0; layer < checkpoint.config.layers; layer++) {
    const gates = await gateTwin(checkpoint, layer, ids, chosen);
    const sizes = gates.flatMap((values) => [...values].map(Math.abs)).sort((a, b) => a - b);
    const near = Math.floor(sizes.length * (least + (most - least) * random()));
    let best = near;
    for (let i = near; i < Math.min(near + 40, sizes.length - 1); i++)
      if (sizes[i + 1] - sizes[i] > sizes[best + 1] - sizes[best]) best = i;
    if (sizes[best + 1] - sizes[best] < 1e-4)
      throw new Error(`layer ${layer}: no gap of 1e-4 near row ${near}`);
    chosen.push((sizes[best] + sizes[best + 1]) / 2);
  }
  return chosen;
}
