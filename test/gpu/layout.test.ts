import { describe, expect, it } from 'vitest';
import { decodeF16, encodeBf16, encodeF16 } from '../../src/dtype.js';
import { OptionError, ShapeError } from '../../src/errors.js';
import { activationStride, checkStoredDtype, type Part, packRows, rowBytes } from '../../src/gpu/layout.js';

const f32 = (bytes: Uint8Array<ArrayBuffer>) => [...new Float32Array(bytes.buffer)];
const f16 = (bytes: Uint8Array<ArrayBuffer>) => [...decodeF16(new Uint16Array(bytes.buffer))];

// [3, 2], each value exact in every dtype.
const data = Float32Array.of(1, 2, 3, 4, 5, 6);
const part: Part = { data, cols: 2 };

describe('packRows', () => {
  it('pads each row to 16 bytes with zeros', () => {
    expect(f32(packRows([part], 3, 0, 3, 'f32'))).toEqual([1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 0, 0]);
    expect(f16(packRows([part], 3, 0, 3, 'f16'))).toEqual(
      [1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0], // biome-ignore format: rows
    );
  });

  it('adds nothing to rows that fill their vectors', () => {
    const whole = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    expect(f32(packRows([{ data: whole, cols: 4 }], 2, 0, 2, 'f32'))).toEqual([...whole]);
    expect(f16(packRows([{ data: whole, cols: 8 }], 1, 0, 1, 'f16'))).toEqual([...whole]);
  });

  it('takes the rows [begin, end) alone', () => {
    expect(f32(packRows([part], 3, 1, 3, 'f32'))).toEqual([3, 4, 0, 0, 5, 6, 0, 0]);
    expect(packRows([part], 3, 2, 2, 'f32')).toHaveLength(0);
  });

  it('puts parts side by side, each padded', () => {
    const other: Part = { data: Float32Array.of(7, 8, 9, 10, 11, 12, 13, 14, 15), cols: 3 };
    expect(f32(packRows([part, other], 3, 1, 2, 'f32'))).toEqual([3, 4, 0, 0, 10, 11, 12, 0]);
    expect(f16(packRows([part, other], 3, 2, 3, 'f16'))).toEqual([
      5, 6, 0, 0, 0, 0, 0, 0, 13, 14, 15, 0, 0, 0, 0, 0,
    ]);
  });

  it('transposes [cols, rows], whatever part of the rows is asked for', () => {
    const turned: Part = { data: Float32Array.of(1, 3, 5, 2, 4, 6), cols: 2, transposed: true };
    for (const dtype of ['f32', 'f16'] as const) {
      for (const [begin, end] of [
        [0, 3],
        [1, 3],
        [1, 2],
      ] as const)
        expect(packRows([turned], 3, begin, end, dtype)).toEqual(packRows([part], 3, begin, end, dtype));
    }
  });

  it.each(['f16', 'bf16'] as const)('takes %s as a source, plain and transposed', (dtype) => {
    const encode = dtype === 'f16' ? encodeF16 : encodeBf16;
    for (const to of ['f32', 'f16'] as const) {
      const want = packRows([part], 3, 0, 3, to);
      expect(packRows([{ data: encode(data), dtype, cols: 2 }], 3, 0, 3, to)).toEqual(want);
      const turned: Part = {
        data: encode(Float32Array.of(1, 3, 5, 2, 4, 6)),
        dtype,
        cols: 2,
        transposed: true,
      };
      expect(packRows([turned], 3, 0, 3, to)).toEqual(want);
    }
  });

  it('takes a Uint16Array without a dtype for f16, and keeps its bits', () => {
    // A NaN with a payload, a subnormal, minus zero, infinity.
    const bits = Uint16Array.of(0x7e01, 0x0001, 0x8000, 0x7c00, 0, 0, 0, 0);
    expect([...new Uint16Array(packRows([{ data: bits, cols: 8 }], 1, 0, 1, 'f16').buffer)]).toEqual([
      ...bits,
    ]);
  });

  it('keeps the bits of f32', () => {
    const bits = Uint32Array.of(0x7fc12345, 1, 0x80000000, 0x7f800000);
    const packed = packRows([{ data: new Float32Array(bits.buffer), cols: 4 }], 1, 0, 1, 'f32');
    expect([...new Uint32Array(packed.buffer)]).toEqual([...bits]);
  });

  it('refuses a length that is not rows · cols', () => {
    expect(() => packRows([part], 4, 0, 4, 'f32')).toThrow(ShapeError);
    expect(() => packRows([part], 4, 0, 4, 'f32')).toThrow('needs 8 values; 6 were given');
    const turned: Part = { data: data.subarray(1), cols: 2, transposed: true };
    expect(() => packRows([part, turned], 3, 0, 3, 'f16')).toThrow('needs 6 values; 5 were given');
  });
});

describe('strides', () => {
  it.each([
    [1, 16, 16],
    [4, 16, 16],
    [5, 32, 16],
    [8, 32, 16],
    [9, 48, 32],
  ])('a row of %d values is %d bytes as f32, %d as f16', (cols, wide, narrow) => {
    expect(rowBytes(cols, 'f32')).toBe(wide);
    expect(rowBytes(cols, 'f16')).toBe(narrow);
    // Activations are as long as the longer of the two rows, so that vectors meet vectors.
    expect(activationStride(cols) % 8).toBe(0);
    expect(activationStride(cols)).toBeGreaterThanOrEqual(wide / 4);
    expect(activationStride(cols)).toBeGreaterThanOrEqual(narrow / 2);
  });

  it('knows which dtypes can be stored', () => {
    expect(checkStoredDtype('f16')).toBe('f16');
    expect(() => checkStoredDtype('q8')).toThrow(OptionError);
  });
});
