/** Small random models of every kind against the float64 twin, by every strategy. */
import { describe, expect, it } from 'vitest';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import type { StoredDtype } from '../../../src/gpu/layout.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import type { DevicePool } from '../../../src/pool/device-pool.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { LlamaTwin } from '../../support/llama-twin.js';
import { type MakeModelOptions, makeModel, randomSource } from '../../support/make-model.js';
import { smallDevice } from '../../support/small-device.js';
import { StoredCheckpoint } from '../../support/stored.js';

const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
/** Logits are of order 1 to 10; this is what f32 sums of this length may lose. */
const ALLOWED = 5e-5;

const LLAMA3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 32,
};

/** Odd on purpose: rows that are no multiple of a vector, heads wider than the hidden size, N past a mask word. */
const MODELS: [string, MakeModelOptions][] = [
  ['silu, f32', { act: 'silu', hidden: 20, intermediate: 37, heads: 2, headDim: 10 }],
  [
    'gelu, tied, all biases, 2 queries a key, f16',
    {
      act: 'gelu',
      hidden: 20,
      intermediate: 37,
      heads: 4,
      kvHeads: 2,
      headDim: 10,
      tied: true,
      attentionBias: true,
      mlpBias: true,
      dtype: 'f16',
    },
  ],
  [
    'gelu_tanh, MLP biases, 4 queries a key, bf16 in shards',
    {
      act: 'gelu_new',
      hidden: 20,
      intermediate: 37,
      heads: 4,
      kvHeads: 1,
      headDim: 20,
      mlpBias: true,
      dtype: 'bf16',
      sharded: true,
    },
  ],
  [
    'relu, tied, attention biases, llama3 rope, heads of 80',
    {
      act: 'relu',
      hidden: 20,
      intermediate: 65,
      heads: 4,
      kvHeads: 2,
      headDim: 80,
      tied: true,
      attentionBias: true,
      config: { rope_scaling: LLAMA3 },
    },
  ],
  [
    'relu, all biases, heads of 128, f16 in shards, 3 layers',
    {
      act: 'relu',
      hidden: 36,
      intermediate: 70,
      layers: 3,
      heads: 2,
      kvHeads: 1,
      headDim: 128,
      attentionBias: true,
      mlpBias: true,
      dtype: 'f16',
      sharded: true,
    },
  ],
  [
    'silu, linear rope, one layer, a vocabulary and an MLP of 3',
    {
      act: 'silu',
      hidden: 6,
      intermediate: 3,
      layers: 1,
      heads: 1,
      headDim: 2,
      vocab: 3,
      config: { rope_scaling: { type: 'linear', factor: 4 } },
    },
  ],
];

const randomIds = (count: number, vocab: number, seed = 7) => {
  const random = randomSource(seed);
  return Array.from({ length: count }, () => Math.floor(random() * vocab));
};

/** Logits at every position in float64, of the weights as the device stores them. */
async function twinOf(checkpoint: Checkpoint, dtype: StoredDtype, ids: number[]): Promise<Float64Array[]> {
  return (await LlamaTwin.load(new StoredCheckpoint(checkpoint, dtype))).forward(ids);
}

describeAdapters('made models', (ctx) => {
  async function withWeights(
    checkpoint: Checkpoint,
    dtype: StoredDtype,
    use: (weights: LlamaWeights) => Promise<void>,
    device = ctx.device,
  ): Promise<void> {
    const before = gpuBytes(device);
    const weights = await loadWeights(device, checkpoint, { dtype });
    try {
      await use(weights);
    } finally {
      weights.destroy();
    }
    expect(gpuBytes(device)).toBe(before);
  }

  /** Prefills `prefilled` ids, decodes the others, and compares the logits from the prompt's last token on. */
  async function checkDecode(
    weights: LlamaWeights,
    options: SessionOptions,
    ids: number[],
    prefilled: number,
    expected: Float64Array[],
  ): Promise<void> {
    const session = new LlamaSession(weights.embedding.device, weights, options);
    try {
      let logits = await session.prefill(ids.slice(0, prefilled));
      for (let i = prefilled; ; i++) {
        const where = `${options.strategy}, position ${i - 1}`;
        expect(largestDifference(logits, expected[i - 1]), where).toBeLessThan(ALLOWED);
        expect(session.position).toBe(i);
        if (i === ids.length) break;
        logits = await session.next(ids[i]);
      }
    } finally {
      session.destroy();
    }
  }

  /** Every position of a prompt, fed in chunks. */
  async function checkPrefillAll(
    weights: LlamaWeights,
    options: SessionOptions,
    ids: number[],
    expected: Float64Array[],
  ): Promise<void> {
    const { vocabSize } = weights.config;
    const session = new LlamaSession(weights.embedding.device, weights, options);
    try {
      const all = await session.prefillAll(ids);
      expect(all.length).toBe(ids.length * vocabSize);
      ids.forEach((_, i) => {
        const logits = all.subarray(i * vocabSize, (i + 1) * vocabSize);
        expect(largestDifference(logits, expected[i]), `prefillAll, position ${i}`).toBeLessThan(ALLOWED);
      });
    } finally {
      session.destroy();
    }
  }

  describe.each(MODELS)('%s', (name, options) => {
    // lavapipe takes seconds to compile a variant: one more dtype for each model.
    const more = (['bf16', 'q8', 'q4'] as const)[MODELS.findIndex(([other]) => other === name) % 3];
    it.each<StoredDtype>(['f32', 'f16', more])(
      'equals the twin by every strategy, stored as %s',
      async (dtype) => {
        const checkpoint = await openCheckpoint(makeModel(options));
        const ids = randomIds(21, checkpoint.config.vocabSize);
        const expected = await twinOf(checkpoint, dtype, ids);
        await withWeights(checkpoint, dtype, async (weights) => {
          // Chunks of 8: the prompt of 21 ends in a chunk of 5, the one of 9 in a chunk of 1.
          await checkPrefillAll(weights, { strategy: 'dense', prefillChunk: 8 }, ids, expected);
          await checkDecode(weights, { strategy: 'dense', prefillChunk: 8 }, ids, 21, expected);
          for (const strategy of STRATEGIES)
            await checkDecode(weights, { strategy, prefillChunk: 8 }, ids, 9, expected);
        });
      },
    );
  });

  it('attends over more positions than a workgroup has lanes', async () => {
    // Positions 63 to 65 and 127 to 129 are where the attention kernel's tiles meet.
    const checkpoint = await openCheckpoint(
      makeModel({
        act: 'relu',
        hidden: 20,
        intermediate: 37,
        heads: 4,
        kvHeads: 2,
        headDim: 10,
        maxPositions: 133,
      }),
    );
    const ids = randomIds(133, checkpoint.config.vocabSize);
    const expected = await twinOf(checkpoint, 'f32', ids);
    await withWeights(checkpoint, 'f32', async (weights) => {
      await checkPrefillAll(weights, { strategy: 'dense' }, ids, expected);
      await checkPrefillAll(weights, { strategy: 'dense', prefillChunk: 200 }, ids, expected);
      await checkDecode(weights, { strategy: 'indexed', prefillChunk: 30 }, ids, 62, expected);
      await checkDecode(weights, { strategy: 'paired', prefillChunk: 1 }, ids, 126, expected);
    });
  });

  it('works without a prompt: the first token by next', async () => {
    const checkpoint = await openCheckpoint(makeModel({ act: 'relu' }));
    const ids = randomIds(4, checkpoint.config.vocabSize);
    const expected = await twinOf(checkpoint, 'f32', ids);
    await withWeights(checkpoint, 'f32', async (weights) => {
      for (const strategy of STRATEGIES) {
        const session = new LlamaSession(ctx.device, weights, { strategy });
        for (const [i, id] of ids.entries())
          expect(largestDifference(await session.next(id), expected[i]), strategy).toBeLessThan(ALLOWED);
        session.destroy();
      }
    });
  });

  describe('pools over several buffers', () => {
    /** Every matrix of it needs two or three bindings of 8 KiB. */
    const options: MakeModelOptions = {
      act: 'relu',
      hidden: 20,
      intermediate: 211,
      heads: 4,
      kvHeads: 2,
      headDim: 20,
      vocab: 150,
      maxPositions: 40,
      attentionBias: true,
      mlpBias: true,
    };
    const limits = { maxStorageBufferBindingSize: 8192 };

    it('equals the twin: dense and indexed', async () => {
      const checkpoint = await openCheckpoint(makeModel(options));
      const ids = randomIds(14, checkpoint.config.vocabSize);
      const expected = await twinOf(checkpoint, 'f32', ids);
      const { device } = smallDevice(ctx.device, limits);
      await withWeights(
        checkpoint,
        'f32',
        async (weights) => {
          expect(weights.embedding.field('weight').shards.length).toBe(2);
          expect(weights.layers[1].qkv.field('weight').shards.length).toBe(2);
          expect(weights.layers[1].gate.field('weight').shards.length).toBe(3);
          expect((weights.layers[1].mlp as DevicePool).field('down').shards.length).toBe(3);
          expect(weights.head.field('weight').shards.length).toBe(2);
          await checkPrefillAll(weights, { strategy: 'dense', prefillChunk: 4 }, ids, expected);
          await checkDecode(weights, { strategy: 'dense', prefillChunk: 4 }, ids, 6, expected);
          await checkDecode(weights, { strategy: 'indexed', prefillChunk: 4 }, ids, 6, expected);
        },
        device,
      );
    });

    it('equals the twin: repack and paired, whose slab must be one buffer', async () => {
      const checkpoint = await openCheckpoint(makeModel({ ...options, vocab: 230, intermediate: 100 }));
      const ids = randomIds(10, checkpoint.config.vocabSize);
      const expected = await twinOf(checkpoint, 'f32', ids);
      const { device } = smallDevice(ctx.device, limits);
      await withWeights(
        checkpoint,
        'f32',
        async (weights) => {
          expect(weights.head.field('weight').shards.length).toBe(3);
          for (const strategy of ['repack', 'paired'] as const)
            await checkDecode(weights, { strategy, prefillChunk: 4 }, ids, 6, expected);
        },
        device,
      );
    });
  });
});
