/*
 * Symptom: under dawn.node a promise that is pending costs a core. Its runner processes Dawn's events again at every
 * turn of the event loop, so the main thread spins, and a software adapter that would use every core lacks one.
 * Measured on two cores, a dispatch submitted and awaited in turn with each wait, median of 41 (best): lavapipe plain
 * 58 (50) ms, 0.1 ms sleep 47 (45), 0.3 ms 41 (37); SwiftShader plain 116 (59), 0.1 ms 76 (49), 0.3 ms 58 (48). The
 * price is the last sleep: an almost empty dispatch takes 0.15 ms plain, 0.31 with a 0.1 ms sleep, 0.52 with 0.3. So
 * nobody sleeps in the first GRACE_MS where the wait before was short: in a run of small updates each is noticed at once
 * (lavapipe: an empty submit 0.08 ms for 0.27, an update of 8 rows by buffer copies 0.21 for 0.44), and in a run of long
 * ones none loses the core (always with grace, a decoded token took 2 to 8 % longer).
 * Sleeps grow with the time already waited, since each turn takes the core again: up to an eighth of it, and a
 * millisecond at most. Same process, 15 shuffled rounds, lavapipe, medians without and with: an MLP at 10 % of the rows 3.6
 * and 3.2 ms, a decoded token in runs of 16 6.7 and 5.6, by single tokens 7.2 and 7.0.
 * Delete when dawn.node waits for its events instead of asking for them.
 */

/** How long the main thread sleeps at each turn of the event loop, in milliseconds, unless told otherwise. */
export const QUIET_MS = 0.1;

/** A wait is short that ends within SHORT_MS, sleeps and all; after it nothing sleeps in the next one's first GRACE_MS. */
const SHORT_MS = 0.5;
const GRACE_MS = 0.2;

/** A sleep grows to this share of the time waited, but to no more than MOST_MS. */
const GROWTH = 1 / 8;
const MOST_MS = 1;

const never = new Int32Array(new SharedArrayBuffer(4));
/** The sleeps asked for by the promises that are pending: all share one sleep a turn, the shortest. */
const pending = new Set<{ ms: number; began: number; from: number }>();
let turning = false;
/** What the wait that ended last took, in ms. */
let last = Number.POSITIVE_INFINITY;

/**
 * Waits for `promise` and passes on what it gives, sleeping `ms` or more at each turn of the event loop meanwhile. For
 * promises of dawn.node only: the sleep delays everything else on the main thread. 0 waits without sleeping.
 */
export async function quietWait<T>(promise: Promise<T>, ms = QUIET_MS): Promise<T> {
  if (!(ms > 0)) return promise;
  const began = performance.now();
  const sleep = { ms, began, from: began + (last < SHORT_MS ? GRACE_MS : 0) };
  pending.add(sleep);
  if (!turning) {
    turning = true;
    setImmediate(turn);
  }
  try {
    return await promise;
  } finally {
    pending.delete(sleep);
    last = performance.now() - began;
  }
}

function turn(): void {
  let ms = Number.POSITIVE_INFINITY;
  const now = performance.now();
  for (const { ms: asked, began, from } of pending) {
    const grown = Math.max(asked, Math.min(MOST_MS, GROWTH * (now - began)));
    ms = Math.min(ms, now < from ? 0 : grown);
  }
  turning = pending.size > 0;
  if (!turning) return;
  if (ms > 0) Atomics.wait(never, 0, 0, ms);
  setImmediate(turn);
}
