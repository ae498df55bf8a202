import { readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { TraceError } from '../errors.js';
import type { Trace } from '../residency/trace.js';
import { decodeTrace, encodeTrace } from '../residency/trace-format.js';
import { writeWhole } from './write-whole.js';

/** A thousand tokens of a large model are some MB; more is something else. */
const LARGEST_FILE = 256 << 20;
const LARGEST_TRACE = 1 << 30;

/** @throws TraceError, with the path, for a file that is no trace, cut short or damaged; what `stat` throws without one. */
export async function readTrace(path: string): Promise<Trace> {
  const { size } = await stat(path);
  if (size > LARGEST_FILE) {
    throw new TraceError(`${path} has ${size} bytes; a trace has at most ${LARGEST_FILE}`, { path, size });
  }
  const packed = await readFile(path);
  let bytes: Uint8Array;
  try {
    bytes = await promisify(gunzip)(packed, { maxOutputLength: LARGEST_TRACE });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TraceError(`${path} cannot be unpacked (${why}); give a file that \`pairslab trace\` wrote`, {
      path,
    });
  }
  try {
    return decodeTrace(bytes);
  } catch (error) {
    if (error instanceof TraceError)
      throw new TraceError(`${path}: ${error.message}`, { path, ...error.details });
    throw error;
  }
}

/** Writes a trace whole or not at all. */
export async function writeTrace(path: string, trace: Trace): Promise<void> {
  await writeWhole(path, await promisify(gzip)(encodeTrace(trace), { level: 9 }));
}
