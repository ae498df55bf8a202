import { randomSource, shuffle } from '../../src/tune/stats.js';

/** The published shape. */
export const N = 8192;
export const HIDDEN = 1024;
/** Rows that the gather packs. */
export const GATHERED = 1024;
/** A tenth of the rows. */
export const ACTIVE = 819;
/** Values that share a scale where weights are stored as int4. */
export const GROUP = 32;

/** Different inputs that the steps go through in turn: a runtime that hands out an old result is found out. */
const INPUTS = 4;
/** How many of them are compared with the reference. */
export const CHECKED = 2;

/**
 * Every matrix is [N, HIDDEN], down transposed. All values are q · 2^k, q from -8 to 7, one k for a square of GROUP by
 * GROUP, with -8 all along its diagonal: int4 with a scale a group holds them exactly, along the rows (pairslab) and
 * along the columns (down in ONNX) alike, so that one reference serves every dtype.
 */
export interface Weights {
  gate: Float32Array;
  up: Float32Array;
  down: Float32Array;
}

/** What one step is given. */
export interface Input {
  /** [batch, HIDDEN]; empty for the gather. */
  x: Float32Array;
  /** Rows to use, ascending; null for all. */
  ids: Int32Array | null;
}

/** The same piece of work for every runtime. */
export interface Task {
  name: TaskName;
  /** `gather` packs rows of `up`; `mlp` is down · (silu(gate · x) · (up · x)); `int4` is that with weights of 4 bits. */
  kind: 'gather' | 'mlp' | 'int4';
  batch: number;
  weights: Weights;
  inputs: readonly Input[];
}

export const TASK_NAMES = [
  'index_select',
  'mlp_dense',
  'mlp_d10',
  'mlp_batch16',
  'mlp_batch16_int4',
] as const;
export type TaskName = (typeof TASK_NAMES)[number];

const SHAPES: Readonly<Record<TaskName, { kind: Task['kind']; batch: number; rows: number | null }>> = {
  index_select: { kind: 'gather', batch: 0, rows: GATHERED },
  mlp_dense: { kind: 'mlp', batch: 1, rows: null },
  mlp_d10: { kind: 'mlp', batch: 1, rows: ACTIVE },
  mlp_batch16: { kind: 'mlp', batch: 16, rows: null },
  mlp_batch16_int4: { kind: 'int4', batch: 16, rows: null },
};

export function makeWeights(): Weights {
  return { gate: matrix(1), up: matrix(2), down: matrix(3) };
}

function matrix(seed: number): Float32Array {
  const random = randomSource(seed);
  const values = new Float32Array(N * HIDDEN);
  const across = HIDDEN / GROUP;
  // So that gate · x and up · x are about 1.
  const scales = Float32Array.from({ length: (N / GROUP) * across }, () =>
    random() < 0.5 ? 2 ** -7 : 2 ** -6,
  );
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / HIDDEN);
    const column = i % HIDDEN;
    const q = row % GROUP === column % GROUP ? -8 : Math.floor(random() * 16) - 8;
    values[i] = q * scales[Math.floor(row / GROUP) * across + Math.floor(column / GROUP)];
  }
  return values;
}

export function makeTask(name: TaskName, weights: Weights): Task {
  const { kind, batch, rows } = SHAPES[name];
  // By its shape, so that tasks that differ in the dtype alone share their inputs, and what is expected of them.
  const random = randomSource(batch * N + (rows ?? N));
  const inputs = Array.from({ length: INPUTS }, () => ({
    x: Float32Array.from({ length: batch * HIDDEN }, () => 2 * random() - 1),
    ids: rows === null ? null : pick(rows, random),
  }));
  return { name, kind, batch, weights, inputs };
}

/** Fresh rows for every input: nothing can be kept from the step before but by chance. */
function pick(rows: number, random: () => number): Int32Array {
  return Int32Array.from(shuffle([...Array(N).keys()], random).slice(0, rows)).sort();
}

const known = new Map<string, Float64Array>();

/** What a step has to give for input i, in float64. */
export function reference(task: Task, i: number): Float64Array {
  const { x, ids } = task.inputs[i];
  const key = `${x.length} ${ids?.length} ${i}`;
  const values = known.get(key) ?? compute(task, x, ids);
  known.set(key, values);
  return values;
}

function compute({ kind, batch, weights }: Task, x: Float32Array, ids: Int32Array | null): Float64Array {
  const rows = ids ?? Int32Array.from({ length: N }, (_, i) => i);
  const { gate, up, down } = weights;
  if (kind === 'gather') {
    const out = new Float64Array(rows.length * HIDDEN);
    rows.forEach((row, i) => {
      out.set(up.subarray(row * HIDDEN, (row + 1) * HIDDEN), i * HIDDEN);
    });
    return out;
  }
  const y = new Float64Array(batch * HIDDEN);
  for (let b = 0; b < batch; b++) {
    const at = b * HIDDEN;
    for (const row of rows) {
      const base = row * HIDDEN;
      let g = 0;
      let u = 0;
      for (let c = 0; c < HIDDEN; c++) {
        g += gate[base + c] * x[at + c];
        u += up[base + c] * x[at + c];
      }
      const a = (g / (1 + Math.exp(-g))) * u;
      for (let c = 0; c < HIDDEN; c++) y[at + c] += a * down[base + c];
    }
  }
  return y;
}

/** The largest difference, in units of the reference's root mean square. */
export function errorOf(values: Float32Array, expected: Float64Array): number {
  if (values.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  let squares = 0;
  for (let i = 0; i < expected.length; i++) {
    squares += expected[i] ** 2;
    const difference = Math.abs(values[i] - expected[i]);
    // Also for NaN, which is larger than nothing.
    if (!(difference <= worst)) worst = difference;
  }
  return worst / Math.sqrt(squares / expected.length);
}
