/**
 * The CPU twin of the whole model: plain loops in float64 over the checkpoint's exact weights, one token at a time
 * with a KV cache. Too simple to be wrong; the model in src/llama is compared with it.
 */
import type { Checkpoint } from '../../src/llama/checkpoint.js';
import { type HiddenAct, type LlamaConfig, ropeInverseFrequencies } from '../../src/llama/config.js';

type Vector = Float32Array | Float64Array;

interface Linear {
  weight: Float32Array;
  bias: Float32Array | null;
}

interface Layer {
  inputNorm: Float32Array;
  postNorm: Float32Array;
  q: Linear;
  k: Linear;
  v: Linear;
  o: Linear;
  gate: Linear;
  up: Linear;
  down: Linear;
}

/** y[r] = sum_c W[r][c] x[c] + b[r] */
function apply({ weight, bias }: Linear, x: Vector): Float64Array {
  const rows = weight.length / x.length;
  const y = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    let sum = 0;
    for (let c = 0; c < x.length; c++) sum += weight[r * x.length + c] * x[c];
    y[r] = sum + (bias ? bias[r] : 0);
  }
  return y;
}

function rmsNorm(x: Vector, weight: Vector, eps: number): Float64Array {
  let squares = 0;
  for (const v of x) squares += v * v;
  const scale = 1 / Math.sqrt(squares / x.length + eps);
  return Float64Array.from(x, (v, i) => v * scale * weight[i]);
}

/** erf(x) = 2/√π e^(-x²) Σ 2^n x^(2n+1) / (1·3·…·(2n+1)); all terms have one sign (DLMF 7.6.2). */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const ACT: Record<HiddenAct, (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  relu: (x) => Math.max(0, x),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

export interface TwinOptions {
  /** Per layer: activated gates with |act(gate)| <= threshold count as 0. */
  threshold?: number[];
}

export class LlamaTwin {
  readonly config: LlamaConfig;
  readonly #embedding: Float32Array;
  readonly #layers: Layer[];
  readonly #norm: Float32Array;
  readonly #head: Float32Array;
  readonly #threshold: number[] | undefined;
  /** Per layer, per position: [kvHeads * headDim]. */
  readonly #keys: Float64Array[][] = [];
  readonly #values: Float64Array[][] = [];

  private constructor(
    config: LlamaConfig,
    embedding: Float32Array,
    layers: Layer[],
    norm: Float32Array,
    head: Float32Array,
    threshold: number[] | undefined,
  ) {
    this.config = config;
    this.#embedding = embedding;
    this.#layers = layers;
    this.#norm = norm;
    this.#head = head;
    this.#threshold = threshold;
    this.reset();
  }

  static async load(checkpoint: Checkpoint, options: TwinOptions = {}): Promise<LlamaTwin> {
    const { config } = checkpoint;
    const { hiddenSize: h, intermediateSize: m, heads, kvHeads, headDim, vocabSize } = config;
    const linear = async (name: string, outputs: number, inputs: number, bias: boolean): Promise<Linear> => ({
      weight: await checkpoint.readF32(`${name}.weight`, [outputs, inputs]),
      bias: bias ? await checkpoint.readF32(`${name}.bias`, [outputs]) : null,
    });
    const layers: Layer[] = [];
    for (let i = 0; i < config.layers; i++) {
      const at = `model.layers.${i}`;
      layers.push({
        inputNorm: await checkpoint.readF32(`${at}.input_layernorm.weight`, [h]),
        postNorm: await checkpoint.readF32(`${at}.post_attention_layernorm.weight`, [h]),
        q: await linear(`${at}.self_attn.q_proj`, heads * headDim, h, config.attentionBias),
        k: await linear(`${at}.self_attn.k_proj`, kvHeads * headDim, h, config.attentionBias),
        v: await linear(`${at}.self_attn.v_proj`, kvHeads * headDim, h, config.attentionBias),
        o: await linear(`${at}.self_attn.o_proj`, h, heads * headDim, config.attentionBias),
        gate: await linear(`${at}.mlp.gate_proj`, m, h, config.mlpBias),
        up: await linear(`${at}.mlp.up_proj`, m, h, config.mlpBias),
        down: await linear(`${at}.mlp.down_proj`, h, m, config.mlpBias),
      });
    }
    const embedding = await checkpoint.readF32('model.embed_tokens.weight', [vocabSize, h]);
    const norm = await checkpoint.readF32('model.norm.weight', [h]);
    const head = config.tieWordEmbeddings
      ? embedding
      : await checkpoint.readF32('lm_head.weight', [vocabSize, h]);
    return new LlamaTwin(config, embedding, layers, norm, head, options.threshold);
  }

  /** Forgets all positions. */
  reset(): void {
    for (let i = 0; i < this.config.layers; i++) {
      this.#keys[i] = [];
      this.#values[i] = [];
    }
  }

  /** Logits [vocabSize] at every position of a sequence that starts at position 0. */
  forward(ids: number[]): Float64Array[] {
    this.reset();
    return ids.map((id) => this.next(id));
  }

  /** Appends one token to what was fed before; logits [vocabSize] for the token after it. */
  next(id: number): Float64Array {
    const { config } = this;
    const h = config.hiddenSize;
    let x: Float64Array = Float64Array.from(this.#embedding.subarray(id * h, (id + 1) * h));
    this.#layers.forEach((layer, i) => {
      const attended = this.#attention(layer, i, rmsNorm(x, layer.inputNorm, config.rmsNormEps));
      x = x.map((v, c) => v + attended[c]);
      const mixed = this.#mlp(layer, i, rmsNorm(x, layer.postNorm, config.rmsNormEps));
      x = x.map((v, c) => v + mixed[c]);
    });
    return apply({ weight: this.#head, bias: null }, rmsNorm(x, this.#norm, config.rmsNormEps));
  }

  #attention(layer: Layer, index: number, x: Vector): Float64Array {
    const { heads, kvHeads, headDim } = this.config;
    const keys = this.#keys[index];
    const values = this.#values[index];
    const position = keys.length;
    const q = this.#rotate(apply(layer.q, x), position);
    keys.push(this.#rotate(apply(layer.k, x), position));
    values.push(apply(layer.v, x));
    const out = new Float64Array(heads * headDim);
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor(head / (heads / kvHeads)) * headDim;
      const scores = keys.map((key) => {
        let dot = 0;
        for (let d = 0; d < headDim; d++) dot += q[head * headDim + d] * key[kv + d];
        return dot / Math.sqrt(headDim);
      });
      const max = Math.max(...scores);
      const weights = scores.map((s) => Math.exp(s - max));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let p = 0; p < values.length; p++) {
        for (let d = 0; d < headDim; d++) {
          out[head * headDim + d] += (weights[p] / total) * values[p][kv + d];
        }
      }
    }
    return apply(layer.o, out);
  }

  /** Rotary embedding, Hugging Face's layout: dimension i of a head pairs with i + headDim / 2. */
  #rotate(x: Float64Array, position: number): Float64Array {
    const { headDim } = this.config;
    const half = headDim / 2;
    const frequencies = ropeInverseFrequencies(this.config);
    const out = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += headDim) {
      for (let i = 0; i < half; i++) {
        const angle = position * frequencies[i];
        const [a, b] = [x[start + i], x[start + i + half]];
        out[start + i] = a * Math.cos(angle) - b * Math.sin(angle);
        out[start + i + half] = b * Math.cos(angle) + a * Math.sin(angle);
      }
    }
    return out;
  }

  #mlp(layer: Layer, index: number, x: Vector): Float64Array {
    const act = ACT[this.config.hiddenAct];
    const threshold = this.#threshold?.[index];
    const gate = apply(layer.gate, x).map((g) => {
      const activated = act(g);
      return threshold !== undefined && Math.abs(activated) <= threshold ? 0 : activated;
    });
    const up = apply(layer.up, x);
    return apply(
      layer.down,
      gate.map((g, r) => g * up[r]),
    );
  }
}

/** Id of the largest logit, the lowest among equals. */
export function argmax(logits: Vector): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return best;
}
