import { describe, expect, it } from 'vitest';
import { ModelFormatError } from '../../src/errors.js';
import { BlobSource, type ByteSource, MemorySource } from '../../src/io/byte-source.js';
import { openSafetensors } from '../../src/llama/safetensors.js';
import { writeSafetensors } from '../support/make-model.js';

/** A file with this header text (or value) and so many bytes of data. */
function file(header: unknown, dataBytes = 0): MemorySource {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return new MemorySource(bytes, 'x.safetensors');
}

const entry = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets });

async function refused(source: ByteSource, message: RegExp): Promise<ModelFormatError> {
  const error = await openSafetensors(source).then(
    () => expect.fail('was accepted'),
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(ModelFormatError);
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message.length).toBeLessThan(500);
  return error as ModelFormatError;
}

/** Serves only the first eight bytes, and notes what is asked for. */
function lengthOnly(headerLength: bigint, size: number): ByteSource & { asked: number } {
  return {
    name: 'hostile',
    size,
    asked: 0,
    async read(_offset, length) {
      this.asked += length;
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, headerLength, true);
      return bytes;
    },
  };
}

describe('a good file', () => {
  const f32 = new Float32Array([1.5, -2, 3, 4, 5, 6]);
  const bytes = writeSafetensors(
    [
      { name: 'a', dtype: 'F16', shape: [1], data: Uint16Array.of(0x3c00) },
      { name: 'b', dtype: 'F32', shape: [2, 3], data: f32 },
      { name: 'c', dtype: 'BF16', shape: [], data: Uint16Array.of(0x4000) },
      { name: 'ids', dtype: 'I64', shape: [1], data: new BigInt64Array(1) },
      { name: 'none', dtype: 'F32', shape: [0, 7], data: new Float32Array(0) },
      { name: '__proto__', dtype: 'U8', shape: [2], data: new Uint8Array(2) },
    ],
    { format: 'pt' },
  );

  for (const [kind, source] of [
    ['memory', new MemorySource(bytes)],
    ['blob', new BlobSource(new Blob([bytes]), 'a blob')],
  ] as const) {
    it(`is read from ${kind}, misaligned tensors included`, async () => {
      const opened = await openSafetensors(source);
      expect([...opened.tensors.keys()]).toEqual(['a', 'b', 'c', 'ids', 'none', '__proto__']);
      expect(opened.metadata.get('format')).toBe('pt');
      const b = opened.tensors.get('b')!;
      expect(b.end - b.begin).toBe(24);
      expect(b.begin % 4).toBe(2);
      expect(await opened.read('b')).toEqual({ dtype: 'F32', shape: [2, 3], data: f32 });
      expect(await opened.read('a')).toEqual({ dtype: 'F16', shape: [1], data: Uint16Array.of(0x3c00) });
      expect([...(await opened.readF32('a'))]).toEqual([1]);
      expect([...(await opened.readF32('c'))]).toEqual([2]);
      expect((await opened.readF32('none')).length).toBe(0);
      await expect(opened.readF32('ids')).rejects.toThrow(/"ids" is I64; only F32, F16 and BF16/);
      await expect(opened.readF32('ids')).rejects.toBeInstanceOf(ModelFormatError);
      await expect(opened.read('gone')).rejects.toThrow(/no tensor "gone"/);
      expect(Object.prototype).not.toHaveProperty('dtype');
    });
  }

  it('survives a source that hands out misaligned views', async () => {
    const inner = new MemorySource(bytes);
    const opened = await openSafetensors({
      name: 'odd',
      size: inner.size,
      async read(offset, length) {
        const out = new Uint8Array(length + 1).subarray(1);
        out.set(await inner.read(offset, length));
        return out;
      },
    });
    expect(await opened.readF32('b')).toEqual(f32);
  });

  it('is refused at every truncation', async () => {
    for (let size = 0; size < bytes.length; size++) {
      await refused(new MemorySource(bytes.slice(0, size)), /\d/);
    }
  });

  it('is refused with a byte too many', async () => {
    await refused(new MemorySource(new Uint8Array([...bytes, 0])), /1 bytes at the end belong to no tensor/);
  });
});

describe('the byte sources', () => {
  for (const source of [new MemorySource(new Uint8Array(10)), new BlobSource(new Blob(['0123456789']))]) {
    it(`${source.constructor.name} refuses ranges outside`, async () => {
      expect(source.size).toBe(10);
      expect((await source.read(10, 0)).length).toBe(0);
      for (const [offset, length] of [
        [0, 11],
        [10, 1],
        [-1, 2],
        [0, -1],
        [0.5, 1],
        [Number.NaN, 1],
        [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
      ]) {
        await expect(source.read(offset, length)).rejects.toThrow(
          new RegExp(`${length} bytes from byte ${offset} on.* 10 bytes`),
        );
        await expect(source.read(offset, length)).rejects.toBeInstanceOf(ModelFormatError);
      }
    });
  }

  it('MemorySource hands out copies', async () => {
    const source = new MemorySource(new Uint8Array(4));
    (await source.read(0, 4)).fill(7);
    expect([...(await source.read(0, 4))]).toEqual([0, 0, 0, 0]);
  });

  it('names a File after itself', () => {
    expect(new BlobSource(new File([''], 'm.safetensors')).name).toBe('m.safetensors');
  });
});

describe('hostile header lengths', () => {
  it.each([
    [0n, 1000, /0 bytes/],
    [993n, 1000, /993 bytes, but the file has 1000/],
    [1_000_000_000n, 4e9, /1000000000 bytes; at most 100000000/],
    [2n ** 64n - 1n, 4e9, /at most 100000000/],
  ])('%s of %s: refused before anything is read', async (length, size, message) => {
    const source = lengthOnly(length, size);
    await refused(source, message);
    expect(source.asked).toBe(8);
  });

  it('a source that delivers less than asked for', async () => {
    await refused(lengthOnly(100n, 1000), /asked for 100 bytes from byte 8 on, got 8/);
  });
});

describe('hostile headers', () => {
  const data8 = (tensors: unknown) => file(tensors, 8);
  const huge = Number.MAX_SAFE_INTEGER;
  const cases: [string, MemorySource, RegExp][] = [
    ['not JSON', file('{"a":'), /not JSON/],
    ['not UTF-8', new MemorySource(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff)), /not JSON/],
    ['an array', file('[]'), /begin with "\{"/],
    ['leading space', file(' {}'), /begin with "\{"/],
    ['trailing text', file('{} {}'), /not JSON/],
    ['entry null', file({ a: null }), /"a" must be an object, not null/],
    ['entry a list', file({ a: [1] }), /"a" must be an object/],
    ['a very long name', file({ ['n'.repeat(10_000)]: 1 }), /nnn…" must be an object/],
    ['no dtype', data8({ a: { shape: [2], data_offsets: [0, 8] } }), /dtype undefined/],
    ['dtype a number', data8({ a: entry(32, [2], [0, 8]) }), /dtype 32/],
    ['dtype unknown', data8({ a: entry('Q4', [2], [0, 8]) }), /dtype "Q4"/],
    ['dtype of Object.prototype', data8({ a: entry('constructor', [2], [0, 8]) }), /dtype "constructor"/],
    [
      'fields inherited',
      data8('{"a":{"__proto__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}'),
      /dtype und/,
    ],
    ['no shape', data8({ a: { dtype: 'F32', data_offsets: [0, 8] } }), /shape undefined/],
    ['shape negative', data8({ a: entry('F32', [-2], [0, 8]) }), /shape \[-2\]/],
    ['shape two negatives', data8({ a: entry('F32', [-1, -2], [0, 8]) }), /shape \[-1, -2\]/],
    ['shape fractional', data8({ a: entry('F32', [0.5, 4], [0, 8]) }), /shape \[0.5, 4\]/],
    ['shape text', data8({ a: entry('F32', ['2'], [0, 8]) }), /shape \["2"\]/],
    ['shape unsafe', data8({ a: entry('F32', [2 ** 53], [0, 8]) }), /shape \[9007199254740992\]/],
    ['shape overflow', data8({ a: entry('F32', [huge, huge], [0, 8]) }), /takes .* span 8/],
    ['shape to infinity', data8({ a: entry('F32', [...Array(30).fill(huge), 0], [0, 8]) }), /span 8/],
    [
      'shape too big',
      data8({ a: entry('F32', [3], [0, 8]) }),
      /F32 \[3\] takes 12 bytes, data_offsets span 8/,
    ],
    ['shape too small', data8({ a: entry('F16', [3], [0, 8]) }), /takes 6 bytes, data_offsets span 8/],
    ['half a byte', data8({ a: entry('F4', [15], [0, 8]) }), /takes 7.5 bytes/],
    ['no offsets', data8({ a: { dtype: 'F32', shape: [2] } }), /data_offsets undefined/],
    ['one offset', data8({ a: entry('F32', [2], [8]) }), /data_offsets \[8\]/],
    ['three offsets', data8({ a: entry('F32', [2], [0, 8, 8]) }), /data_offsets/],
    ['offset negative', data8({ a: entry('F32', [2], [-8, 0]) }), /data_offsets \[-8, 0\]/],
    ['offset fractional', data8({ a: entry('F32', [2], [0.5, 8.5]) }), /data_offsets/],
    ['offset null', data8({ a: entry('F32', [2], [null, 8]) }), /data_offsets \[null, 8\]/],
    ['begin behind end', data8({ a: entry('F32', [2], [8, 0]) }), /begins at 8, behind its end 0/],
    ['beyond the file', data8({ a: entry('F32', [3], [0, 12]) }), /ends at byte 12 of the data, which has 8/],
    ['overlap', data8({ a: entry('F32', [2], [0, 8]), b: entry('F32', [1], [4, 8]) }), /"b" overlaps/],
    [
      'the same bytes twice',
      data8({ a: entry('F32', [2], [0, 8]), b: entry('F32', [2], [0, 8]) }),
      /overlaps/,
    ],
    ['a hole in front', data8({ a: entry('F32', [1], [4, 8]) }), /"a" leaves a hole/],
    ['a hole behind', data8({ a: entry('F32', [1], [0, 4]) }), /4 bytes at the end belong to no tensor/],
    ['data without tensors', data8({}), /8 bytes at the end/],
    [
      'a tensor twice',
      file('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061" : {}}'),
      /"a" twice/,
    ],
    [
      'a field twice',
      file('{"a":{"dtype":"F32","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
      /"dtype" twice/,
    ],
    ['metadata a list', file({ __metadata__: ['a'] }), /__metadata__ must be an object/],
    ['metadata nested', file({ __metadata__: { a: { b: 'c' } } }), /__metadata__ "a" must be a string/],
    ['metadata null', file({ __metadata__: null }), /__metadata__ must be an object, not null/],
  ];
  it.each(cases)('%s', async (_name, source, message) => {
    await refused(source, message);
  });

  it('deeply nested', async () => {
    await refused(file(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), /must be an object|not JSON/);
  });

  it('accepts no tensors, order other than that of the data, and quotes in strings', async () => {
    expect((await openSafetensors(file('{}   '))).tensors.size).toBe(0);
    const swapped = {
      b: entry('F32', [1], [4, 8]),
      a: entry('F32', [1], [0, 4]),
      __metadata__: { 'a"': '":b' },
    };
    expect((await openSafetensors(data8(swapped))).tensors.size).toBe(2);
  });
});
