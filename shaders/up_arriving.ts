import { type Arrivals, arrive } from './gate_up_arriving.js';

/** The moves of copy_rows, then [m']: (up · x) · gate of what the slots hold. up [N, K], x [K], gate [N]. */
export function upArriving(
  arrivals: Arrivals,
  { up, x, K, gate }: { up: ArrayLike<number>; x: ArrayLike<number>; K: number; gate: ArrayLike<number> },
): Float64Array {
  const ids = arrive(arrivals);
  return Float64Array.from(ids, (id) => {
    let sum = 0;
    for (let k = 0; k < K; k++) sum += up[id * K + k] * x[k];
    return sum * gate[id];
  });
}
