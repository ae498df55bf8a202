/** f16 weights that are widened by shifts: every finite f16 comes out exactly, where the adapter keeps small f32. */
import { it } from 'vitest';
import { decodeF16 } from '../../src/dtype.js';
import { modelDown as down } from '../../src/mlp/model-kernels.js';
import { unitsOf } from '../../src/mlp/variants.js';
import { describeAdapters } from '../support/adapters.js';
import { checkWords } from './compare.js';
import { useLab } from './lab.js';
import { checkWidth } from './make.js';

const INFINITE = 0x7c00;
const halves = Uint16Array.from({ length: 2 * INFINITE }, (_, i) =>
  i < INFINITE ? i : 0x8000 + i - INFINITE,
);

describeAdapters('f16 by shifts', (ctx) => {
  it('widens every finite f16 exactly', ({ skip }) =>
    useLab(ctx.device, async (lab) => {
      checkWidth('shifted', ctx, skip);
      const columns = halves.length;
      const { slots, units } = unitsOf('f16', 'shifted', columns);
      const partials = lab.poisoned(columns);
      lab.run({
        table: down,
        variant: {
          slots: { dtype: slots.dtype, quads: slots.quads, sums: '1x1', rows: 'dense', finish: 'partials' },
          constants: { WORKGROUP: 64 },
        },
        // One row, times one.
        params: [1, 0, columns / 4, 1, 0, columns, 0, units, units, units],
        step: [1],
        buffers: {
          weights: lab.buffer(new Uint8Array(halves.buffer)),
          a: lab.buffer(Float32Array.of(1)),
          row_list: lab.buffer(new Uint32Array(8)),
          partials,
        },
        grid: [Math.ceil(units / 64), 1, 1],
      });
      // A sum begins at +0, so that -0 ends as it.
      const want = decodeF16(halves).map((value) => value + 0);
      checkWords(await lab.read(partials), new Uint32Array(want.buffer), 'f16');
    }));
});
