import { readFile, writeFile } from 'node:fs/promises';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { RowError, ShapeError, TraceError } from '../../src/errors.js';
import { Bitmask } from '../../src/mask/index.js';
import { readTrace, writeTrace } from '../../src/node/trace-file.js';
import { Trace, TraceBuilder } from '../../src/residency/trace.js';
import { decodeTrace, encodeTrace } from '../../src/residency/trace-format.js';

const INFO = { model: 'm', mode: 'exact', dtype: 'f32', rowBytes: 64 };
const bigEnough = { ...INFO, rows: 40, layers: 2 };

function small(): Trace {
  const builder = new TraceBuilder(bigEnough);
  for (const name of ['one', 'zwei – ü']) {
    builder.begin(name);
    for (let step = 0; step < 3; step++) {
      builder.push(0, Bitmask.fromIds([step, 39], 40));
      builder.push(1, Bitmask.fromIds([step + name.length], 40));
    }
  }
  return builder.build();
}

/** The file's bytes with another header. */
function withHeader(change: (info: Record<string, unknown>) => unknown): Uint8Array {
  const bytes = encodeTrace(small());
  const length = new DataView(bytes.buffer).getUint32(8, true);
  const info = JSON.parse(new TextDecoder().decode(bytes.subarray(12, 12 + length)));
  let json = JSON.stringify(change(info) ?? info);
  // Its length in bytes a multiple of 4.
  while (new TextEncoder().encode(json).length % 4 !== 0) json += ' ';
  const header = new TextEncoder().encode(json);
  const out = new Uint8Array(12 + header.length + bytes.length - 12 - length);
  out.set(bytes.subarray(0, 12));
  new DataView(out.buffer).setUint32(8, header.length, true);
  out.set(header, 12);
  out.set(bytes.subarray(12 + length), 12 + header.length);
  return out;
}

describe('a trace', () => {
  it('gives back the masks it was built of, by step, layer and sequence', () => {
    const trace = small();
    expect([trace.steps, trace.info.sequences]).toEqual([
      6,
      [
        { name: 'one', steps: 3 },
        { name: 'zwei – ü', steps: 3 },
      ],
    ]);
    expect([...trace.mask(2, 0)]).toEqual([2, 39]);
    expect([...trace.mask(3, 1)]).toEqual([8]);
    expect(trace.layer(1).map((mask) => [...mask][0])).toEqual([3, 4, 5, 8, 9, 10]);
    const second = trace.sequences(1);
    expect([second.steps, second.info.sequences.length, [...second.mask(0, 1)]]).toEqual([3, 1, [8]]);
    expect(trace.sequences(0, 1).layer(0)).toEqual(trace.layer(0).slice(0, 3));
    // A copy: what the caller does to it stays with the caller.
    trace.mask(0, 0).add(7);
    expect(trace.mask(0, 0).has(7)).toBe(false);
  });

  it('refuses places that are none, and masks that come out of order', () => {
    const trace = small();
    for (const [step, layer] of [
      [6, 0],
      [-1, 0],
      [0.5, 0],
      [0, 2],
    ]) {
      expect(() => trace.mask(step, layer)).toThrow(RowError);
    }
    expect(() => trace.layer(2)).toThrow(RowError);
    expect(() => trace.sequences(2)).toThrow(RowError);
    const builder = new TraceBuilder(bigEnough);
    expect(() => builder.push(0, Bitmask.empty(40))).toThrow(/begin/);
    builder.begin('x');
    expect(() => builder.push(1, Bitmask.empty(40))).toThrow(ShapeError);
    expect(() => builder.push(0, Bitmask.empty(41))).toThrow(ShapeError);
    builder.push(0, Bitmask.empty(40));
    expect(() => builder.build()).toThrow(/1 of 2 layers/);
    expect(() => new Trace({ ...bigEnough, sequences: [] }, new Uint32Array(1))).toThrow(TraceError);
  });
});

describe('the bytes of a trace', () => {
  it('come back as they were, whatever it holds', () => {
    const input = fc.record({
      rows: fc.integer({ min: 1, max: 100 }),
      layers: fc.integer({ min: 1, max: 4 }),
      names: fc.array(fc.string({ unit: 'binary' }), { maxLength: 4 }),
      steps: fc.nat(5),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(input, ({ rows, layers, names, steps, seed }) => {
        const builder = new TraceBuilder({ ...INFO, rows, layers });
        for (const name of names) {
          builder.begin(name);
          for (let i = 0; i < steps * layers; i++) {
            builder.push(i % layers, Bitmask.fromIds([(seed + i * i) % rows], rows));
          }
        }
        const trace = builder.build();
        const back = decodeTrace(encodeTrace(trace));
        expect(back.words).toEqual(trace.words);
        expect(back.info).toEqual(trace.info);
      }),
    );
  });

  it('are refused wherever they end early, or go on', () => {
    const bytes = encodeTrace(small());
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeTrace(bytes.subarray(0, length)), `${length} bytes`).toThrow(TraceError);
    }
    const longer = new Uint8Array(bytes.length + 4);
    longer.set(bytes);
    expect(() => decodeTrace(longer)).toThrow(TraceError);
  });

  it('with any byte changed are a trace still, or refused', () => {
    const bytes = encodeTrace(small());
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
        const changed = bytes.slice();
        changed[at] = value;
        try {
          decodeTrace(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(TraceError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each<[string, (info: Record<string, unknown>) => unknown, RegExp]>([
    ['more steps than masks', (info) => ({ ...info, sequences: [{ name: '', steps: 7 }] }), /cut short/],
    ['2^31 rows', (info) => ({ ...info, rows: 2 ** 31 }), /number of rows is 2147483648/],
    ['rows that are none', (info) => ({ ...info, rows: 'many' }), /number "rows"/],
    ['half a layer', (info) => ({ ...info, layers: 0.5 }), /number of layers/],
    [
      'more steps than there can be',
      (info) => ({ ...info, sequences: Array(9).fill({ name: '', steps: 2 ** 31 - 1 }) }),
      /should have/,
    ],
    ['steps below 0', (info) => ({ ...info, sequences: [{ name: 's', steps: -1 }] }), /steps of "s"/],
    ['no sequences', (info) => ({ ...info, sequences: {} }), /list of sequences/],
    ['a sequence that is none', (info) => ({ ...info, sequences: [null] }), /no JSON object/],
    ['no model', (info) => ({ ...info, model: undefined }), /text "model"/],
    ['a list', () => [], /no JSON object/],
    ['fewer rows than bits', (info) => ({ ...info, rows: 39 }), /bit beyond its 39 rows/],
  ])('are refused with %s in the header', (_, change, message) => {
    const bytes = withHeader(change);
    expect(() => decodeTrace(bytes)).toThrow(TraceError);
    expect(() => decodeTrace(bytes)).toThrow(message);
  });

  it('are refused with a header of no size that could be', () => {
    for (const length of [2 ** 32 - 1, 2 ** 21, 3]) {
      const bytes = encodeTrace(small());
      new DataView(bytes.buffer).setUint32(8, length, true);
      expect(() => decodeTrace(bytes)).toThrow(/header has/);
    }
  });
});

describe('the file of a trace', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pairslab-trace-'));
  const file = join(folder, 'a.trace.gz');
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('comes back as it was', async () => {
    const trace = small();
    await writeTrace(file, trace);
    expect(await readTrace(file)).toEqual(trace);
  });

  it('is refused when cut short, changed, or something else', async () => {
    await writeTrace(file, small());
    const bytes = await readFile(file);
    const other = join(folder, 'b.trace.gz');
    const refused = async (content: Uint8Array, message: RegExp) => {
      await writeFile(other, content);
      await expect(readTrace(other)).rejects.toThrow(TraceError);
      await expect(readTrace(other)).rejects.toThrow(message);
    };
    await refused(bytes.subarray(0, bytes.length - 9), /cannot be unpacked/);
    const flipped = bytes.slice();
    flipped[bytes.length - 30] ^= 4;
    await refused(flipped, /cannot be unpacked/);
    await refused(new Uint8Array(0), /cannot be unpacked|do not begin/);
    await refused(new TextEncoder().encode('{"results": []}'), /cannot be unpacked/);
    await refused(gzipSync('something else, packed'), /b\.trace\.gz: .*do not begin as a trace/);
  });
});
