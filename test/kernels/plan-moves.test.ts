/** plan_moves: the tight plan on the device; mask_diff: what it adds and removes. Bit for bit, also against the CPU's. */
import { expect, it } from 'vitest';
import { compact as compactTwin } from '../../shaders/compact.js';
import { planMoves as planTwin } from '../../shaders/plan_moves.js';
import { Bitmask, diff } from '../../src/mask/index.js';
import { planUpdate, SlotMap } from '../../src/plan/index.js';
import { maskDiff, planMoves } from '../../src/slab/select-kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { checkWords } from './compare.js';
import { POISON, poisoned, useLab } from './lab.js';
import { randomIds, source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

/** How many rows are held and wanted, as parts of all, and how many of the held stay, as a part of them. */
const CHANGES = {
  first: [0, 0.4, 0],
  none: [0.3, 0.3, 1],
  steady: [0.3, 0.3, 0.6],
  'other rows': [0.3, 0.3, 0],
  grows: [0.2, 0.5, 0.8],
  shrinks: [0.5, 0.1, 0.2],
  'shrinks in place': [0.5, 0.2, 0.4],
  empties: [0.4, 0, 0],
  all: [0.5, 1, 1],
  'too many': [0.3, 0.9, 0.5],
} as const;

const cases = pairwise(
  {
    active: ['bits', 'values'],
    emit: ['moves', 'arrivals'],
    WORKGROUP: [4, 8, 64, 128],
    rows: [1, 31, 33, 64, 500, 2049],
    change: Object.keys(CHANGES) as (keyof typeof CHANGES)[],
    capacity: ['rows', 'most'],
  } as const,
  source(41),
);

describeAdapters('plan_moves', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const random = source(seed);
        const { rows, WORKGROUP, active, emit } = one;
        const [held, wanted, staying] = CHANGES[one.change].map((part) => part * rows);
        const m = Math.round(held);
        const ids = randomIds(random, rows, rows);
        const kept = Math.min(m, Math.round(wanted), Math.round((staying / rows) * m));
        const rowAt = ids.slice(0, m);
        const others = ids.slice(m).slice(0, Math.round(wanted) - kept);
        const next = [...randomIds(random, kept, m || 1).map((slot) => rowAt[slot]), ...others].sort(
          (a, b) => a - b,
        );
        const refused = one.change === 'too many' && next.length > Math.max(1, m);
        const most = Math.max(1, m, refused ? next.length - 1 : next.length);
        const capacity = refused || one.capacity === 'most' ? most : rows;

        const before = Bitmask.fromIds(rowAt, rows);
        const after = Bitmask.fromIds(next, rows);
        const words = before.words.length;
        const rowList = lab.buffer(Uint32Array.of(m, 8, 9, 10, ...rowAt, ...poisoned(capacity - m)));
        const heldBuffer = lab.buffer(Uint32Array.of(...before.words, ...poisoned(words + 2)));
        const region = lab.poisoned(4 + 2 * capacity + 2);
        const counts = lab.buffer(Uint32Array.of(...poisoned(3), 1, 1, 1, 1, 5, 6, 7, 8, ...poisoned(2)));
        const values = Float32Array.from({ length: rows }, (_, row) => (after.has(row) ? random() - 2 : 0));
        lab.run({
          table: planMoves,
          variant: { slots: { active, emit }, constants: { WORKGROUP } },
          params: [rows, capacity, 3],
          buffers: {
            mask: lab.buffer(after.words),
            values: lab.buffer(values),
            row_list: rowList,
            held: heldBuffer,
            region,
            counts,
          },
          grid: [1, 1, 1],
        });

        const plan = planTwin(rowAt, next, capacity);
        expect(plan === null).toBe(refused);
        const head = plan ? [plan.moves.length / 2, plan.active, plan.added, plan.removed] : [0, m, 0, 0];
        const sticky = plan ? [5, 6] : [6, next.length];
        const moves = plan?.moves ?? new Uint32Array(0);
        const count = plan?.active ?? m;
        const written = new Set(moves.filter((_, n) => n % 2 === 0));
        const stay = Array.from({ length: count }, (_, slot) => slot).filter((slot) => !written.has(slot));
        const planned =
          emit === 'moves'
            ? [...head, ...moves]
            : [stay.length, plan?.added ?? 0, count, 0, ...stay, ...moves];
        const rest = poisoned(4 + 2 * capacity + 2 - planned.length);
        checkWords(await lab.read(region), Uint32Array.of(...planned, ...rest), 'what is planned');
        const told = Uint32Array.of(...poisoned(3), ...head, ...sticky, 7, 8, ...poisoned(2));
        checkWords(await lab.read(counts), told, 'counts');
        const now = plan ? after : before;
        const bits = Uint32Array.of(...now.words, ...after.words, POISON, POISON);
        checkWords(await lab.read(heldBuffer), bits, 'held');

        if (!plan) return;
        const map = new SlotMap(rows, capacity);
        map.restore(rowAt);
        checkWords(moves, planUpdate(map, after).moves, "the CPU's plan");
      }),
    );
  });
});

describeAdapters('mask_diff', (ctx) => {
  it.each([1, 32, 33, 1000])('lists what was added and what was removed, of %d rows', (rows) =>
    useLab(ctx.device, async (lab) => {
      const random = source(rows);
      const flags = () => Float32Array.from({ length: rows }, () => (random() < 0.4 ? 1 : 0));
      const [before, after] = [flags(), flags()];
      const masks = [before, after].map((values) => Bitmask.fromBooleans(values));
      const buffers = { old_mask: lab.buffer(masks[0].words), mask: lab.buffer(masks[1].words) };
      const want = diff(masks[0], masks[1]);
      for (const active of ['added', 'removed'] as const) {
        const list = lab.poisoned(4 + rows);
        lab.run({
          table: maskDiff,
          variant: { slots: { active }, constants: { WORKGROUP: 16 } },
          params: [rows, rows],
          buffers: { ...buffers, list },
          grid: [1, 1, 1],
        });
        const sign = active === 'added' ? 1 : -1;
        const ids = compactTwin(before.map((was, i) => Number(sign * (after[i] - was) > 0)));
        expect(ids).toEqual([...want[active]]);
        const full = poisoned(4 + rows);
        full[0] = ids.length;
        full.set(ids, 4);
        checkWords(await lab.read(list), full, active);
      }
    }),
  );
});
