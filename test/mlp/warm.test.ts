/** Once it is warm, a step makes nothing on the device: no buffer, bind group, kernel or error scope. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Bitmask } from '../../src/mask/index.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { STRATEGIES } from '../../src/mlp/strategy.js';
import { HostPool } from '../../src/pool/host-pool.js';
import { UploadRing } from '../../src/slab/upload-ring.js';
import { Slab } from '../../src/slab/slab.js';
import { updateMany } from '../../src/slab/update-many.js';
import { makeSpecs, randomMask } from '../slab/twin.js';
import { describeAdapters } from '../support/adapters.js';
import { made } from '../support/count-made.js';
import { makeLayer } from '../support/make-layer.js';
import { randomSource } from '../support/make-model.js';

const ROWS = 64;
const HIDDEN = 20;
/** As many as there are places for lists, and again. */
const masks = Array.from({ length: 8 }, (_, n) => randomMask(randomSource(n), ROWS, 16 + (n % 3)));
const input = (batch: number) => Float32Array.from({ length: batch * HIDDEN }, (_, i) => Math.sin(i));

describeAdapters('once warm', (ctx) => {
  let mlp: SparseMLP;
  beforeEach(async () => {
    mlp = await SparseMLP.create(ctx.device, makeLayer({ rows: ROWS, hidden: HIDDEN }).weights);
  });
  afterEach(() => mlp.destroy());

  it.each([...STRATEGIES])('`forward` makes nothing: %s', async (strategy) => {
    const steps = async () => {
      for (const mask of masks) await mlp.forward(input(1), { mask, strategy });
    };
    expect(await made(ctx.device, steps), 'the first calls').not.toEqual([]);
    await steps();
    expect(await made(ctx.device, steps)).toEqual([]);
  });

  it('`forward` makes nothing where batches, masks of their own, strategies and calls at once take turns', async () => {
    const steps = async () => {
      for (const [n, mask] of masks.entries()) {
        const own = [mask, masks[(n + 1) % masks.length], masks[(n + 2) % masks.length]];
        for (const strategy of ['indexed', 'paired'] as const) {
          await mlp.forward(input(3), { mask: own, strategy });
          await mlp.forward(input(2), { mask, strategy });
          const both = [1, 2].map(() => mlp.forward(input(1), { mask, strategy }));
          expect((await Promise.all(both)).map(({ length }) => length)).toEqual([HIDDEN, HIDDEN]);
        }
      }
    };
    // Two of the calls and of the places for lists meet again only after some rounds.
    for (let round = 0; round < 4; round++) await steps();
    expect(await made(ctx.device, steps)).toEqual([]);
  });

  it('an update makes nothing: rows of the device, of the host, of many slabs', async () => {
    const { specs } = makeSpecs(ROWS, { up: { cols: [5] }, down: { cols: [6] } });
    const { device } = ctx;
    const host = HostPool.from(specs);
    const slabs = [new Slab(mlp.pool), new Slab(mlp.pool, { capacity: 30 })];
    const far = new Slab(host, { ring: new UploadRing(device) });
    const steps = async () => {
      for (const [n, mask] of masks.entries()) {
        for (const slab of [...slabs, far]) slab.update(n % 4 === 3 ? Bitmask.empty(ROWS) : mask);
        updateMany(slabs, [masks[(n + 1) % masks.length], mask]);
        slabs[0].update(masks[n], { strategy: 'repack', repackBy: n % 2 ? 'ids' : 'mask' });
      }
    };
    for (let round = 0; round < 4; round++) await steps();
    expect(await made(device, steps)).toEqual([]);
    for (const slab of [...slabs, far]) slab.destroy();
  });
});
