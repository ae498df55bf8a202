/** copy_rows and index_select where the pool and the slab differ in dtype: widened to f32, narrowed on the way in. */
import { expect, it } from 'vitest';
import { copyRows as copyTwin } from '../../shaders/copy_rows.js';
import { indexSelect as selectTwin } from '../../shaders/index_select.js';
import { decodeF16, encodeF16 } from '../../src/dtype.js';
import { partVectors, type StoredDtype, valueVectors } from '../../src/gpu/layout.js';
import { copyRows, indexSelect } from '../../src/slab/kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { stored } from '../support/stored.js';
import { checkWords } from './compare.js';
import { folded, POISON, poisoned, rowShape, shardsOf, storeRows, useLab } from './lab.js';
import { randomIds, randomValues, source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const N = 30;
const CAPACITY = 24;
const FROM_SLAB = 0x80000000;

const cases = pairwise(
  {
    from: ['f32', 'f16', 'bf16', 'q8', 'q4'],
    storage: ['buffer', 'texture'],
    to: ['f32', 'f16'],
    table: ['copy_rows', 'index_select'],
    parts: [1, 2],
    cols: [1, 5, 20, 77, 300],
    WORKGROUP: [16, 64],
    ROWS: [1, 4],
    shards: [1, 3],
    fold: [1, 3],
  } as const,
  source(30),
  ({ from, to }) => (from as StoredDtype) !== to,
);

/**
 * Throws unless all values are the twin's: halves may be off by one where the twin had to round. Steps of zero times a
 * negative scale (q4) are -0, in the padding too.
 */
function check(got: Uint32Array<ArrayBuffer>, want: Uint32Array<ArrayBuffer>, to: 'f32' | 'f16'): void {
  const parts = (words: Uint32Array<ArrayBuffer>) => (to === 'f32' ? words : new Uint16Array(words.buffer));
  const sign = to === 'f32' ? 0x80000000 : 0x8000;
  const [a, b] = [parts(got), parts(want)];
  for (let i = 0; i < b.length; i++) {
    const poison = want[to === 'f32' ? i : i >> 1] === POISON;
    const zero = b[i] === 0 && a[i] === sign;
    // Halves of one sign are in the order of their bits.
    const near = to === 'f16' && !poison && a[i] >= sign === b[i] >= sign && Math.abs(a[i] - b[i]) <= 1;
    if (a[i] !== b[i] && !zero && !near) throw new Error(`value ${i} is ${a[i]}, the twin has ${b[i]}`);
  }
}

describeAdapters('converting copies', (ctx) => {
  cases.forEach((one, seed) => {
    it(nameOf(one), () =>
      useLab(ctx.device, async (lab) => {
        const { from, to, cols, WORKGROUP, ROWS } = one;
        const random = source(seed);
        const given = Array.from({ length: one.parts }, () => randomValues(random, N * cols));
        const every = Array.from({ length: N }, (_, i) => i);
        // The twin: a pool that was converted whole, by the rounding of src/dtype.ts, and the blind copy.
        const widened = given.map((part) => stored(part, cols, from));
        const converted = storeRows(widened, cols, every, to);
        const rowWords = converted.length / N / 4;
        const slab = poisoned(CAPACITY * rowWords);
        const slots = Uint32Array.from({ length: CAPACITY }, (_, slot) => 100 + slot);
        const ids = Uint32Array.from({ length: N }, (_, id) => id);
        const image = new Uint32Array(converted.buffer);
        const moving = one.table === 'copy_rows';
        const active = 15;
        const rows = randomIds(random, active, N);
        const moves = Uint32Array.from(
          rows
            .slice(0, 12)
            .flatMap((row, to) => [to, to % 4 === 3 ? FROM_SLAB + active + to / 4 - 0.75 : row]),
        );
        // What moves within the slab is as it will be already.
        for (let slot = active; slot < CAPACITY; slot++)
          slab.set(image.subarray(slot * rowWords, (slot + 1) * rowWords), slot * rowWords);
        const slabBuffer = lab.buffer(slab);
        const rowList = lab.buffer(Uint32Array.of(7, 8, 9, 10, ...slots));
        const list = moving
          ? Uint32Array.of(moves.length / 2, active, 0, 0, ...moves)
          : Uint32Array.of(rows.length, 0, 0, 0, ...rows);
        const region = lab.buffer(list);
        const table = moving ? copyRows : indexSelect;
        const count = moving ? moves.length / 2 : rows.length;
        const [x, y] = folded(Math.ceil(count / ROWS), one.fold);
        const pool = rowShape(cols, from, one.parts);
        lab.run(
          ...given.flatMap((_, p) =>
            shardsOf(N, one.shards).map(({ base, rows: held }, s) => ({
              table,
              variant: {
                slots: {
                  vector: '4',
                  fields: one.storage === 'texture' ? 'convert_texels' : 'convert',
                  from,
                  to,
                },
                constants: { WORKGROUP, ROWS },
              },
              params: [0, 0, 0, 0, base, held, p + s === 0 ? 1 : 0, moving ? (s === 0 ? 1 : 0) : CAPACITY],
              buffers: {
                region,
                ids: region,
                row_list: rowList,
                pool0: lab.rows(one.storage, storeRows(given, cols, every.slice(base, base + held), from)),
                slab0: slabBuffer,
                shape: lab.uniform([
                  pool.stride,
                  p * partVectors(cols, from),
                  pool.dotVectors,
                  rowWords / 4,
                  p * partVectors(cols, to),
                  valueVectors(cols, to),
                ]),
              },
              grid: [x, y, 1] as const,
            })),
          ),
        );
        if (moving) {
          copyTwin(slab, image, rowWords, moves);
          copyTwin(slots, ids, 1, moves);
        } else {
          selectTwin(slab, image, rowWords, Uint32Array.from(rows), CAPACITY);
          selectTwin(slots, ids, 1, Uint32Array.from(rows), CAPACITY);
        }
        check(await lab.read(slabBuffer), slab, to);
        const header = moving ? [active, 8, 9, 10] : [rows.length, 8, 9, 10];
        checkWords(await lab.read(rowList), Uint32Array.of(...header, ...slots), 'row list');
      }),
    );
  });

  it('narrows to f16 bit for bit what f16 can hold, and the rest to one of its two neighbours', () =>
    useLab(ctx.device, async (lab) => {
      const halves = Uint16Array.from({ length: 0x7c00 }, (_, i) => i).filter((h) => h >= 0x400 || h === 0);
      const exact = decodeF16(halves);
      const between = exact.map((value, i) => (i % 2 ? -1 : 1) * (value + (exact[i + 1] ?? value)) * 0.4999);
      const values = Float32Array.of(...exact, ...exact.map((v) => -v), ...between);
      const cols = values.length;
      const slab = lab.poisoned(valueVectors(cols, 'f16') * 4);
      lab.run({
        table: indexSelect,
        variant: { slots: { vector: '4', fields: 'convert', from: 'f32', to: 'f16' } },
        params: [0, 0, 0, 0, 0, 1, 1, 1],
        buffers: {
          ids: lab.buffer(Uint32Array.of(1, 0, 0, 0, 0)),
          row_list: lab.poisoned(8),
          pool0: lab.buffer(storeRows([values], cols, [0], 'f32')),
          slab0: slab,
          shape: lab.uniform([
            valueVectors(cols, 'f32'),
            0,
            valueVectors(cols, 'f32'),
            valueVectors(cols, 'f16'),
            0,
            valueVectors(cols, 'f16'),
          ]),
        },
        grid: [1, 1, 1],
      });
      const got = new Uint16Array((await lab.read(slab)).buffer);
      const want = encodeF16(values);
      expect(got.subarray(0, halves.length)).toEqual(halves);
      for (let i = 0; i < cols; i++) {
        const off = Math.abs(got[i] - want[i]);
        if (off > (i < 2 * exact.length ? 0 : 1)) throw new Error(`${values[i]}: ${got[i]} and ${want[i]}`);
      }
      // Padding is zero, whatever the pool has behind the part.
      expect([...got.subarray(cols)]).toEqual(Array(got.length - cols).fill(0));
    }));
});
