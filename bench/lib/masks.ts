import { Bitmask } from '../../src/mask/index.js';
import { randomSource, shuffle } from '../../src/tune/stats.js';

/** A random mask of m of N rows, then `steps` masks that each differ from the one before in k rows, half added and half removed. */
export function maskChain(
  shape: { n: number; m: number; k: number },
  steps: number,
  seed: number,
): Bitmask[] {
  const { n, m, k } = shape;
  const random = randomSource(seed);
  const order = shuffle([...Array(n).keys()], random);
  const inside = order.slice(0, m);
  const outside = order.slice(m);
  const masks = [Bitmask.fromIds(inside, n)];
  for (let s = 0; s < steps; s++) {
    for (let c = 0; c < k / 2; c++) {
      // One row of each, picked among those not yet picked in this step, changes sides.
      const i = c + Math.floor(random() * (m - c));
      const o = c + Math.floor(random() * (n - m - c));
      [inside[c], inside[i]] = [inside[i], inside[c]];
      [outside[c], outside[o]] = [outside[o], outside[c]];
      [inside[c], outside[c]] = [outside[c], inside[c]];
    }
    masks.push(Bitmask.fromIds(inside, n));
  }
  return masks;
}
