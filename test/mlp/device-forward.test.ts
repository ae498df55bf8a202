/** An MLP between buffers of others: the same values as `forward`, whatever room the buffers have. */
import { expect, it } from 'vitest';
import { OptionError, ShapeError } from '../../src/errors.js';
import { createBuffer, destroyBuffer, gpuBytes, Usage } from '../../src/gpu/buffers.js';
import { readBuffer } from '../../src/gpu/readback.js';
import { Bitmask } from '../../src/mask/index.js';
import { DeviceForward } from '../../src/mlp/device-forward.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { describeAdapters } from '../support/adapters.js';
import { makeLayer, randoms } from '../support/make-layer.js';
import { randomSource } from '../support/make-model.js';

const ROWS = 40;
const ALL = Usage.STORAGE | Usage.COPY_SRC | Usage.COPY_DST;

describeAdapters('DeviceForward', (ctx) => {
  /** A buffer of `values`, and of NaN in the room behind them. */
  const holding = (values: Float32Array, room = 0, usage: number = ALL) => {
    const buffer = createBuffer(ctx.device, 'test', (values.length + room) * 4, usage | Usage.COPY_DST);
    const all = new Float32Array(buffer.size / 4).fill(NaN);
    all.set(values);
    ctx.device.queue.writeBuffer(buffer, 0, all);
    return buffer;
  };

  it.each([
    // hidden, batch, rows of x that there is room for beyond the batch, copies
    { hidden: 64, batch: 1, room: 0, copies: 0 },
    { hidden: 64, batch: 16, room: 0, copies: 0 },
    { hidden: 64, batch: 11, room: 5, copies: 0 },
    { hidden: 64, batch: 11, room: 4, copies: 1 },
    { hidden: 20, batch: 1, room: 3, copies: 1 },
    { hidden: 20, batch: 11, room: 20, copies: 1 },
  ])(
    'hidden $hidden, batch $batch, room for $room rows more: $copies copies',
    async ({ hidden, batch, room, copies }) => {
      const { device } = ctx;
      const { weights } = makeLayer({ rows: ROWS, hidden });
      const mlp = await SparseMLP.create(device, weights);
      const forward = new DeviceForward(mlp);
      const values = randoms(randomSource(5), batch * hidden, 1);
      const x = holding(values, room * hidden);
      const y = holding(new Float32Array(batch * hidden).fill(NaN));
      const mask = Bitmask.fromIds([0, 3, 4, 17, 38], ROWS);
      for (const step of [{ strategy: 'dense' }, { strategy: 'paired', mask }] as const) {
        forward.run(x, y, batch, step);
        const found = new Float32Array(await readBuffer(device, y, 0, batch * hidden * 4));
        expect(found).toEqual(await mlp.forward(values, step));
      }
      expect(forward.copies).toBe(2 * copies);
      for (const buffer of [x, y]) destroyBuffer(device, buffer);
      forward.destroy();
      mlp.destroy();
      expect(gpuBytes(device)).toBe(0);
    },
  );

  it('refuses buffers that it cannot use, and changes nothing', async () => {
    const { device } = ctx;
    const { weights } = makeLayer({ rows: ROWS, hidden: 64 });
    const mlp = await SparseMLP.create(device, weights);
    const forward = new DeviceForward(mlp);
    const row = new Float32Array(64);
    const [x, y] = [holding(row), holding(row)];
    const plain = holding(row, 0, Usage.COPY_SRC);
    const closed = holding(new Float32Array(3 * 64), 0, Usage.STORAGE);
    const wide = holding(new Float32Array(3 * 64));
    expect(() => forward.run(x, y, 0)).toThrow(ShapeError);
    expect(() => forward.run(x, y, 2)).toThrow(/x has 256 bytes; \[2, 64\] f32 are 512/);
    expect(() => forward.run(wide, y, 3)).toThrow(/y has 256 bytes/);
    expect(() => forward.run(plain, y, 1)).toThrow(/x must be a buffer with usage STORAGE/);
    expect(() => forward.run(x, plain, 1)).toThrow(/y must be a buffer with usage STORAGE/);
    expect(() => forward.run(x, x, 1)).toThrow(OptionError);
    expect(() => forward.run(closed, wide, 3)).toThrow(/has no usage COPY_SRC/);
    expect(() => forward.run(x, y, 1, { mask: Bitmask.full(7) })).toThrow(ShapeError);
    expect(forward.copies).toBe(0);
    for (const buffer of [x, y, plain, closed, wide]) destroyBuffer(device, buffer);
    forward.destroy();
    mlp.destroy();
  });
});
