import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { version } from '../../package.json';
import { TuningError } from '../../src/errors.js';
import { setTuning, type Tuning, tuningOf } from '../../src/gpu/tuning.js';
import { diskStore, tuningFile } from '../../src/node/tuning-store.js';
import { tuningKey, tuningKeyOf } from '../../src/gpu/tuning-key.js';
import { parseTuning, serializeTuning } from '../../src/gpu/tuning-parse.js';
import { browserStore, loadTuning, readTuning, saveTuning } from '../../src/gpu/tuning-store.js';
import { loadTuningOnce } from '../../src/gpu/saved-tuning.js';
import { VERSION } from '../../src/version.js';

const INFO = {
  vendor: 'maker',
  architecture: 'arch',
  device: 'card',
  description: 'driver 1.2',
  subgroupMinSize: 8,
  subgroupMaxSize: 32,
};
const variant = { team: 'lane', tile: '4x1', WORKGROUP: 16, ROWS: 64 };
const entry = {
  kernel: 'linear',
  dtype: 'f16',
  batched: false,
  cols: 256,
  variant,
  default: variant,
  speedup: 1.25,
};
const rates = [
  [0.25, 3],
  [1, 2],
];
const reads = { launch: 0.1, dense: [[1, 2]], indexed: rates, again: rates, packed: [[0.25, 2]] };
const copies = { launch: 0.05, rates: [[0.25, 9]] };
const costs = {
  dtype: 'f16',
  rowBytes: 6144,
  rows: 4096,
  wait: 0.5,
  read: reads,
  readBatched: reads,
  move: copies,
  select: copies,
};
const file = { format: 2, key: 'k', entries: [entry], costs: [costs] };
const tuning = { entries: [entry], costs: [costs] } as unknown as Tuning;

/** A page's storage: items are fields of it. */
class PageItems {
  [name: string]: unknown;
  getItem(name: string): string | null {
    return Object.hasOwn(this, name) ? String(this[name]) : null;
  }
  setItem(name: string, value: string): void {
    this[name] = value;
  }
}

/** As much of a device as a tuning asks for. */
const fakeDevice = (info: object = INFO, features: string[] = ['subgroups']) =>
  ({ adapterInfo: info, features: new Set(features) }) as unknown as GPUDevice;

describe('tuning key', () => {
  const key = tuningKey(INFO, ['subgroups', 'shader-f16']);

  it('is the same at each visit, whatever the order of the features', () => {
    expect(tuningKey({ ...INFO }, ['shader-f16', 'subgroups'])).toEqual(key);
    expect(key.hash).toMatch(/^[0-9a-f]{16}$/);
    expect(tuningKeyOf(fakeDevice(INFO, ['shader-f16', 'subgroups']))).toEqual(key);
  });

  it('leaves out features that choose no variant', () => {
    expect(tuningKey(INFO, ['subgroups', 'shader-f16', 'depth-clip-control'])).toEqual(key);
  });

  it('differs by adapter, driver, features and version', () => {
    const keys = [
      key,
      ...Object.keys(INFO).map((name) =>
        tuningKey({ ...INFO, [name]: 'other' }, ['subgroups', 'shader-f16']),
      ),
      tuningKey(INFO, ['subgroups']),
      tuningKey(INFO, []),
    ];
    expect(new Set(keys.map(({ text }) => text)).size).toBe(keys.length);
    expect(new Set(keys.map(({ hash }) => hash)).size).toBe(keys.length);
    expect(key.text).toContain(VERSION);
    expect(VERSION).toBe(version);
  });

  it('does without what a browser does not tell', () => {
    expect(tuningKeyOf({ features: new Set() } as unknown as GPUDevice).hash).toMatch(/^[0-9a-f]{16}$/);
  });
});

describe('parseTuning', () => {
  it('takes what was saved', () => {
    expect(parseTuning(file)).toEqual({ entries: [entry], costs: [costs] });
    expect(parseTuning(JSON.parse(JSON.stringify(serializeTuning(tuning, 'k'))))).toEqual(tuning);
    expect(parseTuning({ format: 2, entries: [] })).toEqual({ entries: [] });
  });

  it('takes what rows were read from, and says nothing of buffers', () => {
    const from = (storage: string) => ({
      ...file,
      entries: [{ ...entry, storage }],
      costs: [{ ...costs, storage }],
    });
    const texture = parseTuning(from('texture'));
    expect(texture).toEqual({
      entries: [{ ...entry, storage: 'texture' }],
      costs: [{ ...costs, storage: 'texture' }],
    });
    expect(parseTuning(JSON.parse(JSON.stringify(serializeTuning(texture, 'k'))))).toEqual(texture);
    expect(parseTuning(from('buffer'))).toEqual({ entries: [entry], costs: [costs] });
  });

  it('takes entries that were not measured', () => {
    const { default: _, speedup: __, ...bare } = entry;
    expect(parseTuning({ format: 2, entries: [bare] }).entries).toEqual([
      { ...bare, default: variant, speedup: 1 },
    ]);
  });

  const withEntry = (change: object) => ({ ...file, entries: [entry, { ...entry, ...change }] });
  const withVariant = (value: unknown) => withEntry({ variant: value });
  const withCosts = (change: object) => ({ ...file, costs: [{ ...costs, ...change }] });
  const withRates = (value: unknown) => withCosts({ move: { launch: 0, rates: value } });
  it.each<[string, unknown, RegExp]>([
    ['nothing', null, /the tuning is null/],
    ['a list', [file], /the tuning is \[/],
    ['a number', 7, /the tuning is 7/],
    ['another format', { ...file, format: 1 }, /format is 1; it must be 2/],
    ['no entries', { format: 2 }, /entries is undefined; it must be a list/],
    ['entries that are a text', { format: 2, entries: 'many' }, /entries is "many"/],
    ['a huge list', { format: 2, entries: new Array(1001).fill(entry) }, /1001 items.*at most 1000/],
    ['an entry that is null', { ...file, entries: [null] }, /entries\[0\] is null/],
    ['a kernel that is no name', withEntry({ kernel: '../x' }), /entries\[1\]\.kernel is "\.\.\/x"/],
    ['a kernel that is a number', withEntry({ kernel: 1 }), /kernel is 1/],
    ['an unknown dtype', withEntry({ dtype: 'f64' }), /dtype is "f64"; it must be one of f32/],
    ['a dtype named like a method', withEntry({ dtype: 'toString' }), /dtype is "toString"/],
    ['batched that is neither', withEntry({ batched: 1 }), /batched is 1/],
    ['NaN columns', withEntry({ cols: Number.NaN }), /cols is null; it must be an integer/],
    ['columns of zero', withEntry({ cols: 0 }), /cols is 0/],
    ['columns beyond integers', withEntry({ cols: 1e300 }), /cols is 1e\+300/],
    [
      'an unknown storage',
      withEntry({ storage: 'image' }),
      /entries\[1\]\.storage is "image"; it must be buffer or texture/,
    ],
    ['a storage to be chosen', withEntry({ storage: 'auto' }), /storage is "auto"/],
    ['a storage that is null', withEntry({ storage: null }), /storage is null/],
    ['costs of an unknown storage', withCosts({ storage: 'disk' }), /costs\[0\]\.storage is "disk"/],
    ['a variant that is a list', withVariant(['lane']), /variant is \["lane"\]/],
    ['an empty variant', withVariant({}), /variant is "0 fields"/],
    [
      'a variant of many fields',
      withVariant(Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`f${i}`, 1]))),
      /17 fields/,
    ],
    ['a variant of objects', withVariant({ team: {} }), /variant\.team is \{\}/],
    ['a fraction', withVariant({ ROWS: 1.5 }), /ROWS is 1\.5/],
    ['a negative number', withVariant({ ROWS: -1 }), /ROWS is -1/],
    ['infinity', withVariant({ ROWS: Number.POSITIVE_INFINITY }), /ROWS is null/],
    ['WGSL in a variant', withVariant({ team: 'lane; }' }), /team is "lane; \}"/],
    ['a long text', withVariant({ team: 'x'.repeat(1e6) }), /team is "xxx/],
    [
      '__proto__',
      JSON.parse(
        '{"format":2,"entries":[{"kernel":"linear","dtype":"f32","batched":false,"cols":4,"variant":{"__proto__":1}}]}',
      ),
      /__proto__/,
    ],
    ['constructor', withVariant({ constructor: 'x' }), /"constructor"; it must be a plain name/],
    ['a speed-up of NaN', withEntry({ speedup: Number.NaN }), /speedup is null/],
    ['a speed-up that is text', withEntry({ speedup: '2' }), /speedup is "2"/],
    ['costs that are an object', { ...file, costs: {} }, /costs is \{\}/],
    ['many costs', { ...file, costs: new Array(33).fill(costs) }, /33 items/],
    ['a negative cost', withCosts({ wait: -1 }), /costs\[0\]\.wait is -1/],
    ['costs of no rows', withCosts({ rows: 0 }), /costs\[0\]\.rows is 0; it must be an integer/],
    ['costs of half a byte', withCosts({ rowBytes: 1.5 }), /costs\[0\]\.rowBytes is 1\.5/],
    ['a cost that is missing', withCosts({ read: { launch: 1 } }), /costs\[0\]\.read\.dense is undefined/],
    ['a cost without parts', withCosts({ move: 3 }), /costs\[0\]\.move is 3/],
    ['no rates', withRates([]), /costs\[0\]\.move\.rates is \[\]; it must be a list of at least one/],
    ['rates that are a number', withRates(9), /move\.rates is 9; it must be a list/],
    ['many rates', withRates(Array.from({ length: 17 }, (_, i) => [i, 1])), /17 items/],
    ['a rate without a share', withRates([[1]]), /move\.rates\[0\] is \[1\]; it must be a share and a rate/],
    ['a rate that is infinite', withRates([[1, Number.POSITIVE_INFINITY]]), /move\.rates\[0\] is null/],
    ['a rate that is a text', withRates([[1, '9']]), /move\.rates\[0\] is "9"/],
    [
      'shares out of order',
      withRates([
        [0.5, 1],
        [0.5, 2],
      ]),
      /move\.rates\[1\] is \[0\.5,2\]; it must be a share above/,
    ],
  ])('refuses %s', (_, json, message) => {
    expect(() => parseTuning(json)).toThrow(TuningError);
    expect(() => parseTuning(json)).toThrow(message);
    expect({}).not.toHaveProperty('team');
  });

  it('takes nothing from prototypes', () => {
    expect(() => parseTuning(Object.create(file))).toThrow(TuningError);
  });
});

describe('tuning files', () => {
  let folder: string;
  let said: string[];
  const log = (message: string) => said.push(message);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pairslab-tuning-'));
    said = [];
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('come back as they were saved, for a device like the one they were made on', async () => {
    const store = diskStore(join(folder, 'deeper'));
    await saveTuning(fakeDevice(), store, tuning);
    const device = fakeDevice();
    expect(await loadTuning(device, store, log)).toEqual(tuning);
    expect(tuningOf(device)).toEqual(tuning);
    const other = fakeDevice({ ...INFO, description: 'driver 1.3' });
    setTuning(other, tuning);
    expect(await loadTuning(other, store, log)).toBeNull();
    expect(tuningOf(other)).toBeNull();
    expect(said).toEqual([]);
    // No half file is left behind.
    expect(readdirSync(join(folder, 'deeper'))).toEqual([`tuning-${tuningKeyOf(device).hash}.json`]);
  });

  const key = tuningKeyOf(fakeDevice());
  it.each<[string, string, RegExp]>([
    ['cut off', JSON.stringify(serializeTuning(tuning, key.text)).slice(0, -20), /it is not JSON/],
    ['empty', '', /it is not JSON/],
    ['binary', '\u0000\u0001', /it is not JSON/],
    [
      'of another adapter',
      JSON.stringify(serializeTuning(tuning, 'other')),
      /another adapter, driver or version/,
    ],
    ['without a key', JSON.stringify({ format: 2, entries: [] }), /another adapter, driver or version/],
    ['huge', ' '.repeat(2 ** 20 + 1), /1048577 bytes; it may have 1048576/],
    ['nested without end', '['.repeat(500_000), /it is not JSON/],
    ['not a tuning', '{"format":2,"entries":[{"kernel":7}]}', /entries\[0\]\.kernel is 7/],
  ])('that are %s are ignored with a warning, and replaced', async (_, text, message) => {
    const store = diskStore(folder);
    const device = fakeDevice();
    writeFileSync(tuningFile(key, folder), text);
    expect(await loadTuning(device, store, log)).toBeNull();
    expect(tuningOf(device)).toBeNull();
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(message);
    expect(said[0]).toMatch(/is ignored.*autotune/);
    await saveTuning(device, store, tuning);
    expect(await readTuning(key, store, log)).toEqual(tuning);
    expect(said).toHaveLength(1);
    expect(JSON.parse(readFileSync(tuningFile(key, folder), 'utf8')).key).toBe(key.text);
  });
});

describe('browser storage', () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    Reflect.deleteProperty(globalThis, 'localStorage');
  });

  /** A page, with process out of the way. */
  function page(storage?: () => never): PageItems {
    const items = new PageItems();
    vi.stubGlobal('window', {});
    vi.stubGlobal('process', undefined);
    vi.stubGlobal('navigator', { userAgent: 'Browser/1' });
    Object.defineProperty(globalThis, 'localStorage', { get: storage ?? (() => items), configurable: true });
    return items;
  }
  it('is not there in Node', () => {
    expect(browserStore()).toBeNull();
  });

  it('is not there where a page may not use it', () => {
    page(() => {
      throw new Error('SecurityError');
    });
    expect(browserStore()).toBeNull();
  });

  it('keeps a tuning, and a device takes it by itself once', async () => {
    const items = page();
    const store = browserStore();
    if (!store) throw new Error('there is a storage');
    await saveTuning(fakeDevice(), store, tuning);
    const device = fakeDevice();
    await loadTuningOnce(device);
    expect(tuningOf(device)).toEqual(tuning);
    const untuned = fakeDevice();
    setTuning(untuned, null);
    await loadTuningOnce(untuned);
    expect(tuningOf(untuned)).toBeNull();

    const [name] = Object.keys(items);
    items.setItem(name, '{');
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const later = fakeDevice();
    await loadTuningOnce(later);
    await loadTuningOnce(later);
    expect(tuningOf(later)).toBeNull();
    expect(warn).toHaveBeenCalledTimes(1);
    warn.mockRestore();
  });
});
