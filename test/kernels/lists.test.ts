/** compact and mask_values: what is active, as a list of ids and as mask words. Bit for bit. */
import { it } from 'vitest';
import { compact as compactTwin } from '../../shaders/compact.js';
import { maskValues as maskTwin } from '../../shaders/mask_values.js';
import { compact, maskValues } from '../../src/slab/kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { checkWords } from './compare.js';
import { poisoned, useLab } from './lab.js';
import { source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const ROWS = [1, 31, 32, 33, 1000, 2049, 5000] as const;
const FILLS = ['none', 'all', 'first', 'last', 'few', 'half'] as const;

/** Zeros of both signs where a row is not active; of either sign and any size where it is. */
function makeValues(random: () => number, rows: number, fill: string): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: rows }, (_, i) => {
    const chance = random();
    const active =
      fill === 'all' ||
      (fill === 'first' && i === 0) ||
      (fill === 'last' && i === rows - 1) ||
      (fill === 'few' && chance < 0.03) ||
      (fill === 'half' && chance < 0.5);
    const zero = random() < 0.5 ? 0 : -0;
    return active ? (random() < 0.5 ? -1 : 1) * 10 ** (60 * random() - 30) : zero;
  });
}

const compacts = pairwise(
  {
    active: ['bits', 'values'],
    WORKGROUP: [16, 64, 128],
    rows: ROWS,
    fill: FILLS,
    capacity: ['rows', 'half', 'one'],
  } as const,
  source(7),
);

describeAdapters('compact', (ctx) => {
  compacts.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { active, rows, WORKGROUP } = one;
        const values = makeValues(source(seed), rows, one.fill);
        const capacity = { rows, half: Math.ceil(rows / 2), one: 1 }[one.capacity];
        const list = lab.poisoned(4 + rows);
        lab.run({
          table: compact,
          variant: { slots: { active }, constants: { WORKGROUP } },
          params: [rows, capacity],
          buffers: { mask: lab.buffer(maskTwin(values)), values: lab.buffer(values), list },
          grid: [1, 1, 1],
        });
        const ids = compactTwin(values);
        const want = poisoned(4 + rows);
        want[0] = ids.length;
        want.set(ids.slice(0, capacity), 4);
        checkWords(await lab.read(list), want, 'list');
      }),
    );
  });
});

const masks = pairwise({ WORKGROUP: [16, 64, 128], rows: ROWS, fill: FILLS } as const, source(8));

const unions = pairwise(
  { WORKGROUP: [8, 64], rows: ROWS, fill: FILLS, batch: [1, 2, 7, 64] } as const,
  source(11),
);

describeAdapters('mask_values', (ctx) => {
  masks.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const values = makeValues(source(seed), one.rows, one.fill);
        const want = maskTwin(values);
        const mask = lab.poisoned(want.length + 3);
        lab.run({
          table: maskValues,
          variant: { slots: { active: 'values' }, constants: { WORKGROUP: one.WORKGROUP } },
          params: [one.rows, 0],
          buffers: { values: lab.buffer(values), mask },
          grid: [Math.ceil(want.length / one.WORKGROUP) + 1, 1, 1],
        });
        checkWords(await lab.read(mask), Uint32Array.of(...want, ...poisoned(3)), 'mask');
      }),
    );
  });

  unions.forEach((one, seed) => {
    it(`union, ${nameOf(one)}`, () =>
      useLab(ctx.device, async (lab) => {
        const { rows, batch, WORKGROUP } = one;
        const random = source(seed);
        const each = Array.from({ length: batch }, () => makeValues(random, rows, one.fill));
        const want = maskTwin(
          each.flatMap((values) => [...values]),
          batch,
        );
        // Rows are padded to quads, with what must not count; so are batch elements beyond the step's.
        const stride = Math.ceil(rows / 4) * 4 + 4;
        const values = new Float32Array((batch + 1) * stride).fill(Number.NaN);
        for (const [b, row] of each.entries()) values.set(row, b * stride);
        const mask = lab.poisoned(want.length + 3);
        lab.run({
          table: maskValues,
          variant: { slots: { active: 'union' }, constants: { WORKGROUP } },
          params: [rows, stride / 4],
          step: [batch],
          buffers: { values: lab.buffer(values), mask },
          grid: [Math.ceil(want.length / WORKGROUP) + 1, 1, 1],
        });
        checkWords(await lab.read(mask), Uint32Array.of(...want, ...poisoned(3)), 'mask');
      }));
  });
});
