/** The row-bundled form: what is written, that it is read back as it was, and that nothing in it is believed. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ModelFormatError, OptionError, PoolError } from '../../src/errors.js';
import { packRows, STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import { openCheckpoint, requireTensors } from '../../src/llama/checkpoint.js';
import { type ConvertOptions, convertModel } from '../../src/llama/convert.js';
import { otherDtype } from '../../src/llama/weights.js';
import { type MakeModelOptions, type MemoryFolder, makeModel } from '../support/make-model.js';
import { MemorySink } from '../support/memory-sink.js';

const SMALL: MakeModelOptions = { hidden: 20, intermediate: 37, heads: 2, headDim: 10, mlpBias: true };

async function convert(from: MemoryFolder, options: Partial<ConvertOptions> = {}) {
  const sink = new MemorySink();
  const converted = await convertModel(from, sink, { dtype: 'f16', ...options });
  return { ...sink, converted };
}

/** The folder with another file in place of one. */
const changed = (folder: MemoryFolder, file: string, content: unknown): MemoryFolder => {
  const other = Object.assign(Object.create(Object.getPrototypeOf(folder)), folder, {
    files: new Map(folder.files),
  });
  return (other as MemoryFolder).set(file, content);
};

const indexOf = (folder: MemoryFolder) =>
  JSON.parse(new TextDecoder().decode(folder.files.get('rows.json') as Uint8Array));

describe('convertModel', () => {
  it.each(STORED_DTYPES.flatMap((dtype) => [1, 5].map((blockRows) => [dtype, blockRows] as const)))(
    'writes a model whose rows are read as %s without a conversion, %i rows a block',
    async (dtype, blockRows) => {
      const from = makeModel({ ...SMALL, dtype: 'bf16', sharded: true });
      from.set('tokenizer.json', { a: 1 }).set('unrelated.bin', new Uint8Array(9));
      const seen: number[] = [];
      const onProgress = (done: number, total: number) => seen.push(done / total);
      const { folder, closed, converted } = await convert(from, { dtype, blockRows, onProgress });
      expect([...folder.files.keys()].sort()).toEqual([
        'config.json',
        'model.safetensors',
        'rows.bin',
        'rows.json',
        'tokenizer.json',
      ]);
      expect(closed.at(-1)).toBe('rows.json');
      expect(seen.at(-1)).toBe(1);
      expect(folder.files.get('config.json')).toEqual(from.files.get('config.json'));
      const sizes = [...folder.files.values()].reduce((sum, { length }) => sum + length, 0);
      expect(converted).toMatchObject({ bytes: sizes, rowBytes: folder.files.get('rows.bin')?.length });

      const [before, after] = [await openCheckpoint(from), await openCheckpoint(folder)];
      requireTensors(after);
      const { bundle } = after;
      expect(bundle?.dtype).toBe(dtype);
      const quantized = dtype === 'q8' || dtype === 'q4';
      expect(Object.keys(bundle?.quantization ?? {})).toHaveLength(quantized ? 6 : 0);
      for (const l of [0, 1]) {
        const at = `model.layers.${l}.mlp`;
        const pool = bundle?.pool(at);
        const host = await pool?.toHost();
        const values = (name: string, shape: number[]) => before.readF32(`${at}.${name}`, shape);
        const pack = (data: Float32Array, transposed: boolean) =>
          packRows([{ data, cols: 20, transposed }], 37, 0, 37, dtype);
        expect(host?.fieldRows('up')).toEqual(pack(await values('up_proj.weight', [37, 20]), false));
        expect(host?.fieldRows('down')).toEqual(pack(await values('down_proj.weight', [20, 37]), true));
        const bias = new Float32Array(host?.fieldRows('bias').buffer as ArrayBuffer);
        const want = await values('up_proj.bias', [37]);
        want.forEach((value, r) => {
          expect([...bias.subarray(4 * r, 4 * r + 4)]).toEqual([value, 0, 0, 0]);
        });
        const gate = await bundle?.pool(`${at}.gate_proj`).toHost();
        expect(gate?.fieldRows('weight')).toEqual(pack(await values('gate_proj.weight', [37, 20]), false));
        expect(after.has(`${at}.up_proj.weight`)).toBe(false);
        // A row is one read, and starts at a multiple of 16.
        expect((pool?.rowBytes ?? 1) % 16).toBe(0);
        await pool?.read(Uint32Array.of(8), new Uint8Array(pool.rowBytes));
        expect(pool?.counts.reads).toBe(2);
      }
      const q = 'model.layers.1.self_attn.q_proj.weight';
      expect(after.info(q).dtype).toBe(otherDtype(dtype).toUpperCase());
      expect(after.info('model.norm.weight').dtype).toBe('BF16');
      expect(await after.readF32('model.norm.weight', [20])).toEqual(
        await before.readF32('model.norm.weight', [20]),
      );
      expect(after.info('model.layers.1.mlp.down_proj.bias').shape).toEqual([20]);
    },
  );

  it('refuses what was converted before, and options that cannot be', async () => {
    const { folder } = await convert(makeModel());
    await expect(convert(folder)).rejects.toThrow(/converted already/);
    await expect(convert(makeModel(), { dtype: 'q5' as StoredDtype })).rejects.toThrow(OptionError);
    for (const blockRows of [0, 1.5, -1])
      await expect(convert(makeModel(), { blockRows })).rejects.toThrow(OptionError);
  });

  it('ends with the reason of its signal, the index unwritten', async () => {
    const controller = new AbortController();
    const sink = new MemorySink();
    const onProgress = (done: number) => done === 12 && controller.abort(new Error('enough'));
    const options = { dtype: 'f16', signal: controller.signal, onProgress } as const;
    await expect(convertModel(makeModel(), sink, options)).rejects.toThrow('enough');
    expect(sink.closed).not.toContain('rows.json');
  });
});

describe('a bundle that is not what it says', async () => {
  const { folder } = await convert(makeModel({ ...SMALL, layers: 1 }), { dtype: 'q8' });
  const open = async (other: MemoryFolder) => {
    const checkpoint = await openCheckpoint(other);
    requireTensors(checkpoint);
    return checkpoint;
  };
  const mlp = (index: ReturnType<typeof indexOf>) => index.pools['model.layers.0.mlp'];

  it.each<[string, (index: ReturnType<typeof indexOf>) => unknown]>([
    ['another format', (index) => Object.assign(index, { format: 'rows' })],
    ['a later version', (index) => Object.assign(index, { version: 2 })],
    ['another checksum', (index) => Object.assign(index, { checksum: 'md5' })],
    ['an unknown dtype', (index) => Object.assign(index, { dtype: 'q5' })],
    ['another file', (index) => Object.assign(index, { file: '../../etc/passwd' })],
    ['another size', (index) => Object.assign(index, { size: index.size + 16 })],
    ['no pools', (index) => Object.assign(index, { pools: null })],
    ['a pool that is none', (index) => Object.assign(index.pools, { 'model.layers.0.mlp': [] })],
    ['a pool too few', (index) => delete index.pools['model.layers.0.mlp.gate_proj']],
    ['a dtype that its fields have not', (index) => Object.assign(index, { dtype: 'f16' })],
    ['fewer rows', (index) => Object.assign(mlp(index), { rows: 36, checksums: btoa('x'.repeat(4 * 36)) })],
    ['more rows than there can be', (index) => Object.assign(mlp(index), { rows: 2 ** 40 })],
    ['more rows than the file has', (index) => Object.assign(mlp(index), { rows: 2 ** 30 })],
    ['a start between rows', (index) => Object.assign(mlp(index), { offset: 8 })],
    ['a start beyond the end', (index) => Object.assign(mlp(index), { offset: 2 ** 50 })],
    ['a start before the file', (index) => Object.assign(mlp(index), { offset: -16 })],
    ['blocks of nothing', (index) => Object.assign(mlp(index), { blockRows: 0 })],
    ['another size of rows', (index) => Object.assign(mlp(index), { rowBytes: 16 })],
    ['no fields', (index) => Object.assign(mlp(index), { fields: [] })],
    ['a field twice', (index) => Object.assign(mlp(index).fields[1], { name: 'up' })],
    ['fields in another order', (index) => mlp(index).fields.reverse()],
    ['columns that cannot be', (index) => Object.assign(mlp(index).fields[0], { cols: [2 ** 31] })],
    [
      'a checksum too few',
      (index) => Object.assign(mlp(index), { checksums: mlp(index).checksums.slice(4) }),
    ],
    ['checksums that are no base64', (index) => Object.assign(mlp(index), { checksums: '!'.repeat(200) })],
    ['figures that are none', (index) => Object.assign(index.quantization, { x: { rmsRelative: 'y' } })],
  ])('%s: ModelFormatError', async (_, spoil) => {
    const index = indexOf(folder);
    spoil(index);
    await expect(open(changed(folder, 'rows.json', index))).rejects.toThrow(ModelFormatError);
  });

  it('is refused for any cut of its files', async () => {
    await open(folder);
    for (const file of ['rows.json', 'rows.bin', 'model.safetensors']) {
      const bytes = folder.files.get(file) as Uint8Array;
      // The index ends with a line feed, which is not missed.
      const cut = fc.nat(bytes.length - 2);
      await fc.assert(
        fc.asyncProperty(cut, async (length) => {
          await expect(open(changed(folder, file, bytes.slice(0, length)))).rejects.toThrow(ModelFormatError);
        }),
        { numRuns: 30 },
      );
    }
    const { files } = changed(folder, 'x', {});
    files.delete('rows.bin');
    await expect(open(Object.assign(changed(folder, 'x', {}), { files }))).rejects.toThrow(
      /rows.bin, which is missing/,
    );
  });

  it('is refused or read, and never worse, for any change of a byte of its index', async () => {
    const bytes = folder.files.get('rows.json') as Uint8Array;
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(255), async (at, value) => {
        const other = bytes.slice();
        other[at] = value;
        const error = await open(changed(folder, 'rows.json', other)).then(
          () => null,
          (caught) => caught,
        );
        if (error) expect(error).toBeInstanceOf(ModelFormatError);
      }),
      { numRuns: 300 },
    );
  });

  it('says which rows have a flipped bit', async () => {
    const rows = (folder.files.get('rows.bin') as Uint8Array).slice();
    rows[rows.length - 20] ^= 4;
    const { bundle } = await open(changed(folder, 'rows.bin', rows));
    const error = await bundle
      ?.pool('model.layers.0.mlp')
      .toHost()
      .catch((caught) => caught);
    expect(error).toBeInstanceOf(PoolError);
    expect(error).toMatchObject({ code: 'checksum', details: { row: 36 } });
  });
});
