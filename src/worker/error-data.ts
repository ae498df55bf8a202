import * as errors from '../errors.js';
import type { ErrorData } from './protocol.js';

const { PairslabError, PoolError } = errors;

/** Classes by what this package exports them as: their own names are other ones where a bundler made them short. */
const CLASSES: ReadonlyMap<string, unknown> = new Map(Object.entries(errors));

function exportedName(error: Error): string {
  for (const [name, exported] of CLASSES) if (error.constructor === exported) return name;
  return error instanceof PairslabError ? 'PairslabError' : error.name;
}

/** An error, of whatever kind, as plain data. */
export function errorData(error: unknown): ErrorData {
  if (!(error instanceof Error) && !(error instanceof DOMException))
    return { name: 'Error', message: String(error) };
  const { message, stack } = error;
  const name = exportedName(error);
  return error instanceof PairslabError
    ? { name, message, stack, details: sendable(error.details) }
    : { name, message, stack };
}

/** The error that `errorData` was made of: of the same class where that is pairslab's or an abort, else a plain Error. */
export function restoreError({ name, message, details = {}, stack }: ErrorData): Error {
  const error = make(name, message, details);
  if (stack !== undefined) Object.defineProperty(error, 'stack', { value: stack, configurable: true });
  return error;
}

function make(name: string, message: string, details: Readonly<Record<string, unknown>>): Error {
  if (name === 'AbortError' || name === 'TimeoutError') return new DOMException(message, name);
  if (name === 'PoolError') {
    const { code, ...more } = details;
    return new PoolError(code as errors.PoolErrorCode, message, more);
  }
  const known = CLASSES.get(name);
  if (known) return new (known as typeof PairslabError)(message, { ...details });
  const error = new Error(message);
  error.name = name;
  return error;
}

/** Details hold causes and sources now and then, which cannot be cloned: those are left out. */
function sendable(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(details).filter(([, value]) => {
      try {
        structuredClone(value);
        return true;
      } catch {
        return false;
      }
    }),
  );
}
