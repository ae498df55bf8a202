/** attention and attention_merge, in the variants that a device has and by the op that layers run. */
import { describe, expect, it } from 'vitest';
import { attention as attentionTwin } from '../../shaders/attention.js';
import { rope as ropeTwin } from '../../shaders/rope.js';
import { ShapeError } from '../../src/errors.js';
import { BufferGroup, f32Bits, roundUp } from '../../src/gpu/buffers.js';
import { type Traits, traitsOf } from '../../src/gpu/traits.js';
import { AttentionOp } from '../../src/llama/attention-op.js';
import {
  attentionChoice,
  attentionTunedFor,
  attentionVariant,
  type AttentionVariant,
  attentionVariants,
  type HeadShape,
} from '../../src/llama/attention-variants.js';
import { setTuning } from '../../src/gpu/tuning.js';
import { attention, attentionMerge, headQuads } from '../../src/llama/kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { Expected, sizes } from './compare.js';
import { type Lab, type Launch, spread, useLab } from './lab.js';
import { randomValues, source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const headsOf = (groups: string, headDim: number): HeadShape => {
  const [heads, kvHeads] = groups.split('/').map(Number);
  return { heads, kvHeads, headDim };
};

const cases = pairwise(
  {
    walk: ['tiles', 'subgroup'],
    // Heads of a workgroup: those that share their keys, or a divisor of them.
    share: [1, 2, 3, 4],
    // Rows of lanes that each have a share of the positions.
    parts: [1, 4],
    // Positions between two barriers: fewer than lanes take at once, and more.
    TILE: [32, 256],
    heads: ['4/4', '4/2', '6/1', '8/2'],
    dim: [2, 20, 64],
    batch: [1, 3],
    position: [0, 1, 15, 200],
    spans: [1, 3],
    // How sharp the softmax is: 30 makes scores of hundreds, where only the largest few count.
    sharpness: [1, 30],
  } as const,
  source(12),
  ({ walk, share, heads, dim, parts }) => {
    const [all, kv] = heads.split('/').map(Number);
    return (all / kv) % share === 0 && (walk === 'subgroup' || share === 1) && (dim < 64 || parts === 1);
  },
);

/** [positions, kvHeads, dim] as it is cached, and `beyond` positions that nothing may look at. */
function cached(lab: Lab, data: Float32Array, { kvHeads, headDim }: HeadShape, beyond: number): GPUBuffer {
  const wide = roundUp(headDim, 4);
  const rows = data.length / headDim;
  const all = new Float32Array((rows + beyond * kvHeads) * wide).fill(Number.NaN);
  // The padding of a head is zero, as in a fresh cache.
  all.fill(0, 0, rows * wide);
  for (let r = 0; r < rows; r++) all.set(data.subarray(r * headDim, (r + 1) * headDim), r * wide);
  return lab.buffer(all);
}

/** The dispatches of one variant, the second pass included. */
function launches(
  lab: Lab,
  traits: Traits,
  shape: HeadShape,
  variant: AttentionVariant,
  run: Pick<Launch, 'params' | 'step' | 'buffers'> & { fresh: string; batch: number; outStride: number },
): Launch[] {
  const { heads, headDim } = shape;
  const { spans } = variant;
  const choice = attentionChoice(traits, shape, variant);
  const mixed = lab.poisoned(spans > 1 ? run.batch * heads * spans * (headQuads(headDim) + 1) * 4 : 4);
  const first: Launch = {
    table: attention,
    variant: { ...choice, slots: { ...choice.slots, fresh: run.fresh } },
    params: run.params,
    step: run.step,
    buffers: { ...run.buffers, mixed_spans: mixed },
    grid: [heads / variant.heads, run.batch, spans],
  };
  if (spans === 1) return [first];
  const merge: Launch = {
    table: attentionMerge,
    variant: { constants: { WORKGROUP: 8 } },
    params: [heads, headDim, run.outStride, spans],
    buffers: { spans: mixed, out: run.buffers.out },
    grid: [heads, run.batch, 1],
  };
  return [first, merge];
}

describeAdapters('attention', (ctx) => {
  cases.forEach((one, seed) => {
    it.skipIf(one.walk === 'subgroup' && !ctx.has('subgroups'))(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { walk, dim, batch, position, share, spans, TILE } = one;
        const traits = traitsOf(ctx.device);
        const shape = headsOf(one.heads, dim);
        const { heads, kvHeads } = shape;
        const lanes = walk === 'subgroup' ? traits.subgroup : 8;
        const WORKGROUP = lanes * one.parts;
        const random = source(seed);
        const length = position + batch;
        const q = randomValues(random, batch * heads * dim).map((v) => v * one.sharpness);
        const keys = randomValues(random, length * kvHeads * dim);
        const values = randomValues(random, length * kvHeads * dim);
        const qStride = heads * dim + 2 * kvHeads * dim;
        const outStride = heads * dim + 5;
        const out = lab.poisoned(batch * outStride);
        const scale = Math.fround(1 / Math.sqrt(dim));
        const variant = { walk, heads: share, spans, rope: 'apart', WORKGROUP, TILE } as const;
        lab.run(
          ...launches(lab, traits, shape, variant, {
            fresh: 'cached',
            batch,
            outStride,
            params: [heads, kvHeads, dim, qStride, outStride, f32Bits(scale)],
            step: [batch, position],
            buffers: {
              q: lab.buffer(spread(q, heads * dim, qStride, Number.NaN)),
              keys: cached(lab, keys, shape, 3),
              values: cached(lab, values, shape, 3),
              out,
            },
          }),
        );
        const input = { heads, kvHeads, dim, position, scale };
        const want = attentionTwin({ ...input, q, keys, values });
        // A score's error, relative to the sum its dot product adds up, becomes the relative error of its weight.
        const score = 1 + one.sharpness * scale * dim * 0.3;
        const size = attentionTwin({ ...input, q, keys, values: sizes(values) }).map((v) => v * score);
        new Expected(batch * outStride)
          .setRows(want, size, heads * dim, outStride)
          .check(await lab.read(out));
      }),
    );
  });
});

const frequenciesOf = (half: number) => Float64Array.from({ length: half }, (_, d) => 10_000 ** (-d / half));

/** One token after `position` others: what is there before it, and what it must leave. */
function token(shape: HeadShape, position: number) {
  const { heads, kvHeads, headDim: dim } = shape;
  const random = source(dim);
  const frequencies = frequenciesOf(dim / 2);
  const qkv = randomValues(random, (heads + 2 * kvHeads) * dim);
  const past = [0, 1].map(() => randomValues(random, position * kvHeads * dim));
  const turns = new Float32Array((position + 1) * dim).fill(Number.NaN);
  frequencies.forEach((frequency, d) => {
    turns[position * dim + 2 * d] = Math.cos(position * frequency);
    turns[position * dim + 2 * d + 1] = Math.sin(position * frequency);
  });
  const turned = ropeTwin(qkv, position, frequencies);
  const newKeys = turned.slice(heads * dim, (heads + kvHeads) * dim);
  const newValues = qkv.slice((heads + kvHeads) * dim);
  const scale = Math.fround(1 / Math.sqrt(dim));
  const input = { heads, kvHeads, dim, position, scale, q: turned.slice(0, heads * dim) };
  const keys = [...past[0], ...newKeys];
  const values = [...past[1], ...newValues];
  const want = attentionTwin({ ...input, keys, values });
  const size = attentionTwin({ ...input, keys, values: values.map(Math.abs) }).map(
    (v) => v * (1 + scale * dim),
  );
  return { qkv, past, turns, newKeys, newValues, want, size };
}

describeAdapters('attention of a token that is turned and cached on the way', (ctx) => {
  // Every variant that the device could choose for the shape, by the op that layers run.
  it.for([
    ['6/1', 10, 300],
    ['4/2', 20, 1100],
  ] as const)('heads %s of %d at position %d', ([groups, dim, position]) =>
    useLab(ctx.device, async (lab) => {
      const shape = headsOf(groups, dim);
      const { heads, kvHeads } = shape;
      const { qkv, past, turns, newKeys, newValues, want, size } = token(shape, position);
      const outStride = heads * dim + 3;
      const wide = roundUp(dim, 4);
      for (const variant of attentionVariants(traitsOf(ctx.device), shape, position + 1, false)) {
        const memory = new BufferGroup(ctx.device);
        // This token's place is poisoned, to be written and never read before; and so is the one after it.
        // Where rope is apart, the padding of its place stays zero, as in a fresh cache.
        const own = variant.rope === 'fused' ? 2 : 1;
        const zeros = new Float32Array((2 - own) * kvHeads * dim);
        const [keys, values] = past.map((data) =>
          cached(lab, Float32Array.from([...data, ...zeros]), shape, own),
        );
        const out = lab.poisoned(outStride);
        const op = new AttentionOp(memory, {
          shape,
          maxBatch: 1,
          step: lab.uniform([1, position]),
          qkv: lab.buffer(qkv),
          qkvStride: qkv.length,
          turns: lab.buffer(turns),
          cache: { keys: [keys], values: [values] },
          out,
          outStride,
          variant,
        });
        const encoder = ctx.device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        // Twice: what it leaves for itself must not be looked at again; q is turned in place where rope is apart.
        for (let times = variant.rope === 'fused' ? 2 : 1; times > 0; times--)
          op.encode(pass, 0, 1, position + 1);
        pass.end();
        ctx.device.queue.submit([encoder.finish()]);
        new Expected(outStride).setRows(want, size, heads * dim, heads * dim).check(await lab.read(out));
        const [gotKeys, gotValues] = await Promise.all(
          [keys, values].map(async (buffer) => new Float32Array((await lab.read(buffer)).buffer)),
        );
        for (let c = 0; c < kvHeads * dim; c++) {
          const at = (position * kvHeads + Math.floor(c / dim)) * wide + (c % dim);
          expect(Math.abs(gotKeys[at] - newKeys[c])).toBeLessThan(1e-5);
          expect(gotValues[at]).toBe(newValues[c]);
        }
        expect(gotKeys[(position + 1) * kvHeads * wide], 'beyond this position').toBeNaN();
        memory.destroy();
      }
    }),
  );

  it('takes the variant that was tuned for about so many positions', () => {
    const { device } = ctx;
    const shape = headsOf('4/2', 64);
    const [usual, other] = attentionVariants(traitsOf(device), shape, 1024, false);
    setTuning(device, { entries: [{ ...attentionTunedFor(64, 1024, false), variant: { ...other } }] });
    expect(attentionVariant(device, shape, 700, false)).toEqual(other);
    const [batched] = attentionVariants(traitsOf(device), shape, 700, true);
    expect(attentionVariant(device, shape, 700, true)).toEqual(batched);
    setTuning(device, null);
    expect(attentionVariant(device, shape, 1024, false)).toEqual(usual);
  });
});

describe('variants of attention', () => {
  const software: Traits = {
    software: true,
    subgroup: 8,
    f16: false,
    timestamps: false,
    subnormals: false,
    softwareKit: true,
    octets: false,
    fastTexels: false,
  };
  const gpu: Traits = { ...software, software: false, subgroup: 32 };
  const llama = headsOf('32/8', 64);

  it('share keys among heads only where a group of heads divides', () => {
    for (const groups of ['32/8', '9/3', '4/4', '10/2', '7/1'])
      for (const { heads } of attentionVariants(gpu, headsOf(groups, 64), 4096, false))
        expect((headsOf(groups, 64).heads / headsOf(groups, 64).kvHeads) % heads).toBe(0);
  });

  it('are each there once, whatever the adapter', () => {
    for (const traits of [
      software,
      gpu,
      { ...gpu, subgroup: 0 },
      { ...software, subgroup: 0 },
      { ...gpu, subgroup: 4 },
    ])
      for (const positions of [1, 128, 1024, 4096, 100_000])
        for (const batched of [false, true]) {
          const all = attentionVariants(traits, llama, positions, batched).map((one) => JSON.stringify(one));
          expect(new Set(all).size).toBe(all.length);
          if (traits.subgroup === 0) expect(all.join()).not.toContain('"subgroup"');
        }
  });

  it('cut long contexts into spans on a GPU, short ones and batches never', () => {
    const spans = (positions: number, batched = false) =>
      attentionVariants(gpu, llama, positions, batched)[0].spans;
    expect([1, 128, 255].map((positions) => spans(positions))).toEqual([1, 1, 1]);
    expect([256, 1024, 4096, 65_536].map((positions) => spans(positions))).toEqual([2, 8, 32, 32]);
    expect(spans(4096, true)).toBe(1);
    expect(attentionVariants(software, llama, 4096, false)[0].spans).toBe(1);
  });

  it('have room for large heads, or name those that they have none for', () => {
    const [wide] = attentionVariants(software, headsOf('1/1', 2048), 128, false);
    expect(wide).toMatchObject({ walk: 'tiles', WORKGROUP: 256 });
    expect(() => attentionVariants(gpu, headsOf('1/1', 8196), 128, false)).toThrow(ShapeError);
    expect(() => attentionVariants(gpu, headsOf('1/1', 8196), 128, false)).toThrow(
      /heads of 8196 dimensions/,
    );
  });
});
