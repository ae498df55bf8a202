import { Readback } from '../gpu/readback.js';
import type { LlamaGraph } from './graph.js';

/** What a layer's MLP made of a few tokens. */
export interface LayerGates {
  /** act(gate), [tokens, N], rows `gateStride` apart. */
  gates: Float32Array;
  gateStride: number;
  /** What gate and up were multiplied with, the normed input: [tokens, hidden], rows `inputStride` apart. */
  inputs: Float32Array;
  inputStride: number;
}

/** Runs `ids` from `position` through a batched graph, every row of each layer, and shows each layer's gates and inputs. */
export async function visitGates(
  device: GPUDevice,
  graph: LlamaGraph,
  ids: ArrayLike<number>,
  position: number,
  visit: (layer: number, found: LayerGates) => void,
): Promise<void> {
  const batch = ids.length;
  const { gateStride, xStride: inputStride } = graph;
  const gateBytes = batch * gateStride * 4;
  const inputBytes = batch * inputStride * 4;
  graph.setTokens(ids, position);
  const staging = new Readback(device, gateBytes + inputBytes);
  try {
    for (let l = 0; l < graph.layers.length; l++) {
      const encoder = device.createCommandEncoder({ label: 'pairslab calibrate' });
      const pass = encoder.beginComputePass({ label: `pairslab layer ${l}` });
      if (l === 0) graph.encodeEmbed(pass, batch);
      graph.encodeAttention(pass, l, batch);
      graph.layers[l].mlp.encodeDense(pass, graph.layerRun(batch));
      pass.end();
      staging.encodeCopy(encoder, graph.gate, 0, 0, gateBytes);
      staging.encodeCopy(encoder, graph.normed, 0, gateBytes, inputBytes);
      device.queue.submit([encoder.finish()]);
      const read = await staging.read(gateBytes + inputBytes);
      const gates = new Float32Array(read, 0, batch * gateStride);
      const inputs = new Float32Array(read, gateBytes, batch * inputStride);
      visit(l, { gates, gateStride, inputs, inputStride });
    }
  } finally {
    staging.destroy();
  }
}
