import { describe, expect, it } from 'vitest';
import { ModelFormatError, UnsupportedModelError } from '../../src/errors.js';
import { openCheckpoint, requiredTensors, requireTensors } from '../../src/llama/checkpoint.js';
import { type MakeModelOptions, MemoryFolder, makeModel, writeSafetensors } from '../support/make-model.js';
import { NodeFolder, STATESMAN } from './node-folder.js';

const INDEX = 'model.safetensors.index.json';
const FIRST = 'model-00001-of-00002.safetensors';

/** A sharded model with a changed weight_map. */
function withMap(change: (map: Record<string, unknown>) => unknown): MemoryFolder {
  const folder = makeModel({ sharded: true });
  const index = JSON.parse(new TextDecoder().decode(folder.files.get(INDEX))) as {
    weight_map: Record<string, unknown>;
  };
  return folder.set(INDEX, { weight_map: change(index.weight_map) });
}

async function refused(folder: MemoryFolder, message: RegExp): Promise<void> {
  const opened = openCheckpoint(folder);
  await expect(opened).rejects.toBeInstanceOf(ModelFormatError);
  await expect(opened).rejects.toThrow(message);
}

describe('openCheckpoint', () => {
  it('opens the shipped model', async () => {
    const checkpoint = await openCheckpoint(new NodeFolder(STATESMAN));
    expect(checkpoint.config).toMatchObject({ layers: 4, hiddenSize: 256, hiddenAct: 'relu', kvHeads: 2 });
    expect(() => requireTensors(checkpoint)).not.toThrow();
    expect(checkpoint.info('model.norm.weight')).toMatchObject({ dtype: 'F16', shape: [256] });
    expect((await checkpoint.read('model.norm.weight', [256])).data).toBeInstanceOf(Uint16Array);
    expect((await checkpoint.readF32('model.norm.weight', [256])).every(Number.isFinite)).toBe(true);
  });

  it.each<[string, MakeModelOptions]>([
    ['default', {}],
    ['f16, tied', { dtype: 'f16', tied: true }],
    ['bf16, sharded, biases', { dtype: 'bf16', sharded: true, attentionBias: true, mlpBias: true }],
    ['odd sizes, GQA', { hidden: 20, intermediate: 37, heads: 4, kvHeads: 2, headDim: 6, act: 'gelu' }],
  ])('opens a made model: %s', async (_name, options) => {
    const checkpoint = await openCheckpoint(makeModel(options));
    expect(() => requireTensors(checkpoint)).not.toThrow();
    for (const [name, shape] of requiredTensors(checkpoint.config)) {
      const tensor = await checkpoint.read(name, shape);
      expect(tensor.dtype).toBe((options.dtype ?? 'f32').toUpperCase());
      const { begin, end } = checkpoint.info(name);
      expect((await checkpoint.source(name).read(begin, end - begin)).length).toBe(tensor.data.byteLength);
    }
  });

  it('reads the same weights from shards as from one file', async () => {
    const [one, two] = await Promise.all([
      openCheckpoint(makeModel()),
      openCheckpoint(makeModel({ sharded: true })),
    ]);
    for (const [name, shape] of requiredTensors(one.config)) {
      expect(await two.readF32(name, shape)).toEqual(await one.readF32(name, shape));
    }
  });

  it('names both shapes, or the tensor that is not there', async () => {
    const checkpoint = await openCheckpoint(makeModel());
    const name = 'model.layers.0.mlp.up_proj.weight';
    expect(checkpoint.has(name)).toBe(true);
    expect(checkpoint.has('toString')).toBe(false);
    const wrong = checkpoint.readF32(name, [16, 24]);
    await expect(wrong).rejects.toBeInstanceOf(ModelFormatError);
    await expect(wrong).rejects.toThrow(/up_proj.weight" has shape \[24, 16\], expected \[16, 24\]/);
    await expect(checkpoint.read(name, [384])).rejects.toThrow(/expected \[384\]/);
    await expect(checkpoint.read('nope', [1])).rejects.toThrow(/no tensor "nope"/);
    expect(() => checkpoint.info('nope')).toThrow(ModelFormatError);
    expect(() => checkpoint.source('nope')).toThrow(ModelFormatError);
  });

  it('refuses folders without the files', async () => {
    await refused(new MemoryFolder('empty'), /empty: there is no config.json/);
    const folder = makeModel();
    folder.files.delete('model.safetensors');
    await refused(folder, /neither model.safetensors nor model.safetensors.index.json/);
  });

  it('refuses bad config files', async () => {
    await refused(makeModel().set('config.json', Uint8Array.of(0x7b)), /config.json \(1 bytes\) is not JSON/);
    await refused(makeModel().set('config.json', []), /config.json must hold a JSON object/);
    await refused(
      makeModel().set('config.json', new Uint8Array(2 ** 24 + 1)),
      /16777217 bytes; at most 16777216/,
    );
    const unknown = makeModel().set('config.json', { model_type: 'gpt2' });
    await expect(openCheckpoint(unknown)).rejects.toBeInstanceOf(UnsupportedModelError);
  });

  it('refuses a bad weight file', async () => {
    await refused(makeModel().set('model.safetensors', new Uint8Array(7)), /7 bytes/);
  });

  it('refuses bad indices', async () => {
    await refused(makeModel({ sharded: true }).set(INDEX, []), /must hold a JSON object/);
    await refused(makeModel({ sharded: true }).set(INDEX, {}), /weight_map must be an object, not undefined/);
    await refused(
      withMap(() => [FIRST]),
      /weight_map must be an object/,
    );
    await refused(
      withMap((map) => ({ ...map, extra: FIRST })),
      /"extra" is in "model-00001-of-00002.safetensors", where it is not/,
    );
    await refused(
      withMap((map) => ({ ...map, a: 'model-00003-of-00003.safetensors' })),
      /shard "model-00003-of-00003.safetensors" .* is missing/,
    );
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`t${i}`, `s${i}`]));
    await refused(
      withMap(() => many),
      /5000 shards; at most 4096/,
    );
  });

  it.each([
    '../secret',
    'a/b',
    'a\\b',
    '..',
    '.',
    '',
    '/etc/passwd',
    'a..b',
    'a\0b',
    'x'.repeat(300),
    5,
    null,
    'a?b',
  ])('refuses the shard name %j', async (name) => {
    await refused(
      withMap((map) => ({ ...map, 'lm_head.weight': name })),
      /"lm_head.weight" to .* plain file name/,
    );
  });
});

describe('requireTensors', () => {
  it('counts what a model needs', () => {
    const sizes = {
      hiddenSize: 8,
      intermediateSize: 12,
      layers: 3,
      heads: 2,
      kvHeads: 1,
      headDim: 6,
      vocabSize: 9,
    };
    const rest = {
      maxPositions: 1,
      rmsNormEps: 1e-5,
      ropeTheta: 1,
      ropeScaling: null,
      hiddenAct: 'relu' as const,
    };
    const flags = { tieWordEmbeddings: true, attentionBias: false, mlpBias: false };
    const config = { ...sizes, ...rest, ...flags, bosTokenId: null, eosTokenIds: [] };
    const plain = requiredTensors(config);
    expect(plain.size).toBe(2 + 3 * 9);
    expect(plain.get('model.layers.2.self_attn.k_proj.weight')).toEqual([6, 8]);
    expect(plain.get('model.layers.2.self_attn.o_proj.weight')).toEqual([8, 12]);
    expect(plain.get('model.layers.0.mlp.down_proj.weight')).toEqual([8, 12]);
    const all = requiredTensors({ ...config, tieWordEmbeddings: false, attentionBias: true, mlpBias: true });
    expect(all.size).toBe(3 + 3 * 16);
    expect(all.get('model.layers.1.mlp.gate_proj.bias')).toEqual([12]);
    expect(all.get('lm_head.weight')).toEqual([9, 8]);
  });

  /** The made model with other fields in its config.json. */
  async function claiming(options: MakeModelOptions, fields: Record<string, unknown>): Promise<() => void> {
    const folder = makeModel(options);
    const json = JSON.parse(new TextDecoder().decode(folder.files.get('config.json'))) as object;
    const checkpoint = await openCheckpoint(folder.set('config.json', { ...json, ...fields }));
    return () => requireTensors(checkpoint);
  }

  it('lists what is missing', async () => {
    const untied = await claiming({ tied: true }, { tie_word_embeddings: false });
    expect(untied).toThrow(ModelFormatError);
    expect(untied).toThrow(/1 missing: lm_head.weight\./);
    expect(await claiming({}, { attention_bias: true })).toThrow(/8 missing: .*q_proj.bias/);
    const layers = await claiming({}, { num_hidden_layers: 4 });
    expect(layers).toThrow(/18 missing: .* and 6 more/);
    try {
      layers();
    } catch (error) {
      expect((error as ModelFormatError).details.missing).toHaveLength(18);
    }
  });

  it('lists wrong shapes and types', async () => {
    expect(await claiming({}, { vocab_size: 33 })).toThrow(
      /2 of another shape or type: model.embed_tokens.weight \(F32 \[32, 16\], expected \[33, 16\]\)/,
    );
    const folder = makeModel();
    const tensors = [{ name: 'model.norm.weight', dtype: 'I64', shape: [16], data: new BigInt64Array(16) }];
    const checkpoint = await openCheckpoint(folder.set('model.safetensors', writeSafetensors(tensors)));
    expect(() => requireTensors(checkpoint)).toThrow(/I64 \[16\], expected F32, F16 or BF16 \[16\]/);
  });

  it('does not drop biases in silence', async () => {
    const dropped = await claiming({ mlpBias: true }, { mlp_bias: false });
    expect(dropped).toThrow(/6 not in the configuration: model.layers.0.mlp.gate_proj.bias/);
  });
});
