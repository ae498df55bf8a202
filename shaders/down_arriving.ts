import { type DownInput, down } from './down.js';
import { type Arrivals, arrive } from './gate_up_arriving.js';

/** The moves of copy_rows, then [S, H]: down of what the slots hold, in S runs of slots. a is [m']. */
export function downArriving(arrivals: Arrivals, input: Omit<DownInput, 'columns' | 'terms'>): Float64Array {
  const terms = arrive(arrivals).map((row, column) => ({ row, column }));
  return down({ ...input, columns: Math.max(1, arrivals.active), terms });
}
