import { type Bitmask, checkSameSize } from './bitmask.js';
import { popcount32, unpackWord } from './bits.js';

/** The rows by which two masks differ; both lists ascend. */
export interface Diff {
  /** new & ~old */
  readonly added: Uint32Array;
  /** old & ~new */
  readonly removed: Uint32Array;
}

/**
 * What changes from one mask to the next, in O(N / 32 + rows that change): equal words, nearly all of them from
 * one step to the next, cost one comparison.
 *
 * @throws ShapeError when the sizes differ.
 */
export function diff(oldMask: Bitmask, newMask: Bitmask): Diff {
  checkSameSize(oldMask, newMask);
  const before = oldMask.words;
  const after = newMask.words;
  let a = 0;
  let r = 0;
  for (let w = 0; w < before.length; w++) {
    if (before[w] === after[w]) continue;
    a += popcount32(after[w] & ~before[w]);
    r += popcount32(before[w] & ~after[w]);
  }
  const added = new Uint32Array(a);
  const removed = new Uint32Array(r);
  a = 0;
  r = 0;
  for (let w = 0; w < before.length; w++) {
    if (before[w] === after[w]) continue;
    a = unpackWord(after[w] & ~before[w], w * 32, added, a);
    r = unpackWord(before[w] & ~after[w], w * 32, removed, r);
  }
  return { added, removed };
}

/** How many rows are in `newMask` and not in `oldMask`. @throws ShapeError when the sizes differ. */
export function countAdded(oldMask: Bitmask, newMask: Bitmask): number {
  checkSameSize(oldMask, newMask);
  const before = oldMask.words;
  const after = newMask.words;
  let added = 0;
  for (let w = 0; w < before.length; w++) added += popcount32(after[w] & ~before[w]);
  return added;
}
