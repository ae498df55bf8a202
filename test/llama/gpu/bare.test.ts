/** A device without subgroups, timestamps and f16: a model's logits are those of a device that has them. */
import { expect, it } from 'vitest';
import { traitsOf } from '../../../src/gpu/traits.js';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { LlamaSession } from '../../../src/llama/session.js';
import { loadWeights } from '../../../src/llama/weights.js';
import { type Strategy, STRATEGIES } from '../../../src/mlp/strategy.js';
import { requestDevice } from '../../../src/node/device.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { smallModel } from '../../support/make-model.js';

const checkpoint = await openCheckpoint(smallModel());
const PROMPT = [3, 1, 4, 1, 5, 9, 2];
const MORE = [6, 5, 3];

async function logitsOf(device: GPUDevice, strategies: readonly Strategy[]): Promise<Float32Array[]> {
  const weights = await loadWeights(device, checkpoint, { dtype: 'f16' });
  const all: Float32Array[] = [];
  for (const strategy of strategies) {
    const session = new LlamaSession(device, weights, { strategy, prefillChunk: 4 });
    all.push((await session.prefill(PROMPT)).slice());
    for (const id of MORE) all.push((await session.next(id)).slice());
    session.destroy();
  }
  weights.destroy();
  return all;
}

describeAdapters('a model on a device without features', (ctx) => {
  it('has the same logits, by every strategy', async () => {
    const errors: string[] = [];
    const bare = await requestDevice({
      adapter: ctx.adapter.name,
      features: [],
      tuning: false,
      log: (message) => errors.push(message),
    });
    expect(traitsOf(bare.device)).toMatchObject({ subgroup: 0, f16: false, timestamps: false });
    const [wanted, got] = [await logitsOf(ctx.device, STRATEGIES), await logitsOf(bare.device, STRATEGIES)];
    for (const [i, logits] of got.entries()) {
      const size = Math.max(...wanted[i].map(Math.abs));
      expect(largestDifference(logits, wanted[i]), `${i}`).toBeLessThan(1e-5 * size);
    }
    expect(errors).toEqual([]);
    bare.destroy();
  });
});
