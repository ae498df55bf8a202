import { describe, expect, it } from 'vitest';
import { decodeBf16, decodeF16, encodeBf16, encodeF16 } from '../../src/dtype.js';
import { NonFiniteError, OptionError, ShapeError } from '../../src/errors.js';
import {
  activationStride,
  checkStoredDtype,
  type Part,
  packRows,
  rowBytes,
  STORED_DTYPES,
  unpackPart,
  valueVectors,
} from '../../src/gpu/layout.js';
import { QuantizationMeter } from '../../src/quantize.js';

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

  it('stores bf16, with the bits that were given where they are bf16 already', () => {
    const bits = Uint16Array.of(0x7fc1, 0x0001, 0x8000, 0x7f80, 0x3f81, 0, 0, 0);
    const pack = (one: Part) => [...new Uint16Array(packRows([one], 1, 0, 1, 'bf16').buffer)];
    expect(pack({ data: bits, dtype: 'bf16', cols: 8 })).toEqual([...bits]);
    expect(pack({ data: decodeBf16(bits), cols: 8 })).toEqual([...bits]);
    expect(pack({ data: encodeF16(Float32Array.of(1.5)), cols: 1 }).slice(0, 2)).toEqual([0x3fc0, 0]);
  });

  it('stores q8 as values, padding, and the scale of the row', () => {
    const row: Part = { data: Float32Array.of(-254, 2, 0.9, 127, 0, 1), cols: 3 };
    const { buffer } = packRows([row], 2, 0, 2, 'q8');
    const values = new Int8Array(buffer);
    expect([...values.subarray(0, 16)]).toEqual([-127, 1, 0, ...Array(13).fill(0)]);
    expect([...values.subarray(32, 36)]).toEqual([127, 0, 1, 0]);
    expect([...new Float32Array(buffer, 16, 4)]).toEqual([2, 0, 0, 0]);
    expect([...new Float32Array(buffer, 48, 4)]).toEqual([1, 0, 0, 0]);
    expect([...unpackPart(buffer, 0, 3, 'q8')]).toEqual([-254, 2, 0]);
  });

  it('stores q4 as nibbles, padding, and a scale for each group of 32', () => {
    // 33 values: a group of -8 to 7 twice over, and one of a single value.
    const values = Float32Array.from({ length: 33 }, (_, i) => (i === 32 ? -24 : (i % 16) - 8));
    const { buffer } = packRows([{ data: values, cols: 33 }], 1, 0, 1, 'q4');
    const bytes = new Uint8Array(buffer);
    expect([...bytes.subarray(0, 8)]).toEqual([0x98, 0xba, 0xdc, 0xfe, 0x10, 0x32, 0x54, 0x76]);
    expect([...bytes.subarray(17, 32)]).toEqual(Array(15).fill(0));
    expect(buffer.byteLength).toBe(48);
    expect([...unpackPart(buffer, 0, 33, 'q4')]).toEqual([...values]);
    expect(new Uint16Array(buffer, 32, 8).subarray(2)).toEqual(new Uint16Array(6));
  });

  it.each(['q8', 'q4'] as const)('stores %s the same from every form of the same values', (dtype) => {
    const wide = Float32Array.from({ length: 3 * 40 }, (_, i) => Math.fround(Math.sin(i) * 2 ** (i % 3)));
    const values = decodeBf16(encodeBf16(wide));
    const turned = Float32Array.from(values, (_, i) => values[(i % 3) * 40 + Math.floor(i / 3)]);
    const want = packRows([{ data: values, cols: 40 }], 3, 0, 3, dtype);
    const forms: Part[] = [
      { data: encodeBf16(values), dtype: 'bf16', cols: 40 },
      { data: encodeF16(values), dtype: 'f16', cols: 40 },
      { data: turned, cols: 40, transposed: true },
    ];
    for (const form of forms) expect(packRows([form], 3, 0, 3, dtype)).toEqual(want);
    // A shard's rows do not depend on the others; parts stand side by side, each with its scales.
    const stride = want.length / 3;
    expect(packRows([forms[2]], 3, 1, 2, dtype)).toEqual(want.slice(stride, 2 * stride));
    const two = packRows([forms[0], forms[1]], 3, 2, 3, dtype);
    expect(two.slice(0, stride)).toEqual(want.slice(2 * stride));
    expect(two.slice(stride)).toEqual(want.slice(2 * stride));
  });

  it('hands the error of each part to its meter', () => {
    const meters = [new QuantizationMeter(), new QuantizationMeter()];
    const exact: Part = { data: Float32Array.of(127, -3, 0, 127), cols: 2 };
    const rough: Part = { data: Float32Array.of(127, 0.25, 127, 0), cols: 2 };
    packRows([exact, rough], 2, 0, 2, 'q8', meters);
    expect(meters[0].result).toEqual({ rmsRelative: 0, maxAbsolute: 0 });
    expect(meters[1].result.maxAbsolute).toBe(0.25);
    expect(meters[1].result.rmsRelative).toBeCloseTo(0.25 / Math.sqrt(2 * 127 ** 2), 6);
  });

  it.each(['q8', 'q4'] as const)('refuses what %s cannot hold by the name of its matrix', (dtype) => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const row: Part = { data: Float32Array.of(1, 2, 3, value), cols: 2, name: 'mine' };
      const pack = () => packRows([row], 2, 0, 2, dtype);
      expect(pack).toThrow(NonFiniteError);
      expect(pack).toThrow(`mine cannot be stored as ${dtype}: row 1, column 1 is ${value}`);
    }
    // As transposed: the row that is stored is a column of what was given.
    const turned: Part = { data: Float32Array.of(1, 2, Number.NaN, 3), cols: 2, transposed: true };
    expect(() => packRows([turned], 2, 0, 2, dtype)).toThrow('row 0, column 1 is NaN');
    expect(packRows([turned], 2, 1, 2, dtype)).toBeInstanceOf(Uint8Array);
  });

  it('refuses what is too large for the scales of q4', () => {
    const pack = () => packRows([{ data: Float32Array.of(1, -1e6), cols: 2 }], 1, 0, 1, 'q4');
    expect(pack).toThrow(NonFiniteError);
    expect(pack).toThrow('column 1 is -1000000, more than f16 scales reach');
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
    // q8 has a vector for its scale, q4 one for every eight groups of 32.
    [1, 16, 16, 32, 32],
    [4, 16, 16, 32, 32],
    [5, 32, 16, 32, 32],
    [8, 32, 16, 32, 32],
    [9, 48, 32, 32, 32],
    [17, 80, 48, 48, 32],
    [33, 144, 80, 64, 48],
    [256, 1024, 512, 272, 144],
    [257, 1040, 528, 288, 176],
  ])('a row of %d values is %d bytes as f32, %d as f16 or bf16, %d as q8, %d as q4', (cols, ...bytes) => {
    const [wide, narrow, q8, q4] = bytes;
    const sizes = { f32: wide, f16: narrow, bf16: narrow, q8, q4 };
    for (const dtype of STORED_DTYPES) expect(rowBytes(cols, dtype), dtype).toBe(sizes[dtype]);
    // Activations are as long as the longest row of values, so that vectors meet vectors.
    const values = [4, 8, 8, 16, 32].map((each, i) => each * valueVectors(cols, STORED_DTYPES[i]));
    expect(activationStride(cols)).toBe(Math.max(...values));
  });

  it('knows which dtypes can be stored', () => {
    expect(checkStoredDtype('f16')).toBe('f16');
    expect(checkStoredDtype('q4')).toBe('q4');
    expect(() => checkStoredDtype('q5')).toThrow(OptionError);
    expect(() => checkStoredDtype('toString')).toThrow(OptionError);
  });
});
