import type { Readback } from '../gpu/readback.js';
import type { Strategy } from '../mlp/strategy.js';
import { AutoLayers } from './auto-layers.js';
import type { LlamaGraph } from './graph.js';
import type { LlamaWeights } from './weights.js';

/** Strategy auto: chunks that a layer computes densely before the union of its masks is counted again. */
const CHUNKS_BETWEEN_COUNTS = 8;

/**
 * Records chunks of a prompt. Up and down of a layer run over all rows, or over those that are active for any token of
 * the chunk (the others contribute nothing to any): `dense` takes all, `indexed` the union, `auto` what the last counted
 * union makes cheaper. `repack` and `paired` take all: their slabs hold the rows of one token.
 */
export class Prefill {
  readonly graph: LlamaGraph;
  private readonly strategy: Strategy;
  private readonly auto: AutoLayers;

  constructor(device: GPUDevice, weights: LlamaWeights, graph: LlamaGraph, strategy: Strategy) {
    this.graph = graph;
    this.strategy = strategy;
    this.auto = new AutoLayers(device, weights.layers, graph.maxBatch, CHUNKS_BETWEEN_COUNTS);
  }

  /** Records the tokens `ids`, the first at `position`, up to the last norm. */
  encode(encoder: GPUCommandEncoder, ids: readonly number[], position: number): void {
    const { graph } = this;
    graph.setTokens(ids, position);
    const pass = encoder.beginComputePass({ label: 'pairslab prefill' });
    const run = graph.layerRun(ids.length);
    graph.encodeEmbed(pass, ids.length);
    graph.layers.forEach(({ mlp }, l) => {
      if (!this.isDense(l)) graph.encodeActive(pass, l, ids.length);
      else {
        graph.encodeAttention(pass, l, ids.length);
        mlp.encodeDense(pass, run);
      }
    });
    graph.encodeFinalNorm(pass, ids.length);
    pass.end();
  }

  /** Has the count of each union that the last chunk made copied to byte `at`. @returns how many words they are. */
  encodeCounts(encoder: GPUCommandEncoder, readback: Readback, at: number): number {
    let words = 0;
    this.graph.layers.forEach(({ mlp }, l) => {
      if (!this.isDense(l)) readback.encodeCopy(encoder, mlp.counts.buffer, 0, at + 4 * words++, 4);
    });
    return words;
  }

  /**
   * Takes note of the counts that `encodeCounts` had copied.
   * @returns the rows of each layer's union in the last chunk; of a dense layer all.
   */
  counted(words: Uint32Array): number[] {
    let at = 0;
    const unions = this.graph.layers.map(({ mlp }, l) => (this.isDense(l) ? mlp.rows : words[at++]));
    this.auto.counted(unions, 1);
    return unions;
  }

  private isDense(l: number): boolean {
    return this.strategy === 'auto' ? this.auto.isDense(l) : this.strategy !== 'indexed';
  }
}
