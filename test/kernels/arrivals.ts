/** Slabs on their way from one mask to the next, for the kernels that bring in rows as they multiply them. */
import type { Arrivals } from '../../shaders/gate_up_arriving.js';
import { Bitmask } from '../../src/mask/index.js';
import { planUpdate, repackPlan, SlotMap } from '../../src/plan/index.js';
import type { Compute } from '../../src/mlp/compute.js';
import type { StoredDtype } from '../../src/gpu/layout.js';
import { checkWords, Expected } from './compare.js';
import { type Lab, type Launch, POISON } from './lab.js';
import { randomIds } from './make.js';

/** Rows before and after, and how many of them stay (`repack`: none is kept for it). */
const KINDS = {
  nothing: { before: 0, after: 0, kept: 0 },
  first: { before: 0, after: 30, kept: 0 },
  same: { before: 30, after: 30, kept: 30 },
  few: { before: 30, after: 31, kept: 28 },
  all: { before: 33, after: 33, kept: 0 },
  grow: { before: 5, after: 40, kept: 4 },
  shrink: { before: 40, after: 20, kept: 17 },
  'shrink to kept': { before: 40, after: 12, kept: 12 },
  empty: { before: 20, after: 0, kept: 0 },
  repack: { before: 33, after: 29, kept: 20 },
} as const;
export type Kind = keyof typeof KINDS;
export const ARRIVAL_KINDS = Object.keys(KINDS) as Kind[];

export interface Transition {
  /** [C]: slot -> row id before; POISON where there is none. */
  rowIds: Uint32Array<ArrayBuffer>;
  moves: Uint32Array;
  active: number;
  /** As lib/rows_arriving.wgsl has them. */
  list: Uint32Array<ArrayBuffer>;
}

/** A transition of `kind` in a slab of C slots over N rows, both at least 40 and 60. */
export function makeTransition(random: () => number, kind: Kind, N: number, C: number): Transition {
  const { before, after, kept } = KINDS[kind];
  const map = new SlotMap(N, C);
  const ids = randomIds(random, before + after - kept, N);
  map.commit(planUpdate(map, Bitmask.fromIds(ids.slice(0, before), N)));
  const rowIds = new Uint32Array(C).fill(POISON);
  rowIds.set(map.slots());
  const next = Bitmask.fromIds(ids.slice(before - kept), N);
  const { moves, active } = kind === 'repack' ? repackPlan(map, next) : planUpdate(map, next);
  const pairs = Array.from({ length: moves.length / 2 }, (_, n) => [moves[2 * n], moves[2 * n + 1]]);
  const written = new Set(pairs.map(([to]) => to));
  const stay = Array.from({ length: active }, (_, slot) => slot).filter((slot) => !written.has(slot));
  const pooled = pairs.filter(([, source]) => source < N).length;
  return { rowIds, moves, active, list: Uint32Array.of(stay.length, pooled, active, 0, ...stay, ...moves) };
}

/** Stored rows as words, by slot: those of no row are poisoned. */
export function slabOf(pool: Uint32Array, rowWords: number, rowIds: Uint32Array): Uint32Array<ArrayBuffer> {
  const slab = new Uint32Array(rowIds.length * rowWords).fill(POISON);
  rowIds.forEach((id, slot) => {
    if (id !== POISON) slab.set(pool.subarray(id * rowWords, (id + 1) * rowWords), slot * rowWords);
  });
  return slab;
}

/**
 * For a transition of every kind: launches a kernel that multiplies rows as they arrive, and checks its values, the slab
 * that it leaves, and the row list.
 */
export async function checkArrivals(
  lab: Lab,
  random: () => number,
  shape: {
    N: number;
    C: number;
    pool: Uint32Array;
    rowWords: number;
    weights: StoredDtype;
    compute: Compute;
  },
  /** Of a kernel that puts its values, [C], into `out`. */
  launch: (active: number, buffers: Record<'weights' | 'out' | 'arrivals' | 'row_list', GPUBuffer>) => Launch,
  /** The values, and their sizes. */
  twin: (arrivals: Arrivals, of: 'values' | 'sizes') => Float64Array,
): Promise<void> {
  const { N, C, pool, rowWords } = shape;
  for (const kind of ARRIVAL_KINDS) {
    const { rowIds, moves, active, list } = makeTransition(random, kind, N, C);
    const slab = slabOf(pool, rowWords, rowIds);
    const buffers = {
      weights: lab.buffer(slab),
      out: lab.poisoned(C),
      arrivals: lab.buffer(list),
      row_list: lab.buffer(Uint32Array.of(9, 0, 0, 0, ...rowIds)),
    };
    lab.run(launch(active, buffers));

    const arrivals = { slab, pool, rowWords, moves, rowIds, active };
    const want = twin(arrivals, 'values');
    // It made the moves: what is there stays.
    const size = twin({ ...arrivals, moves: new Uint32Array(0) }, 'sizes');
    new Expected(C, shape.weights, shape.compute)
      .setRows(want, size, Math.max(1, active), C)
      .check(await lab.read(buffers.out));
    checkWords(await lab.read(buffers.weights), slab, `slab, ${kind}`);
    checkWords(
      await lab.read(buffers.row_list),
      Uint32Array.of(active, 0, 0, 0, ...rowIds),
      `row list, ${kind}`,
    );
  }
}
