/**
 * A trace as bytes. Little-endian:
 *
 *     0   8       "PLTRACE1"
 *     8   4       u32: bytes of the header, a multiple of 4
 *     12  header  `TraceInfo` as JSON in UTF-8, then spaces
 *     ..  rest    the masks: [steps][layers][ceil(N / 32)] u32
 *
 * The file of `pairslab trace` is this through gzip, which adds a checksum.
 */
import { TraceError } from '../errors.js';
import { Bitmask } from '../mask/index.js';
import { checkInfo, Trace, type TraceInfo, type TraceSequence, wordsPerMask } from './trace.js';

const MAGIC = new TextEncoder().encode('PLTRACE1');
const FIRST = MAGIC.length + 4;
/** A header has some names and numbers; more is something else. */
const LARGEST_HEADER = 1 << 20;

export function encodeTrace(trace: Trace): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(trace.info));
  const headerBytes = Math.ceil(json.length / 4) * 4;
  const bytes = new Uint8Array(FIRST + headerBytes + trace.words.length * 4);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(MAGIC.length, headerBytes, true);
  bytes.fill(0x20, FIRST, FIRST + headerBytes).set(json, FIRST);
  const at = FIRST + headerBytes;
  for (let i = 0; i < trace.words.length; i++) view.setUint32(at + 4 * i, trace.words[i], true);
  return bytes;
}

/**
 * @throws TraceError for bytes that are no trace: another magic, a header that is not one, more or fewer masks than
 *   it says, a bit beyond N.
 */
export function decodeTrace(bytes: Uint8Array): Trace {
  if (bytes.length < FIRST || MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw new TraceError('these bytes do not begin as a trace; give a file that `pairslab trace` wrote');
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = view.getUint32(MAGIC.length, true);
  const at = FIRST + headerBytes;
  if (headerBytes > LARGEST_HEADER || headerBytes % 4 !== 0 || at > bytes.length) {
    throw new TraceError(
      `the trace says its header has ${headerBytes} bytes; there are ${bytes.length - FIRST} after it, and ` +
        `${LARGEST_HEADER} is the most`,
      { headerBytes, bytes: bytes.length },
    );
  }
  const info = parseInfo(bytes.subarray(FIRST, at));
  checkInfo(info);
  const steps = info.sequences.reduce((sum, sequence) => sum + sequence.steps, 0);
  const expected = steps * info.layers * wordsPerMask(info.rows) * 4;
  // Before anything of the size that the header claims is allocated.
  if (bytes.length - at !== expected) {
    throw new TraceError(
      `the trace should have ${expected} bytes of masks and has ${bytes.length - at}; it was cut short or is damaged`,
      { expected, bytes: bytes.length - at },
    );
  }
  const words = new Uint32Array(expected / 4);
  for (let i = 0; i < words.length; i++) words[i] = view.getUint32(at + 4 * i, true);
  checkTails(words, info);
  return new Trace(info, words);
}

/** Masks with a bit beyond N would be refused later, by whoever looks at them. */
function checkTails(words: Uint32Array, { rows }: TraceInfo): void {
  const length = wordsPerMask(rows);
  const allowed = Bitmask.full(rows).words[length - 1];
  for (let last = length - 1; last < words.length; last += length) {
    if (words[last] & ~allowed) {
      const mask = (last + 1) / length - 1;
      throw new TraceError(`mask ${mask} of the trace has a bit beyond its ${rows} rows; it is damaged`, {
        mask,
        rows,
      });
    }
  }
}

function parseInfo(header: Uint8Array): TraceInfo {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(header));
  } catch (cause) {
    throw new TraceError("the trace's header is not JSON; it is damaged", { cause });
  }
  const record = asRecord(json, 'header');
  if (!Array.isArray(record.sequences)) throw new TraceError("the trace's header has no list of sequences");
  return {
    model: textIn(record, 'model'),
    mode: textIn(record, 'mode'),
    dtype: textIn(record, 'dtype'),
    rowBytes: numberIn(record, 'rowBytes'),
    rows: numberIn(record, 'rows'),
    layers: numberIn(record, 'layers'),
    sequences: record.sequences.map((item): TraceSequence => {
      const sequence = asRecord(item, 'list of sequences');
      return { name: textIn(sequence, 'name'), steps: numberIn(sequence, 'steps') };
    }),
  };
}

function asRecord(value: unknown, where: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new TraceError(`the trace's ${where} has no JSON object where one belongs`);
}

function textIn(record: Record<string, unknown>, name: string): string {
  const value = record[name];
  if (typeof value === 'string') return value;
  throw new TraceError(`the trace's header has no text "${name}"`, { name });
}

function numberIn(record: Record<string, unknown>, name: string): number {
  const value = record[name];
  if (typeof value === 'number') return value;
  throw new TraceError(`the trace's header has no number "${name}"`, { name });
}
