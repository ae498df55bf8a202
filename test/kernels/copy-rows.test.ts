/** The two kernels that move whole rows: copy_rows by moves, index_select by ids. All bit for bit. */
import { it } from 'vitest';
import { copyRows as copyTwin, stagedMoves } from '../../shaders/copy_rows.js';
import { indexSelect as selectTwin } from '../../shaders/index_select.js';
import type { Bindable } from '../../src/gpu/kernel.js';
import { copyRows, indexSelect } from '../../src/slab/kernels.js';
import { copyStagedRows } from '../../src/slab/staged-kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { checkWords } from './compare.js';
import { folded, type Lab, type Launch, poisoned, shardsOf, useLab } from './lab.js';
import { randomIds, randomWords, source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 50;
const CAPACITY = 40;
const FROM_SLAB = 0x80000000;

const factors = {
  storage: ['buffer', 'texture'],
  vector: [1, 2, 4],
  fields: [1, 2, 3],
  WORKGROUP: [16, 64, 128],
  ROWS: [1, 4, 16, 64],
  /** Words a row, of each field: one vec4, a few, more than the lanes of a workgroup take at once. */
  words: ['4 4 4', '20 4 12', '4 520 8', '260 20 4'],
  shards: [1, 3],
  fold: [1, 3],
} as const;

interface Setup {
  readonly storage: 'buffer' | 'texture';
  readonly vector: number;
  readonly fields: number;
  readonly WORKGROUP: number;
  readonly ROWS: number;
  readonly words: string;
  readonly shards: number;
  readonly fold: number;
}

/** Textures give whole vectors only. */
const wholeVectors = ({ storage, vector }: Pick<Setup, 'storage' | 'vector'>) =>
  storage === 'buffer' || vector === 4;

/** Random pool and slab fields of any bits, on the device and here. */
function makeFields(lab: Lab, one: Setup, random: () => number) {
  return one.words
    .split(' ')
    .slice(0, one.fields)
    .map((words) => {
      const rowWords = Number(words);
      const pool = randomWords(random, N * rowWords);
      const slab = randomWords(random, CAPACITY * rowWords);
      return { rowWords, pool, slab, buffer: lab.buffer(slab) };
    });
}

/** One launch a shard, as the copier makes them: the first keeps the list; `last` is each one's last parameter. */
function launches(
  lab: Lab,
  one: Setup,
  fields: ReturnType<typeof makeFields>,
  table: Launch['table'],
  buffers: Record<string, GPUBuffer>,
  count: number,
  last: (shard: number) => number,
): Launch[] {
  const vectors = [0, 1, 2, 3].map((k) => (fields[k] ? fields[k].rowWords / one.vector : 0));
  return shardsOf(N, one.shards).map(({ base, rows }, s) => {
    const bound: Record<string, Bindable> = { ...buffers };
    fields.forEach(({ pool, rowWords, buffer }, k) => {
      bound[`pool${k}`] = lab.rows(one.storage, pool.slice(base * rowWords, (base + rows) * rowWords));
      bound[`slab${k}`] = buffer;
    });
    const [x, y] = folded(Math.max(1, Math.ceil(count / one.ROWS)), one.fold);
    return {
      table,
      variant: {
        slots: {
          vector: String(one.vector),
          fields: `${one.fields}${one.storage === 'texture' ? '_texels' : ''}`,
        },
        constants: { WORKGROUP: one.WORKGROUP, ROWS: one.ROWS },
      },
      params: [...vectors, base, rows, s === 0 ? 1 : 0, last(s)],
      buffers: bound,
      grid: [x, y, 1],
    };
  });
}

/** Moves of a plan that has `active` rows after it: destinations below that, slab sources at or above it. */
function makeMoves(random: () => number, kind: string): { moves: Uint32Array<ArrayBuffer>; active: number } {
  const active = kind === 'slab' ? 12 : 25;
  const count = { none: 0, one: 1, pool: active, slab: 12, mixed: 20 }[kind] ?? 0;
  const destinations = randomIds(random, count, active);
  const rows = randomIds(random, count, N);
  const slots = randomIds(random, Math.min(count, CAPACITY - active), CAPACITY - active);
  const moves = destinations.flatMap((to, i) => {
    const fromSlab = kind === 'slab' || (kind === 'mixed' && i % 2 === 1 && i < slots.length);
    return [to, fromSlab ? FROM_SLAB + active + slots[i] : rows[i]];
  });
  return { moves: Uint32Array.from(moves), active };
}

const copies = pairwise(
  { ...factors, moves: ['none', 'one', 'pool', 'slab', 'mixed'] } as const,
  source(5),
  wholeVectors,
);

describeAdapters('copy_rows', (ctx) => {
  copies.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const random = source(seed);
        const fields = makeFields(lab, one, random);
        const { moves, active } = makeMoves(random, one.moves);
        const slots = Uint32Array.from({ length: CAPACITY }, (_, slot) => 100 + slot);
        const rowList = lab.buffer(Uint32Array.of(7, 8, 9, 10, ...slots));
        const region = lab.buffer(Uint32Array.of(moves.length / 2, active, 0, 0, ...moves));
        const fromSlab = (s: number) => (s === 0 ? 1 : 0);
        const buffers = { region, row_list: rowList };
        lab.run(...launches(lab, one, fields, copyRows, buffers, moves.length / 2, fromSlab));

        for (const { slab, pool, rowWords, buffer } of fields) {
          copyTwin(slab, pool, rowWords, moves);
          checkWords(await lab.read(buffer), slab, `field of ${rowWords} words`);
        }
        const ids = Uint32Array.from({ length: N }, (_, id) => id);
        copyTwin(slots, ids, 1, moves);
        checkWords(await lab.read(rowList), Uint32Array.of(active, 8, 9, 10, ...slots), 'row list');
      }),
    );
  });
});

describeAdapters('copy_rows', (ctx) => {
  it('moves rows within the slab and keeps the list only where its parameters say so', () =>
    useLab(ctx.device, async (lab) => {
      const one = {
        storage: 'texture',
        vector: 4,
        fields: 2,
        WORKGROUP: 64,
        ROWS: 4,
        words: '4 20',
        shards: 3,
        fold: 1,
      } as const;
      const fields = makeFields(lab, one, source(20));
      const { moves, active } = makeMoves(source(21), 'mixed');
      const rowList = lab.poisoned(4 + CAPACITY);
      const region = lab.buffer(Uint32Array.of(moves.length / 2, active, 0, 0, ...moves));
      const buffers = { region, row_list: rowList };
      // Without the dispatch of shard 0, which would do both: what is left are the rows of the other shards.
      const rest = launches(lab, one, fields, copyRows, buffers, moves.length / 2, () => 0).slice(1);
      lab.run(...rest);
      const base = shardsOf(N, 3)[1].base;
      const theirs = Array.from({ length: moves.length / 2 }, (_, n) => [
        moves[2 * n],
        moves[2 * n + 1],
      ]).filter(([, from]) => from >= base && from < FROM_SLAB);
      for (const { slab, pool, rowWords, buffer } of fields) {
        copyTwin(slab, pool, rowWords, Uint32Array.from(theirs.flat()));
        checkWords(await lab.read(buffer), slab, `field of ${rowWords} words`);
      }
      checkWords(await lab.read(rowList), poisoned(4 + CAPACITY), 'row list');
    }));
});

const scatters = pairwise(
  {
    ...factors,
    storage: ['buffer'],
    shards: [1],
    moves: ['none', 'one', 'pool', 'slab', 'mixed'],
    first: [0, 7],
  } as const,
  source(7),
);

describeAdapters('copy_rows out of staged rows', (ctx) => {
  scatters.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const random = source(seed);
        const made = makeFields(lab, one, random);
        const mixed = makeMoves(random, one.moves);
        const { active } = mixed;
        // Those of pool rows first, as they are staged.
        const pairs = Array.from({ length: mixed.moves.length / 2 }, (_, n) =>
          mixed.moves.subarray(2 * n, 2 * n + 2),
        );
        pairs.sort(([, a], [, b]) => Number(a >= FROM_SLAB) - Number(b >= FROM_SLAB));
        const moves = Uint32Array.from(pairs.flatMap((pair) => [...pair]));
        const rowWords = made.reduce((sum, field) => sum + field.rowWords, 0);
        // 7 rows of others before, and not a row more than are needed.
        const staged = randomWords(random, (one.first + pairs.length + 1) * rowWords);
        const slots = Uint32Array.from({ length: CAPACITY }, (_, slot) => 100 + slot);
        const rowList = lab.buffer(Uint32Array.of(7, 8, 9, 10, ...slots));
        const region = lab.buffer(Uint32Array.of(pairs.length, active, one.first, 0, ...moves));
        const buffers: Record<string, GPUBuffer> = { region, row_list: rowList, pool0: lab.buffer(staged) };
        const starts = made.map((_, k) => made.slice(0, k).reduce((sum, field) => sum + field.rowWords, 0));
        made.forEach(({ buffer }, k) => {
          buffers[`slab${k}`] = buffer;
        });
        const three = (of: (k: number) => number) => [0, 1, 2].map((k) => (made[k] ? of(k) / one.vector : 0));
        buffers.bundle = lab.uniform([...three((k) => starts[k]), rowWords / one.vector]);
        const [x, y] = folded(Math.max(1, Math.ceil(pairs.length / one.ROWS)), one.fold);
        lab.run({
          table: copyStagedRows,
          variant: {
            slots: { vector: String(one.vector), fields: `bundled_${one.fields}` },
            constants: { WORKGROUP: one.WORKGROUP, ROWS: one.ROWS, STAGED: 1 },
          },
          params: [...three((k) => made[k].rowWords), 0, 0, one.first + pairs.length, 1, 1],
          buffers,
          grid: [x, y, 1],
        });

        made.forEach(({ slab, rowWords: words }, k) => {
          const pool = new Uint32Array((staged.length / rowWords) * words);
          for (let r = 0; r * words < pool.length; r++)
            pool.set(staged.subarray(r * rowWords + starts[k], r * rowWords + starts[k] + words), r * words);
          copyTwin(slab, pool, words, stagedMoves(moves, one.first));
        });
        for (const { slab, buffer, rowWords: words } of made)
          checkWords(await lab.read(buffer), slab, `field of ${words} words`);
        const ids = Uint32Array.from({ length: N }, (_, id) => id);
        copyTwin(slots, ids, 1, moves);
        checkWords(await lab.read(rowList), Uint32Array.of(active, 8, 9, 10, ...slots), 'row list');
      }),
    );
  });
});

const selects = pairwise(
  // Up to 45 ids, more than the slots there are; an id may come twice.
  { ...factors, count: [0, 1, 17, CAPACITY, CAPACITY + 5] } as const,
  source(6),
  wholeVectors,
);

describeAdapters('index_select', (ctx) => {
  selects.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const random = source(seed);
        const fields = makeFields(lab, one, random);
        const ids = Uint32Array.from({ length: one.count }, () => Math.floor(random() * N));
        const list = lab.buffer(Uint32Array.of(ids.length, 0, 0, 0, ...ids));
        const rowList = lab.buffer(poisoned(4 + CAPACITY));
        const buffers = { ids: list, row_list: rowList };
        lab.run(...launches(lab, one, fields, indexSelect, buffers, one.count, () => CAPACITY));

        for (const { slab, pool, rowWords, buffer } of fields) {
          selectTwin(slab, pool, rowWords, ids, CAPACITY);
          checkWords(await lab.read(buffer), slab, `field of ${rowWords} words`);
        }
        const want = poisoned(4 + CAPACITY);
        want[0] = Math.min(one.count, CAPACITY);
        want.set(ids.subarray(0, CAPACITY), 4);
        checkWords(await lab.read(rowList), want, 'row list');
      }),
    );
  });
});
