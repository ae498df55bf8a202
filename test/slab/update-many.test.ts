/** Several slabs in one call: bit for bit what single updates leave, in one submit and with one upload. */
import { expect, it } from 'vitest';
import { CapacityError, OptionError, ShapeError } from '../../src/errors.js';
import { setTuning } from '../../src/gpu/tuning.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { Bitmask } from '../../src/mask/index.js';
import { DevicePool } from '../../src/pool/device-pool.js';
import { HostPool } from '../../src/pool/host-pool.js';
import { Slab } from '../../src/slab/slab.js';
import { updateMany } from '../../src/slab/update-many.js';
import { UploadRing } from '../../src/slab/upload-ring.js';
import { copyTunedFor, copyVariants } from '../../src/slab/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { randomSource } from '../support/make-model.js';
import { tap } from './tap.js';
import { checkSame, type FieldShape, makeSpecs, nextMask, randomMask, readSlab } from './twin.js';

const ROWS = 60;
const LAYER: Readonly<Record<string, FieldShape>> = {
  up: { cols: [5] },
  down: { cols: [9], transposed: true },
};
const OTHER: Readonly<Record<string, FieldShape>> = { rows: { cols: [3], dtype: 'f16' } };
const CAPACITY = 40;

/** Has slabs that are made now update by buffer copies. */
function tuneCopies(device: GPUDevice): void {
  const variant = copyVariants(traitsOf(device)).find(({ arm }) => arm === 'copies');
  const widest = [LAYER, OTHER].map((shapes) => {
    const { fields } = HostPool.from(makeSpecs(ROWS, shapes).specs);
    return Math.max(...[...fields.values()].map(({ rowBytes }) => rowBytes / 4));
  });
  setTuning(device, {
    entries: widest.map((words) => ({ ...copyTunedFor(words), variant: { ...variant } })),
  });
}

describeAdapters('updateMany', (ctx) => {
  /** Three layers of one shape and one of another, twice: by single updates and all together. */
  const layers = (device: GPUDevice, home: 'device' | 'host', ring?: UploadRing) =>
    [LAYER, LAYER, OTHER, LAYER].map((shapes, l) => {
      const { specs } = makeSpecs(ROWS, shapes, l + 1);
      const pool = home === 'device' ? DevicePool.from(device, specs) : HostPool.from(specs);
      const make = () => new Slab(pool, { ring, capacity: CAPACITY });
      return { pool, one: make(), many: make() };
    });
  const destroy = (made: ReturnType<typeof layers>) => {
    for (const { pool, one, many } of made) {
      one.destroy();
      many.destroy();
      if (pool instanceof DevicePool) pool.destroy();
    }
  };

  it.each([
    ['device', 'by the kernel', 0],
    ['device', 'by buffer copies', 0],
    ['host', 'a ring for all', 4 * ROWS],
    ['host', 'a ring that holds some', 30],
    ['host', 'a ring of one row', 1],
  ] as const)('leaves what single updates leave: %s, %s', async (home, how, ringRows) => {
    const { device } = ctx;
    const ring = ringRows ? new UploadRing(device, { bytes: ringRows * 80 }) : undefined;
    if (how === 'by buffer copies') tuneCopies(device);
    const made = layers(device, home, ring);
    setTuning(device, null);
    const random = randomSource(ringRows + how.length);
    let masks = made.map(() => Bitmask.empty(ROWS));
    for (let n = 0; n < 12; n++) {
      masks = masks.map((mask) =>
        n === 0 ? randomMask(random, ROWS, 20) : nextMask(random, mask, CAPACITY),
      );
      const options = n % 4 === 3 ? ({ strategy: 'repack' } as const) : {};
      const want = made.map(({ one }, l) => one.update(masks[l], options));
      const slabs = made.map(({ many }) => many);
      expect(updateMany(slabs, masks, options)).toEqual(want);
      for (const { one, many } of made) {
        expect(many.rowIds()).toEqual(one.rowIds());
        checkSame(await readSlab(many), await readSlab(one));
      }
    }
    destroy(made);
    ring?.destroy();
  });

  it('is one submit, and one upload of rows', () => {
    const { device, calls } = tap(ctx.device);
    const ring = new UploadRing(device, { bytes: 1 << 16 });
    const made = layers(device, 'host', ring);
    const slabs = made.map(({ many }) => many);
    const masks = (seed: number) => slabs.map((_, l) => randomMask(randomSource(seed + l), ROWS, 30));
    updateMany(slabs, masks(1));
    calls.length = 0;
    const stats = updateMany(slabs, masks(50));
    expect(stats.every(({ writes }) => writes > 0)).toBe(true);
    expect(calls.filter((call) => call === 'submit').length).toBe(1);
    // Each slab's list of moves, and the rows of all.
    expect(calls.filter((call) => call === 'writeBuffer').length).toBe(slabs.length + 1);
    expect(calls).not.toContain('createBuffer');
    calls.length = 0;
    expect(updateMany(slabs, masks(50)).map(({ kind }) => kind)).toEqual(slabs.map(() => 'none'));
    expect(calls).not.toContain('submit');
    expect(updateMany([], [])).toEqual([]);
    destroy(made);
    ring.destroy();
  });

  it('changes none when one is refused', () => {
    const { device } = ctx;
    const made = layers(device, 'device');
    const slabs = made.map(({ many }) => many);
    const good = Bitmask.fromIds([1, 2, 3], ROWS);
    const twice = [slabs[0], slabs[1], slabs[0]];
    const host = HostPool.from(makeSpecs(ROWS, LAYER).specs);
    const { readNow: _, ...unread } = {
      ...host,
      field: host.field.bind(host),
      read: host.read.bind(host),
      readNow: 0,
    };
    const ring = new UploadRing(device, { bytes: 1 << 12 });
    const far = new Slab({ ...unread }, { ring });
    for (const [given, masks, kind] of [
      [slabs, [good, good, good, Bitmask.full(ROWS)], CapacityError],
      [slabs, [good, good, good, Bitmask.empty(ROWS + 1)], ShapeError],
      [slabs, [good, good], ShapeError],
      [twice, [good, good, good], OptionError],
      [[slabs[0], far], [good, good], OptionError],
    ] as const) {
      expect(() => updateMany(given, masks)).toThrow(kind);
      expect(slabs.map(({ active }) => active)).toEqual([0, 0, 0, 0]);
    }
    expect(updateMany(slabs, [good, good, good, good]).map(({ writes }) => writes)).toEqual([3, 3, 3, 3]);
    far.destroy();
    ring.destroy();
    destroy(made);
  });
});
