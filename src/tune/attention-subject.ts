import { type BufferGroup, roundUp, upload } from '../gpu/buffers.js';
import { traitsOf } from '../gpu/traits.js';
import { AttentionOp } from '../llama/attention-op.js';
import { type AttentionVariant, attentionVariants } from '../llama/attention-variants.js';
import { headQuads } from '../llama/kernels.js';
import { randomValues } from './random-values.js';
import type { TuneTask } from './shapes.js';
import type { Made } from './subjects.js';

/** Tokens of the batched task. */
const BATCH = 16;
/** Caches that steps take in turn, as the layers of a model do. */
const LAYERS = 4;

/** Attention of one token, or of a batch, over a cache of the task's positions: the op that layers run. */
export function attentionSubject(memory: BufferGroup, task: TuneTask): Made {
  const { hidden: headDim, rows: positions, heads: groups } = task;
  const { batched } = task.for;
  const { device } = memory;
  const shape = { ...(groups as NonNullable<TuneTask['heads']>), headDim };
  const { heads, kvHeads } = shape;
  const batch = batched ? Math.min(BATCH, positions) : 1;
  const values = (length: number, seed: number): GPUBuffer => {
    const data = randomValues(roundUp(length, 4), seed);
    const buffer = memory.storage('tuning attention', data.byteLength);
    upload(device, buffer, 0, data);
    return buffer;
  };
  const cached = () =>
    Array.from({ length: LAYERS }, (_, l) => values(positions * kvHeads * headQuads(headDim) * 4, l + 1));
  const qkvStride = (heads + 2 * kvHeads) * headDim;
  const outStride = heads * headDim;
  const given = values(batch * qkvStride, 5);
  const shared = {
    shape,
    maxBatch: batch,
    step: memory.uniform('tuning step', [batch, positions - batch]),
    qkv: memory.storage('tuning qkv', given.size),
    qkvStride,
    turns: values(positions * headDim, 6),
    cache: { keys: cached(), values: cached() },
    out: memory.storage('tuning out', batch * outStride * 4),
    outStride,
  };
  return {
    variants: attentionVariants(traitsOf(device), shape, positions, batched).map((variant) => ({
      ...variant,
    })),
    axis: 'spans',
    outcome: {
      buffer: shared.out,
      compare: 'values',
      // rope turns queries where they lie.
      restore: (encoder) => encoder.copyBufferToBuffer(given, 0, shared.qkv, 0, given.size),
    },
    build(variant) {
      const op = new AttentionOp(memory, { ...shared, variant: variant as unknown as AttentionVariant });
      return (encoder, times) => {
        const pass = encoder.beginComputePass({ label: 'pairslab tuning' });
        for (let t = 0; t < times; t++) op.encode(pass, t % LAYERS, batch, positions);
        pass.end();
      };
    },
  };
}
