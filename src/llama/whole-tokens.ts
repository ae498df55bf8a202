import type { Readback } from '../gpu/readback.js';
import { type LlamaGraph, MOST_TOKENS } from './graph.js';
import { NO_TOKEN } from './kernels.js';
import type { ResidentLayers } from './resident.js';
import type { StepStats } from './session.js';
import type { Draws } from './token-drawer.js';

/** How whole tokens reach their rows. */
export interface TokenWays {
  /** Every layer dense at every token: then no rows are counted. */
  readonly countsNone: boolean;
  /** Whether layer l computes all its rows at this token. */
  isDense(l: number): boolean;
  /** Paired: the layers' slabs, planned on the device. Else each layer is dense, or goes through the list of its rows. */
  resident?: ResidentLayers;
  begin(encoder: GPUCommandEncoder): GPUComputePassEncoder;
}

/** Tokens that followed one on the other, and what each step did. */
export interface Followed {
  tokens: number[];
  steps: StepStats[];
}

/**
 * Decodes whole tokens, one or several to a submit, where nothing waits for the CPU: dense, indexed, auto, and paired that
 * is planned on the device. What comes back with the logits or tokens is a few counts a layer. A token that needed more
 * rows than a slab has slots is done again, through index lists; the slabs are then as the token before left them.
 */
export class WholeTokens {
  private readonly graph: LlamaGraph;
  private readonly readback: Readback;
  private readonly device: GPUDevice;
  private readonly ways: TokenWays;

  constructor(device: GPUDevice, graph: LlamaGraph, readback: Readback, ways: TokenWays) {
    this.device = device;
    this.graph = graph;
    this.readback = readback;
    this.ways = ways;
  }

  /** The logits [vocab] after token `id` at `position`. */
  async next(id: number, position: number): Promise<{ logits: Float32Array; step: StepStats }> {
    const first = await this.nextBy(id, position, this.ways.resident);
    const { redone } = first.step;
    if (!redone) return first;
    this.ways.resident?.forgive();
    const { logits, step } = await this.nextBy(id, position);
    return { logits, step: again(step, first.step) };
  }

  /**
   * Feeds `id` at `position`, then `count - 1` times the token after it: the likeliest, or what is drawn by `draws`, which
   * has `count` words. Tokens from the first NO_TOKEN on mean nothing.
   */
  async follow(id: number, position: number, count: number, draws?: Draws): Promise<Followed> {
    const made = await this.followBy(id, position, count, draws, this.ways.resident);
    const { tokens, steps } = made;
    const good = steps.findIndex(({ redone }) => redone);
    if (good < 0 || tokens.slice(0, good).includes(NO_TOKEN)) return made;
    this.ways.resident?.forgive();
    const from = (first: number): Draws | undefined =>
      draws && { sampler: draws.sampler, words: draws.words.slice(first) };
    const safe = await this.followBy(good === 0 ? id : tokens[good - 1], position + good, 1, from(good));
    const left = count - good - 1;
    const rest =
      left === 0 || safe.tokens[0] === NO_TOKEN
        ? { tokens: new Array<number>(left).fill(NO_TOKEN), steps: steps.slice(good + 1) }
        : await this.follow(safe.tokens[0], position + good + 1, left, from(good + 1));
    return {
      tokens: [...tokens.slice(0, good), ...safe.tokens, ...rest.tokens],
      steps: [...steps.slice(0, good), again(safe.steps[0], steps[good]), ...rest.steps],
    };
  }

  private async nextBy(id: number, position: number, resident?: ResidentLayers) {
    const { graph, readback } = this;
    const bytes = graph.vocab * 4;
    graph.setTokens([id], position);
    const encoder = this.device.createCommandEncoder({ label: 'pairslab decode' });
    this.encode(encoder, resident);
    readback.encodeCopy(encoder, graph.logits, 0, 0, bytes);
    const words = this.encodeCounts(encoder, bytes, resident);
    this.device.queue.submit([encoder.finish()]);
    const read = await readback.read(bytes + words * 4);
    const step = this.stepOf(new Uint32Array(read, bytes, words), 1, resident);
    resident?.learn([step]);
    return { logits: new Float32Array(read, 0, graph.vocab), step };
  }

  private async followBy(
    id: number,
    position: number,
    count: number,
    draws?: Draws,
    resident?: ResidentLayers,
  ): Promise<Followed> {
    const { graph, readback } = this;
    graph.setTokens([id], position);
    if (draws) graph.setDraws(draws);
    const encoder = this.device.createCommandEncoder({ label: 'pairslab decode' });
    let words = 0;
    for (let i = 0; i < count; i++) {
      this.encode(encoder, resident, (pass) => graph.encodeNextToken(pass, draws !== undefined));
      words += this.encodeCounts(encoder, (MOST_TOKENS + words) * 4, resident);
    }
    readback.encodeCopy(encoder, graph.made, 0, 0, MOST_TOKENS * 4);
    this.device.queue.submit([encoder.finish()]);
    const read = await readback.read((MOST_TOKENS + words) * 4);
    const each = words / count;
    const steps = Array.from({ length: count }, (_, i) =>
      this.stepOf(new Uint32Array(read, (MOST_TOKENS + i * each) * 4, each), count, resident),
    );
    resident?.learn(steps);
    return { tokens: [...new Uint32Array(read, 0, count)], steps };
  }

  /** A token in one pass, and in it what comes after its logits. */
  private encode(
    encoder: GPUCommandEncoder,
    resident?: ResidentLayers,
    after: (pass: GPUComputePassEncoder) => void = () => {},
  ): void {
    const { graph } = this;
    const pass = this.ways.begin(encoder);
    const run = graph.layerRun(1);
    graph.encodeEmbed(pass, 1);
    graph.layers.forEach(({ mlp }, l) => {
      if (!resident && !this.ways.isDense(l)) graph.encodeActive(pass, l, 1);
      else {
        graph.encodeAttention(pass, l, 1);
        if (resident) resident.encodeLayer(pass, l, mlp, run);
        else mlp.encodeDense(pass, run);
      }
    });
    graph.encodeFinalNorm(pass, 1);
    graph.encodeHead(pass, 1);
    after(pass);
    pass.end();
  }

  /**
   * Has the counts that the last token left on the device copied to byte `at` of the readback.
   * @returns how many words they are.
   */
  private encodeCounts(encoder: GPUCommandEncoder, at: number, resident?: ResidentLayers): number {
    if (resident) return resident.encodeCounts(encoder, this.readback, at);
    let words = 0;
    for (let l = 0; l < this.graph.layers.length; l++) {
      if (this.ways.isDense(l)) continue;
      for (const counts of this.graph.activeCounts(l)) {
        this.readback.encodeCopy(encoder, counts.buffer, counts.at, at + words * 4, counts.words * 4);
        words += counts.words;
      }
    }
    return words;
  }

  /** What one of `shared` tokens did, of the words that `encodeCounts` had copied. */
  private stepOf(words: Uint32Array, shared: number, resident?: ResidentLayers): StepStats {
    const waits = { submits: 1 / shared, readbacks: 1 / shared };
    if (resident) {
      const { active, updates, refused } = resident.describe(words);
      return { active, updates, ...waits, ...(refused.length > 0 ? { redone: refused } : {}) };
    }
    return { ...this.countedRows(words), updates: [], ...waits };
  }

  /** Active rows of each layer, null where all are dense, which count none; and predicted ones, where rows are. */
  private countedRows(words: Uint32Array): Pick<StepStats, 'active' | 'predicted'> {
    if (this.ways.countsNone) return { active: null };
    let at = 0;
    const layers = this.graph.layers.map(({ mlp }, l) => {
      if (this.ways.isDense(l)) return [mlp.rows];
      return this.graph.activeCounts(l).map((counts) => {
        const first = at;
        at += counts.words;
        return sum(words.subarray(first, at));
      });
    });
    const active = layers.map(([rows]) => rows);
    return layers[0].length > 1 ? { active, predicted: layers.map(([, rows]) => rows) } : { active };
  }
}

/** A step that was done again: it cost both, and what the slabs did came to nothing. */
function again(step: StepStats, refused: StepStats): StepStats {
  return {
    ...step,
    submits: step.submits + refused.submits,
    readbacks: step.readbacks + refused.readbacks,
    redone: refused.redone,
  };
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}
