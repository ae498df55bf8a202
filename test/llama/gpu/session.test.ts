/** What a session keeps, counts, refuses and gives back. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DeviceLimitError, OptionError, RowError, ShapeError } from '../../../src/errors.js';
import { gpuBytes } from '../../../src/gpu/buffers.js';
import { type Checkpoint, openCheckpoint } from '../../../src/llama/checkpoint.js';
import type { Mode } from '../../../src/llama/mode.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../../src/llama/weights.js';
import type { DevicePool } from '../../../src/pool/device-pool.js';
import type { Strategy } from '../../../src/mlp/strategy.js';
import { describeAdapters } from '../../support/adapters.js';
import { largestDifference } from '../../support/compare-logits.js';
import { activeRows, gateTwin } from '../../support/gate-twin.js';
import { argmax, LlamaTwin } from '../../support/llama-twin.js';
import { SMALL_CONTEXT as CONTEXT, smallModel } from '../../support/make-model.js';
import { smallDevice } from '../../support/small-device.js';
import { SlotsTwin } from '../../support/slots-twin.js';

const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
const ALLOWED = 5e-5;
const checkpoint: Checkpoint = await openCheckpoint(smallModel());
const { layers, vocabSize } = checkpoint.config;
const PROMPT = [3, 1, 4, 1, 5, 9];
const MORE = [2, 6, 5, 3, 5, 8, 9, 7, 9, 3];
const OTHER = [27, 18, 28, 18, 28, 4, 5, 9, 0, 4, 5];
const twin = async (ids: number[]) => (await LlamaTwin.load(checkpoint)).forward(ids);

describeAdapters('a session', (ctx) => {
  let weights: LlamaWeights;
  beforeAll(async () => {
    weights = await loadWeights(ctx.device, checkpoint);
  });
  afterAll(() => weights.destroy());

  async function withSession(
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<void>,
  ): Promise<void> {
    const before = gpuBytes(ctx.device);
    const session = new LlamaSession(ctx.device, weights, { prefillChunk: 8, ...options });
    try {
      await use(session);
    } finally {
      session.destroy();
    }
    expect(gpuBytes(ctx.device), 'destroy gives everything back').toBe(before);
  }

  /** Prefills PROMPT, decodes MORE. */
  async function run(session: LlamaSession): Promise<Float32Array[]> {
    const all = [await session.prefill(PROMPT)];
    for (const id of MORE) all.push(await session.next(id));
    return all;
  }

  describe.each(STRATEGIES)('%s', (strategy) => {
    it('gives the same after reset, whatever came before', async () => {
      const expected = (await twin([...PROMPT, ...MORE])).slice(PROMPT.length - 1);
      await withSession({ strategy }, async (session) => {
        const first = await run(session);
        session.reset();
        expect(session.position).toBe(0);
        await session.prefill(OTHER);
        for (const id of PROMPT) await session.next(id);
        session.reset();
        const again = await run(session);
        for (const [i, logits] of again.entries()) {
          expect(largestDifference(logits, expected[i])).toBeLessThan(ALLOWED);
          // Slabs keep their rows, in another order, so sums may differ in the last bits.
          expect(largestDifference(logits, first[i])).toBeLessThan(1e-5);
        }
      });
    });

    it('is not disturbed by another session on the same weights', async () => {
      const a = (await twin([...PROMPT, ...MORE])).slice(PROMPT.length - 1);
      const b = (await twin(OTHER)).slice(2);
      const one = new LlamaSession(ctx.device, weights, { strategy });
      const two = new LlamaSession(ctx.device, weights, { strategy });
      const found = [await one.prefill(PROMPT)];
      const others = [await two.prefill(OTHER.slice(0, 3))];
      for (let i = 0; i < 8; i++) {
        // At once, not one after the other: both submit before either has read.
        const [x, y] = await Promise.all([one.next(MORE[i]), two.next(OTHER[3 + i])]);
        found.push(x);
        others.push(y);
      }
      // One goes on when the other is gone.
      two.destroy();
      found.push(await one.next(MORE[8]));
      one.destroy();
      for (const [i, logits] of found.entries())
        expect(largestDifference(logits, a[i])).toBeLessThan(ALLOWED);
      for (const [i, logits] of others.entries())
        expect(largestDifference(logits, b[i])).toBeLessThan(ALLOWED);
    });

    it('holds the same bytes over 50 tokens', async () => {
      await withSession({ strategy }, async (session) => {
        await session.prefill(PROMPT);
        await session.next(1);
        const [own, all] = [session.bytes, gpuBytes(ctx.device)];
        for (let i = 0; i < 50; i++) await session.next((i * 7) % vocabSize);
        expect([session.bytes, gpuBytes(ctx.device)]).toEqual([own, all]);
        // A second sequence needs no more than the first.
        session.reset();
        await session.prefill(OTHER);
        await session.next(1);
        expect([session.bytes, gpuBytes(ctx.device)]).toEqual([own, all]);
      });
    });

    it('refuses a token beyond the context, and goes on after reset', async () => {
      await withSession({ strategy }, async (session) => {
        const ids = Array.from({ length: CONTEXT }, (_, i) => (i * 5) % vocabSize);
        const expected = await twin(ids);
        await session.prefill(ids.slice(0, CONTEXT - 1));
        await expect(session.prefill([1, 2])).rejects.toBeInstanceOf(ShapeError);
        const logits = await session.next(ids[CONTEXT - 1]);
        expect(largestDifference(logits, expected[CONTEXT - 1])).toBeLessThan(ALLOWED);
        const { lastStep } = session;
        const full = session.next(1);
        await expect(full).rejects.toBeInstanceOf(ShapeError);
        await expect(full).rejects.toMatchObject({
          details: { tokens: 1, position: CONTEXT, context: CONTEXT },
        });
        await expect(session.prefillAll([1])).rejects.toBeInstanceOf(ShapeError);
        expect(session.position).toBe(CONTEXT);
        expect(session.lastStep).toBe(lastStep);
        session.reset();
        await expect(session.prefill([...ids, 1])).rejects.toBeInstanceOf(ShapeError);
        expect(argmax((await run(session))[0])).toBe(argmax((await twin(PROMPT))[PROMPT.length - 1]));
      });
    });
  });

  describe('what a step counts', () => {
    /** Active rows in float64: [step][layer]. */
    let rows: number[][][];
    beforeAll(async () => {
      const perLayer = await Promise.all(
        Array.from({ length: layers }, (_, layer) => gateTwin(checkpoint, layer, [...PROMPT, ...MORE])),
      );
      // No gate so near 0 that f32 might see it on the other side.
      const nearest = Math.min(...perLayer.flatMap((g) => g.flatMap((v) => [...v].filter((x) => x > 0))));
      expect(nearest).toBeGreaterThan(1e-5);
      rows = MORE.map((_, step) => perLayer.map((gates) => activeRows(gates[PROMPT.length + step])));
    });

    it('dense: nothing but one submit and one readback', async () => {
      await withSession({ strategy: 'dense' }, async (session) => {
        await run(session);
        expect(session.lastStep).toEqual({ active: null, updates: [], submits: 1, readbacks: 1 });
      });
    });

    it('indexed: the rows of each layer, one submit and one readback', async () => {
      await withSession({ strategy: 'indexed' }, async (session) => {
        await session.prefill(PROMPT);
        for (const [step, id] of MORE.entries()) {
          await session.next(id);
          const active = rows[step].map((layer) => layer.length);
          expect(session.lastStep).toEqual({ active, updates: [], submits: 1, readbacks: 1 });
        }
      });
    });

    it.each(['repack', 'paired'] as const)(
      '%s: what each slab wrote, and a wait per layer',
      async (strategy) => {
        await withSession({ strategy, planOn: 'host' }, async (session) => {
          const slabs = Array.from({ length: layers }, () => new SlotsTwin());
          const rowBytes = weights.layers[0].mlp.rowBytes;
          await session.prefill(PROMPT);
          for (const [step, id] of MORE.entries()) {
            await session.next(id);
            const { active, updates, submits, readbacks } = session.lastStep;
            const expected = slabs.map((slab, layer) => slab.update(rows[step][layer], strategy));
            expect(active).toEqual(rows[step].map((layer) => layer.length));
            expect(updates.length).toBe(layers);
            for (const [layer, update] of updates.entries()) {
              const { writes, minimum } = expected[layer];
              const bytes = { bytes: writes * rowBytes, minimumBytes: minimum * rowBytes };
              expect(update, `step ${step}, layer ${layer}`).toMatchObject({ ...expected[layer], ...bytes });
              expect(update.deferred).toBeNull();
            }
            expect({ submits, readbacks }).toEqual({ submits: layers + 1, readbacks: layers + 1 });
          }
        });
      },
    );

    it('paired: nothing is written when the rows stay', async () => {
      await withSession({ strategy: 'paired' }, async (session) => {
        await session.next(7);
        session.reset();
        const first = await session.next(7);
        for (const update of session.lastStep.updates)
          expect(update).toMatchObject({ kind: 'none', writes: 0 });
        session.reset();
        expect(await session.next(7)).toEqual(first);
      });
    });
  });

  describe('what it refuses', () => {
    it.each([-1, vocabSize, 1.5, Number.NaN, 2 ** 32])('token %d: RowError before any work', async (id) => {
      const expected = (await twin([...PROMPT, MORE[0]]))[PROMPT.length];
      await withSession({ strategy: 'indexed' }, async (session) => {
        await session.prefill(PROMPT);
        await expect(session.next(id)).rejects.toBeInstanceOf(RowError);
        // The last of more than a chunk: nothing of the chunks before it may have been fed.
        const long = [...OTHER, id];
        await expect(session.prefill(long)).rejects.toMatchObject({ details: { id, i: OTHER.length } });
        await expect(session.prefillAll(long)).rejects.toBeInstanceOf(RowError);
        await expect(session.visitGates([id], () => {})).rejects.toBeInstanceOf(RowError);
        expect(session.position).toBe(PROMPT.length);
        expect(largestDifference(await session.next(MORE[0]), expected)).toBeLessThan(ALLOWED);
      });
    });

    it('an empty prompt', async () => {
      await withSession({}, async (session) => {
        await expect(session.prefill([])).rejects.toBeInstanceOf(ShapeError);
        await expect(session.prefillAll([])).rejects.toBeInstanceOf(ShapeError);
        await expect(session.visitGates([], () => {})).rejects.toBeInstanceOf(ShapeError);
        await expect(session.visitGates(OTHER, () => {})).rejects.toThrow(/11 tokens; at most 8/);
        expect(session.position).toBe(0);
      });
    });

    it.each<[string, SessionOptions, RegExp]>([
      ['strategy', { strategy: 'fast' as Strategy }, /strategy "fast" is unknown.*dense, indexed/],
      ['strategy of Object', { strategy: 'toString' as Strategy }, /strategy "toString" is unknown/],
      ['mode', { mode: 'rough' as Mode }, /mode "rough" is unknown.*exact, threshold/],
      ['chunk of 0', { prefillChunk: 0 }, /prefillChunk must be an integer/],
      ['chunk of 1.5', { prefillChunk: 1.5 }, /prefillChunk must be an integer/],
      ['chunk of NaN', { prefillChunk: Number.NaN }, /prefillChunk must be an integer/],
    ])('unknown %s: OptionError, nothing allocated', (_name, options, message) => {
      const before = gpuBytes(ctx.device);
      expect(() => new LlamaSession(ctx.device, weights, options)).toThrow(OptionError);
      expect(() => new LlamaSession(ctx.device, weights, options)).toThrow(message);
      expect(gpuBytes(ctx.device)).toBe(before);
    });

    it('a slab larger than a binding: DeviceLimitError, nothing stays allocated', async () => {
      // 70 rows of 80 bytes are more than one binding, so that the pools are cut in two.
      const { device } = smallDevice(ctx.device, { maxStorageBufferBindingSize: 5200 });
      const cut = await loadWeights(device, checkpoint, { context: 16 });
      expect((cut.layers[0].mlp as DevicePool).field('up').shards.length).toBe(2);
      const before = gpuBytes(device);
      expect(() => new LlamaSession(device, cut, { strategy: 'paired' })).toThrow(DeviceLimitError);
      expect(gpuBytes(device)).toBe(before);
      cut.destroy();
    });
  });

  it('takes auto for a strategy, and reports what it chose', async () => {
    await withSession({ strategy: 'auto' }, async (session) => {
      expect(session.strategy).toBe('auto');
      const expected = (await twin([...PROMPT, ...MORE])).slice(PROMPT.length - 1);
      for (const [i, logits] of (await run(session)).entries())
        expect(largestDifference(logits, expected[i])).toBeLessThan(ALLOWED);
      const { layers, intermediateSize } = session.weights.config;
      const told = session.explain();
      expect(told).toHaveLength(layers);
      told.forEach(({ step, strategy, because }, l) => {
        expect(STRATEGIES).toContain(strategy);
        expect(step).toMatchObject({
          rows: intermediateSize,
          active: session.lastStep.active?.[l],
          batch: 1,
        });
        expect(because).toMatch(/rows are active/);
      });
    });
  });

  it('tells how far a prompt is', async () => {
    await withSession({}, async (session) => {
      const told: [number, number][] = [];
      await session.prefill([...OTHER, ...PROMPT], (done, total) => told.push([done, total]));
      expect(told).toEqual([
        [8, 17],
        [16, 17],
        [17, 17],
      ]);
    });
  });
});
