import { PoolError } from '../errors.js';

export interface RetryOptions {
  /** How often a read is tried again after a fault that may pass. Default 4. */
  retries?: number;
  /** The first pause, in ms, at most; each next one may be twice as long, up to 10 s. Default 100. */
  backoffMs?: number;
}

const LONGEST_MS = 10_000;

/**
 * The pause before try `attempt` (1, 2, …): half of it fixed, half at random, so that many readers that failed together
 * do not come back together.
 * @param random In [0, 1).
 */
export function backoff(attempt: number, firstMs: number, random: number): number {
  const full = Math.min(LONGEST_MS, firstMs * 2 ** (attempt - 1));
  return full / 2 + (full / 2) * random;
}

/** Whether a fault may pass by itself. */
export function mayPass(error: unknown): boolean {
  if (!(error instanceof PoolError)) return false;
  if (error.code === 'status') {
    const { status } = error.details;
    return status === 408 || status === 429 || (typeof status === 'number' && status >= 500);
  }
  return error.code === 'network' || error.code === 'stalled' || error.code === 'short';
}

/**
 * Runs `attempt` until it succeeds, its fault is one that does not pass, or it was tried again `retries` times: then
 * its last error is thrown, with the number of tries in `details.tries`.
 * @throws the signal's reason when aborted, also during a pause.
 */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  { retries = 4, backoffMs = 100 }: RetryOptions,
  signal?: AbortSignal,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      signal?.throwIfAborted();
      if (!mayPass(error)) throw error;
      if (tries > retries) {
        const { code, message, details, cause } = error as PoolError;
        const last = new PoolError(code, `${message} Tried ${tries} times.`, { ...details, tries });
        last.cause = cause;
        throw last;
      }
      await pause(backoff(tries, backoffMs, Math.random()), signal);
    }
  }
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
