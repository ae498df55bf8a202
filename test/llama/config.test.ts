import { describe, expect, it } from 'vitest';
import { ModelFormatError, UnsupportedModelError } from '../../src/errors.js';
import { parseConfig, ropeInverseFrequencies } from '../../src/llama/config.js';

/** As in Llama 3.2 1B's config.json. */
const base = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  attention_dropout: 0,
  bos_token_id: 128_000,
  eos_token_id: [128_001, 128_008, 128_009],
  head_dim: 64,
  hidden_act: 'silu',
  hidden_size: 2048,
  initializer_range: 0.02,
  intermediate_size: 8192,
  max_position_embeddings: 131_072,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 32,
  num_hidden_layers: 16,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 32,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
  rope_theta: 500_000,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  use_cache: true,
  vocab_size: 128_256,
};
const mistral = { ...base, model_type: 'mistral', architectures: ['MistralForCausalLM'] };
const plain = { ...base, rope_scaling: null };

describe('parseConfig', () => {
  it('reads a Llama 3.2', () => {
    expect(parseConfig(base)).toEqual({
      hiddenSize: 2048,
      intermediateSize: 8192,
      layers: 16,
      heads: 32,
      kvHeads: 8,
      headDim: 64,
      vocabSize: 128_256,
      maxPositions: 131_072,
      rmsNormEps: 1e-5,
      ropeTheta: 500_000,
      ropeScaling: {
        type: 'llama3',
        factor: 32,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalMaxPositions: 8192,
      },
      hiddenAct: 'silu',
      tieWordEmbeddings: true,
      attentionBias: false,
      mlpBias: false,
      bosTokenId: 128_000,
      eosTokenIds: [128_001, 128_008, 128_009],
    });
  });

  it('fills in the defaults of LlamaConfig', () => {
    const config = parseConfig({
      model_type: 'llama',
      hidden_size: 64,
      intermediate_size: 37,
      num_hidden_layers: 1,
      num_attention_heads: 4,
      vocab_size: 100,
    });
    expect(config).toMatchObject({ kvHeads: 4, headDim: 16, maxPositions: 2048, rmsNormEps: 1e-6 });
    expect(config).toMatchObject({ ropeTheta: 10_000, ropeScaling: null, hiddenAct: 'silu' });
    expect(config).toMatchObject({ tieWordEmbeddings: false, attentionBias: false, mlpBias: false });
    expect(config).toMatchObject({ bosTokenId: 1, eosTokenIds: [2] });
  });

  it('takes null for absent, one eos id for a list, and no ids', () => {
    const config = parseConfig({
      ...base,
      head_dim: null,
      rope_scaling: null,
      eos_token_id: 7,
      bos_token_id: null,
    });
    expect(config).toMatchObject({ headDim: 64, ropeScaling: null, eosTokenIds: [7], bosTokenId: null });
    expect(parseConfig({ ...base, eos_token_id: null }).eosTokenIds).toEqual([]);
  });

  it('takes head_dim as given, also where heads do not divide hidden_size', () => {
    const odd = { ...base, hidden_size: 20, num_attention_heads: 3, num_key_value_heads: 1, head_dim: 6 };
    expect(parseConfig(odd)).toMatchObject({ hiddenSize: 20, heads: 3, kvHeads: 1, headDim: 6 });
  });

  it.each([
    ['silu', 'silu'],
    ['swish', 'silu'],
    ['gelu', 'gelu'],
    ['gelu_new', 'gelu_tanh'],
    ['gelu_pytorch_tanh', 'gelu_tanh'],
    ['relu', 'relu'],
  ])('activation %s is %s', (name, act) => {
    expect(parseConfig({ ...base, hidden_act: name }).hiddenAct).toBe(act);
  });

  it('reads rope settings from rope_parameters, alone or beside equal old fields', () => {
    const { rope_theta, rope_scaling, ...rest } = base;
    const rope_parameters = { rope_theta, ...rope_scaling };
    expect(parseConfig({ ...rest, rope_parameters })).toEqual(parseConfig(base));
    expect(parseConfig({ ...base, rope_parameters })).toEqual(parseConfig(base));
    const simple = parseConfig({ ...rest, rope_parameters: { rope_type: 'default', rope_theta: 5 } });
    expect(simple).toMatchObject({ ropeTheta: 5, ropeScaling: null });
    const outside = parseConfig({
      ...rest,
      rope_theta: 6,
      rope_parameters: { rope_type: 'linear', factor: 2 },
    });
    expect(outside).toMatchObject({ ropeTheta: 6, ropeScaling: { type: 'linear', factor: 2 } });
  });

  it('reads the older name of the rope type', () => {
    const config = parseConfig({ ...base, rope_scaling: { type: 'linear', factor: 4 } });
    expect(config.ropeScaling).toEqual({ type: 'linear', factor: 4 });
  });

  it('takes a Mistral whose attention is full', () => {
    const { architectures: _a, ...unnamed } = { ...mistral, sliding_window: null };
    expect(parseConfig({ ...mistral, sliding_window: null })).toEqual(parseConfig(base));
    expect(parseConfig(unnamed)).toEqual(parseConfig(base));
  });

  it.each<[string, unknown, RegExp]>([
    ['another model type', { ...base, model_type: 'qwen2' }, /model_type is "qwen2"/],
    ['Object.prototype as model type', { ...base, model_type: 'constructor' }, /model_type is "constructor"/],
    ['SmolLM3', { ...base, model_type: 'smollm3', architectures: ['SmolLM3ForCausalLM'] }, /smollm3/],
    [
      'another architecture',
      { ...base, architectures: ['LlamaForSequenceClassification'] },
      /architectures is \[/,
    ],
    ['types that disagree', { ...base, architectures: ['MistralForCausalLM'] }, /architectures/],
    [
      'neither type nor architecture',
      { ...base, model_type: null, architectures: null },
      /model_type is undefined/,
    ],
    ['model_type a number', { ...base, model_type: 3 }, /model_type is 3/],
    ['architectures text', { ...base, architectures: 'LlamaForCausalLM' }, /architectures is "Llama/],
    ['architectures empty', { ...base, architectures: [] }, /architectures is \[\]/],
    ['inherited hidden size', Object.create(base), /hidden_size|model_type/],
    ['Mistral with a window', { ...mistral, sliding_window: 4096 }, /sliding_window is 4096/],
    ['Mistral with its default window', mistral, /sliding_window is undefined/],
    [
      'Mistral with biases',
      { ...mistral, sliding_window: null, attention_bias: true },
      /attention_bias is true/,
    ],
    ['Llama with a window', { ...base, sliding_window: 512 }, /sliding_window is 512/],
    ['quantised', { ...base, quantization_config: { bits: 4 } }, /quantization_config is an object/],
    ['code of its own', { ...base, auto_map: { AutoModel: 'x.Y' } }, /auto_map/],
    ['activation', { ...base, hidden_act: 'quick_gelu' }, /hidden_act is "quick_gelu"/],
    ['partial rotary', { ...base, partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5/],
    ['interleaved rotary', { ...base, rope_interleaved: true }, /rope_interleaved is true/],
    ['layer types', { ...base, layer_types: ['full_attention', 'sliding_attention'] }, /layer_types is \[/],
    [
      'rope yarn',
      { ...base, rope_scaling: { rope_type: 'yarn', factor: 2 } },
      /rope_scaling.rope_type is "yarn"/,
    ],
    ['rope dynamic', { ...base, rope_scaling: { type: 'dynamic', factor: 2 } }, /rope_type is "dynamic"/],
    ['rope extra', { ...base, rope_scaling: { type: 'linear', factor: 2, beta_fast: 1 } }, /beta_fast is 1/],
    [
      'rope per layer type',
      { ...base, rope_parameters: { full_attention: {} } },
      /full_attention is an object/,
    ],
    ['hidden size', { ...base, hidden_size: 65_537 }, /hidden_size is 65537; at most 65536/],
    ['layers', { ...base, num_hidden_layers: 1e9 }, /num_hidden_layers is 1000000000; at most 1024/],
    ['vocabulary', { ...base, vocab_size: 2 ** 24 + 1 }, /vocab_size is 16777217/],
    ['intermediate size', { ...base, intermediate_size: 1e300 }, /intermediate_size is 1e\+300/],
  ])('refuses as unsupported: %s', (_name, json, message) => {
    expect(() => parseConfig(json)).toThrow(message);
    expect(() => parseConfig(json)).toThrow(UnsupportedModelError);
  });

  const llama3 = base.rope_scaling;
  it.each<[string, unknown, RegExp]>([
    ['null', null, /the whole is null; it must be a JSON object/],
    ['a list', [base], /JSON object/],
    [
      'Mistral without KV heads',
      { ...mistral, sliding_window: null, num_key_value_heads: undefined },
      /num_key_value_heads is undefined/,
    ],
    ['no hidden size', { ...base, hidden_size: undefined }, /hidden_size is undefined/],
    ['size zero', { ...base, intermediate_size: 0 }, /intermediate_size is 0/],
    ['size negative', { ...base, num_hidden_layers: -1 }, /num_hidden_layers is -1/],
    ['size fractional', { ...base, vocab_size: 10.5 }, /vocab_size is 10.5; it must be a whole number/],
    ['size text', { ...base, hidden_size: '2048' }, /hidden_size is "2048"/],
    ['eps text', { ...base, rms_norm_eps: '1e-5' }, /rms_norm_eps is "1e-5"/],
    ['eps zero', { ...base, rms_norm_eps: 0 }, /rms_norm_eps is 0/],
    ['theta zero', { ...base, rope_theta: 0 }, /rope_theta is 0/],
    ['flag text', { ...base, tie_word_embeddings: 'yes' }, /tie_word_embeddings is "yes"/],
    ['flag number', { ...base, attention_bias: 1 }, /attention_bias is 1/],
    ['activation a number', { ...base, hidden_act: 1 }, /hidden_act is 1/],
    ['KV heads', { ...base, num_key_value_heads: 5 }, /num_key_value_heads is 5; it must be a divisor of 32/],
    [
      'heads',
      { ...base, head_dim: null, num_attention_heads: 24, num_key_value_heads: 8 },
      /divisor of hidden_size/,
    ],
    ['head_dim odd', { ...base, head_dim: 63 }, /head_dim is 63; it must be even/],
    ['eos text', { ...base, eos_token_id: '</s>' }, /eos_token_id is "<\/s>"/],
    ['eos outside', { ...base, eos_token_id: [1, 128_256] }, /eos_token_id is \[1, 128256\]/],
    ['bos negative', { ...base, bos_token_id: -1 }, /bos_token_id is -1/],
    ['rope a list', { ...base, rope_scaling: [1] }, /rope_scaling is \[1\]/],
    ['rope parameters text', { ...base, rope_parameters: 'default' }, /rope_parameters is "default"/],
    ['rope without factor', { ...base, rope_scaling: { type: 'linear' } }, /factor is undefined/],
    ['rope factor below 1', { ...base, rope_scaling: { type: 'linear', factor: 0.5 } }, /factor is 0.5/],
    [
      'llama3 turned round',
      { ...base, rope_scaling: { ...llama3, high_freq_factor: 1 } },
      /high_freq_factor is 1/,
    ],
    ['theta twice', { ...plain, rope_parameters: { rope_theta: 7 } }, /rope_theta is 500000; .* \(7\)/],
    ['scaling twice', { ...base, rope_parameters: { rope_theta: 500_000 } }, /rope_scaling/],
  ])('refuses as malformed: %s', (_name, json, message) => {
    expect(() => parseConfig(json)).toThrow(message);
    expect(() => parseConfig(json)).toThrow(ModelFormatError);
  });
});

describe('ropeInverseFrequencies', () => {
  const shape = { headDim: 8, ropeTheta: 10_000 };

  it('is theta^(-2i/d)', () => {
    const plain = ropeInverseFrequencies({ ...shape, ropeScaling: null });
    expect([...plain]).toEqual([1, 0.1, 0.01, 0.001].map(Math.fround));
  });

  it('linear divides all', () => {
    const scaled = ropeInverseFrequencies({ ...shape, ropeScaling: { type: 'linear', factor: 4 } });
    expect([...scaled]).toEqual([0.25, 0.025, 0.0025, 0.00025].map(Math.fround));
  });

  it('llama3 keeps short waves, divides long ones, blends between, as the formula in wavelengths says', () => {
    const config = parseConfig(base);
    const [factor, low, high, context] = [32, 1, 4, 8192];
    const kinds = new Set<string>();
    ropeInverseFrequencies(config).forEach((value, i) => {
      const plain = 500_000 ** (-i / 32);
      const wave = (2 * Math.PI) / plain;
      let want: number;
      if (wave < context / high) {
        kinds.add('kept');
        want = plain;
      } else if (wave > context / low) {
        kinds.add('divided');
        want = plain / factor;
      } else {
        kinds.add('blended');
        const smooth = (context / wave - low) / (high - low);
        want = ((1 - smooth) * plain) / factor + smooth * plain;
      }
      expect(Math.abs(value / want - 1)).toBeLessThan(1e-7);
    });
    expect(kinds.size).toBe(3);
  });
});
