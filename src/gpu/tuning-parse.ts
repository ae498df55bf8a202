/** A saved tuning comes from a disk or a page's storage, so it may be anything: every field is checked. */
import { TuningError } from '../errors.js';
import { STORED_DTYPES, type StoredDtype } from './stored-dtype.js';
import type { RowStorage } from './storage.js';
import type { CopyCosts, Costs, MeasuredEntry, Rates, ReadCosts, TunedEntry, Tuning } from './tuning.js';

/** Entries a tuning has at most; the oldest give way. */
export const MOST_ENTRIES = 1000;
const MOST_FIELDS = 16;
/** Costs a tuning has at most. */
export const MOST_COSTS = 32;
const MOST_POINTS = 16;
/** Of the file: 1 had costs of another form. */
const FORMAT = 2;
const NAME = /^[A-Za-z_]\w{0,40}$/;
const WORD = /^[\w.-]{1,40}$/;

/**
 * What `saveTuning` wrote, as a tuning. Whether a variant is one of those that this version has is seen where it is
 * looked up.
 * @throws TuningError that names the field.
 */
export function parseTuning(json: unknown): Tuning & { readonly entries: readonly MeasuredEntry[] } {
  const file = object(json, 'the tuning');
  if (field(file, 'format') !== FORMAT) fail('format', field(file, 'format'), String(FORMAT));
  const entries = list(field(file, 'entries'), 'entries', MOST_ENTRIES).map((entry, i) =>
    parseEntry(entry, `entries[${i}]`),
  );
  const costs = field(file, 'costs');
  return costs === undefined
    ? { entries }
    : {
        entries,
        costs: list(costs, 'costs', MOST_COSTS).map((cost, i) => parseCosts(cost, `costs[${i}]`)),
      };
}

/** As it is saved. */
export function serializeTuning(tuning: Tuning, key: string): object {
  const { entries, costs } = tuning;
  return { format: FORMAT, key, entries, ...(costs ? { costs } : {}) };
}

function parseEntry(json: unknown, at: string): MeasuredEntry {
  const entry = object(json, at);
  const kernel = field(entry, 'kernel');
  if (typeof kernel !== 'string' || !NAME.test(kernel)) fail(`${at}.kernel`, kernel, 'a name');
  const batched = field(entry, 'batched');
  if (typeof batched !== 'boolean') fail(`${at}.batched`, batched, 'true or false');
  const cols = field(entry, 'cols');
  if (!Number.isSafeInteger(cols) || (cols as number) < 1)
    fail(`${at}.cols`, cols, 'an integer of 1 or more');
  const variant = parseVariant(field(entry, 'variant'), `${at}.variant`);
  // A tuning that a caller made by hand has no measurements.
  const was = field(entry, 'default');
  const speedup = field(entry, 'speedup');
  return {
    kernel,
    dtype: dtypeOf(field(entry, 'dtype'), `${at}.dtype`),
    batched,
    cols: cols as number,
    ...storageOf(entry, at),
    variant,
    default: was === undefined ? variant : parseVariant(was, `${at}.default`),
    speedup: speedup === undefined ? 1 : positive(speedup, `${at}.speedup`),
  };
}

function parseVariant(json: unknown, at: string): TunedEntry['variant'] {
  const fields = Object.entries(object(json, at));
  if (fields.length === 0 || fields.length > MOST_FIELDS)
    fail(at, `${fields.length} fields`, `1 to ${MOST_FIELDS}`);
  for (const [name, value] of fields) {
    // Names such as __proto__ would not stay fields of the object that is made here.
    if (!NAME.test(name) || name in Object.prototype) fail(`a field of ${at}`, name, 'a plain name');
    const fine =
      typeof value === 'string' ? WORD.test(value) : Number.isSafeInteger(value) && Number(value) >= 0;
    if (!fine) fail(`${at}.${name}`, value, 'a short word or an integer');
  }
  return Object.fromEntries(fields) as TunedEntry['variant'];
}

function parseCosts(json: unknown, at: string): Costs {
  const costs = object(json, at);
  const part = (name: string) => object(field(costs, name), `${at}.${name}`);
  const size = (name: string): number => {
    const value = field(costs, name);
    return Number.isSafeInteger(value) && Number(value) >= 1
      ? (value as number)
      : fail(`${at}.${name}`, value, 'an integer of 1 or more');
  };
  return {
    dtype: dtypeOf(field(costs, 'dtype'), `${at}.dtype`),
    rowBytes: size('rowBytes'),
    rows: size('rows'),
    ...storageOf(costs, at),
    wait: positive(field(costs, 'wait'), `${at}.wait`),
    read: parseReads(part('read'), `${at}.read`),
    readBatched: parseReads(part('readBatched'), `${at}.readBatched`),
    move: parseCopies(part('move'), `${at}.move`),
    select: parseCopies(part('select'), `${at}.select`),
  };
}

function parseReads(from: Fields, at: string): ReadCosts {
  const rates = (name: string) => parseRates(field(from, name), `${at}.${name}`);
  return {
    launch: positive(field(from, 'launch'), `${at}.launch`),
    dense: rates('dense'),
    indexed: rates('indexed'),
    again: rates('again'),
    packed: rates('packed'),
  };
}

function parseCopies(from: Fields, at: string): CopyCosts {
  return {
    launch: positive(field(from, 'launch'), `${at}.launch`),
    rates: parseRates(field(from, 'rates'), `${at}.rates`),
  };
}

function parseRates(json: unknown, at: string): Rates {
  const points = list(json, at, MOST_POINTS).map((point, i) => {
    const here = `${at}[${i}]`;
    const pair = list(point, here, 2);
    if (pair.length !== 2) fail(here, point, 'a share and a rate');
    return [positive(pair[0], here), positive(pair[1], here)] as const;
  });
  if (points.length === 0) fail(at, json, 'a list of at least one point');
  const unsorted = points.findIndex(([share], i) => i > 0 && share <= points[i - 1][0]);
  if (unsorted >= 0) fail(`${at}[${unsorted}]`, points[unsorted], 'a share above the one before');
  return points;
}

/** What is read from buffers says nothing of it. */
function storageOf(from: Fields, at: string): { storage?: RowStorage } {
  const storage = field(from, 'storage');
  if (storage === undefined || storage === 'buffer') return {};
  return storage === 'texture' ? { storage } : fail(`${at}.storage`, storage, 'buffer or texture');
}

function dtypeOf(value: unknown, at: string): StoredDtype {
  if (typeof value === 'string' && (STORED_DTYPES as readonly string[]).includes(value))
    return value as StoredDtype;
  return fail(at, value, `one of ${STORED_DTYPES.join(', ')}`);
}

function positive(value: unknown, at: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
  return fail(at, value, 'a number of 0 or more');
}

function list(value: unknown, at: string, most: number): unknown[] {
  if (!Array.isArray(value)) return fail(at, value, 'a list');
  if (value.length > most) fail(at, `${value.length} items`, `at most ${most}`);
  return value;
}

type Fields = Readonly<Record<string, unknown>>;

function object(value: unknown, at: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  return fail(at, value, 'an object');
}

const field = (from: Fields, name: string): unknown => (Object.hasOwn(from, name) ? from[name] : undefined);

function fail(at: string, value: unknown, want: string): never {
  const shown = String(JSON.stringify(value) ?? value).slice(0, 60);
  throw new TuningError(`${at} is ${shown}; it must be ${want}.`, { field: at });
}
