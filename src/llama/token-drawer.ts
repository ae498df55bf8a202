import { type BufferGroup, f32Bits, Usage } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import { traitsOf } from '../gpu/traits.js';
import { sampleToken, sampleTokenConstants } from './kernels.js';
import { type Sampler, shareWord } from './sample.js';
import { fallOf, POWERS } from './token-weights.js';

/** How the tokens of a run are drawn: not greedily, and with a random word, u32, for each. */
export interface Draws {
  readonly sampler: Pick<Sampler, 'temperature' | 'topK' | 'topP'>;
  readonly words: Uint32Array<ArrayBuffer>;
}

/** What a drawn token is made of, and what it goes to. */
export interface DrawBuffers {
  /** [vocab] f32. */
  readonly logits: GPUBuffer;
  /** (batch, position, tokens made), which a drawn token moves on. */
  readonly next: GPUBuffer;
  /** Of the next step: [1]. */
  readonly tokens: GPUBuffer;
  /** All of the run, in order: [most]. */
  readonly made: GPUBuffer;
}

/** Draws tokens on the device, as `Sampler` does from the same logits and random words. */
export class TokenDrawer {
  private readonly device: GPUDevice;
  private readonly vocab: number;
  private readonly kernel: Kernel;
  private readonly group: GPUBindGroup;
  private readonly params: GPUBuffer;
  private readonly words: GPUBuffer;

  /** For runs of up to `most` tokens. */
  constructor(memory: BufferGroup, vocab: number, most: number, buffers: DrawBuffers) {
    const { device } = memory;
    this.device = device;
    this.vocab = vocab;
    this.params = memory.create('sample_token params', 32, Usage.UNIFORM | Usage.COPY_DST);
    this.words = memory.storage('random words', most * 4);
    const powers = memory.storage('powers of two', POWERS.byteLength);
    device.queue.writeBuffer(powers, 0, POWERS);
    const left = memory.storage('tokens left', vocab * 4);
    this.kernel = kernel(device, sampleToken, { constants: sampleTokenConstants(traitsOf(device)) });
    this.group = this.kernel.bind({ params: this.params, words: this.words, powers, left, ...buffers });
  }

  /** Sets how what is submitted next draws, from the first word on. */
  set({ sampler, words }: Draws): void {
    const { scale, reach } = fallOf(sampler.temperature);
    const topK = sampler.topK < this.vocab ? sampler.topK : 0;
    const params = [this.vocab, topK, shareWord(sampler.topP), f32Bits(scale), f32Bits(reach)];
    this.device.queue.writeBuffer(this.params, 0, Uint32Array.from(params));
    this.device.queue.writeBuffer(this.words, 0, words);
  }

  /** The token drawn by the logits becomes the next step's, and is noted in `made`. */
  encode(pass: GPUComputePassEncoder): void {
    encodeDispatch(pass, { kernel: this.kernel, group: this.group, grid: [1, 1, 1] });
  }
}
