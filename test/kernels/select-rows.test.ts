/** select_rows: masks of scores, by each rule. Bit for bit, also against the CPU's selectors. */
import { expect, it } from 'vitest';
import { aboveThreshold, highest, sigmaThreshold } from '../../shaders/select_rows.js';
import { f32Bits } from '../../src/gpu/buffers.js';
import { Bitmask, threshold, topK } from '../../src/mask/index.js';
import { selectRows } from '../../src/slab/select-kernels.js';
import { describeAdapters } from '../support/adapters.js';
import { checkWords } from './compare.js';
import { type Lab, poisoned, useLab } from './lab.js';
import { source } from './make.js';
import { nameOf, pairwise } from './pairwise.js';

const WORKGROUPS = [4, 8, 64, 256] as const;
const ROWS = [1, 31, 32, 33, 500, 2049] as const;
const SCORES = ['any', 'ties', 'equal', 'zeros', 'tiny', 'huge'] as const;

function makeScores(random: () => number, rows: number, kind: string): Float32Array<ArrayBuffer> {
  const one = (): number => {
    const v = 2 * random() - 1;
    switch (kind) {
      case 'ties':
        return Math.round(3 * v);
      case 'equal':
        return 0.1;
      case 'zeros':
        return Math.abs(v) < 0.8 ? (v < 0 ? -0 : 0) : v;
      case 'tiny': // Subnormal: what flushes them sees nothing but zeros.
        return v * 1e-39;
      case 'huge':
        return Math.sign(v) * 10 ** (76 * random() - 38);
      default:
        return v;
    }
  };
  return Float32Array.from({ length: rows }, one);
}

interface Params {
  count?: number;
  value?: number;
}

async function select(
  lab: Lab,
  rule: string,
  WORKGROUP: number,
  all: readonly Float32Array<ArrayBuffer>[],
  { count = 0, value = 0 }: Params,
) {
  const rows = all[0].length;
  const words = Math.ceil(rows / 32);
  const found = lab.buffer(Uint32Array.of(7, 0, 7, 7));
  const masks = all.map(() => lab.poisoned(words + 2));
  lab.run(
    ...all.map((scores, i) => ({
      table: selectRows,
      variant: { slots: { rule }, constants: { WORKGROUP } },
      params: [rows, count, f32Bits(value)],
      buffers: { scores: lab.buffer(scores), mask: masks[i], found },
      grid: [1, 1, 1] as const,
    })),
  );
  const read = [];
  for (const mask of masks) {
    const got = await lab.read(mask);
    checkWords(got.subarray(words), poisoned(2), 'beyond the mask');
    read.push(got.slice(0, words));
  }
  const left = await lab.read(found);
  return { masks: read, threshold: new Float32Array(left.buffer)[0], spoilt: left[1], selected: left[2] };
}

const cases = pairwise(
  { WORKGROUP: WORKGROUPS, rows: ROWS, scores: SCORES, at: ['low', 'middle', 'high'] } as const,
  source(31),
);

describeAdapters('select_rows', (ctx) => {
  cases.forEach((one, seed) => {
    const { rows, WORKGROUP } = one;
    const scores = makeScores(source(seed), rows, one.scores);
    const place = { low: 0, middle: 0.5, high: 1 }[one.at];

    it(`threshold: ${nameOf(one)}`, () =>
      useLab(ctx.device, async (lab) => {
        // One of the scores, so that it is compared with its equal.
        const t = scores[Math.floor(place * (rows - 1))];
        const got = await select(lab, 'threshold', WORKGROUP, [scores], { value: t });
        const want = aboveThreshold(scores, t);
        checkWords(got.masks[0], Bitmask.fromIds(want, rows).words, 'mask');
        checkWords(got.masks[0], threshold(scores, t).words, "the CPU's mask");
        expect(got).toMatchObject({ threshold: t, spoilt: 0, selected: want.length });
      }));

    it(`top: ${nameOf(one)}`, () =>
      useLab(ctx.device, async (lab) => {
        const k = Math.round(place * rows);
        const got = await select(lab, 'top', WORKGROUP, [scores], { count: k });
        const want = highest(scores, k);
        checkWords(got.masks[0], Bitmask.fromIds(want, rows).words, 'mask');
        checkWords(got.masks[0], topK(scores, k).words, "the CPU's mask");
        expect(got).toMatchObject({ spoilt: 0, selected: k });
        if (k > 0) expect(got.threshold).toBe(Math.min(...want.map((row) => scores[row])) + 0);
      }));

    // The squares of huge scores overflow.
    it.runIf(one.scores !== 'huge')(`sigma: ${nameOf(one)}`, () =>
      useLab(ctx.device, async (lab) => {
        const k = 3 * place - 1;
        const got = await select(lab, 'sigma', WORKGROUP, [scores], { value: k });
        const want = sigmaThreshold(scores, k);
        const size = Math.max(...scores.map(Math.abs));
        // What a device flushes to zero is off by no more than the smallest normal number.
        expect(Math.abs(got.threshold - want)).toBeLessThan(1e-5 * size + 2 ** -126);
        const ids = aboveThreshold(scores, got.threshold);
        checkWords(got.masks[0], Bitmask.fromIds(ids, rows).words, 'mask');
        expect(got).toMatchObject({ spoilt: 0, selected: ids.length });
      }),
    );
  });

  for (const rule of ['threshold', 'sigma', 'top']) {
    it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
      `${rule}: selects nothing where a score is %d, and keeps that in mind`,
      (value) =>
        useLab(ctx.device, async (lab) => {
          const good = makeScores(source(4), 100, 'any');
          const bad = good.slice();
          bad[71] = value;
          const params = { count: 9, value: 0.25 };
          const clean = await select(lab, rule, 8, [good], params);
          const got = await select(lab, rule, 8, [good, bad, good], params);
          expect(clean.spoilt).toBe(0);
          expect(clean.selected).toBeGreaterThan(0);
          expect([...got.masks[1]]).toEqual([0, 0, 0, 0]);
          expect(got.masks[0]).toEqual(clean.masks[0]);
          expect(got.masks[2]).toEqual(clean.masks[0]);
          expect(got.spoilt).toBe(1);
        }),
    );
  }

  it('sigma: selects nothing where the spread overflows', () =>
    useLab(ctx.device, async (lab) => {
      const got = await select(lab, 'sigma', 8, [Float32Array.of(3e38, -3e38, 3e38)], { value: 1 });
      expect([...got.masks[0], got.spoilt]).toEqual([0, 1]);
    }));
});
