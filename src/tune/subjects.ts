/** What is timed for a task: the very ops that layers run, on random rows. */
import { BufferGroup, roundUp, upload } from '../gpu/buffers.js';
import { encodeDispatch, foldGrid, kernel } from '../gpu/kernel.js';
import { activationStride, rowBytes } from '../gpu/layout.js';
import { copyToTexels, createTexels } from '../gpu/texels.js';
import { traitsOf } from '../gpu/traits.js';
import type { TunedEntry } from '../gpu/tuning.js';
import { ActiveOp } from '../mlp/active-op.js';
import { chooseActivation } from '../mlp/activation.js';
import { DownOp } from '../mlp/down-op.js';
import { downTables, gateUp } from '../mlp/kernels.js';
import { modelLinear } from '../mlp/model-kernels.js';
import { RowOp, type StoredRows } from '../mlp/row-op.js';
import { type DownVariant, downVariants, type RowVariant, rowVariants } from '../mlp/variants.js';
import { DevicePool } from '../pool/device-pool.js';
import { attentionSubject } from './attention-subject.js';
import { copyRows } from '../slab/kernels.js';
import { COPY_KERNEL, type CopyVariant, copyVariants } from '../slab/variants.js';
import type { Outcome } from './outcome.js';
import { randomValues } from './random-values.js';
import type { TunedKernel, TuneTask } from './shapes.js';
import { ATTENTION_KERNEL } from '../llama/attention-variants.js';

/** Records the work so many times, one after the other, each on the next replica of the rows. */
export type Record = (encoder: GPUCommandEncoder, times: number) => void;

export interface Subject {
  /** The first is the default. */
  readonly variants: readonly TunedEntry['variant'][];
  /** The field by which the variants are grouped; see `Candidates`. */
  readonly axis: string;
  /** Recording is part of the time: variants differ in what the CPU has to record. */
  readonly recording: boolean;
  /** What the work leaves, the same in every variant. */
  readonly outcome: Outcome;
  /** Makes the ops in a variant, on buffers that all variants share. */
  build(variant: TunedEntry['variant']): Record;
  destroy(): void;
}

/** Batch elements of the batched tasks: whole tiles of every variant. */
const BATCH = 16;
/** Rows of random values; the matrices repeat them. Odd, so that they line up with no tile. */
const BLOCK_ROWS = 251;
/**
 * Bytes of one matrix at most, and of all replicas together at least where the shape gives them: more than the caches
 * hold (50 MB on the largest GPUs), little enough for a software adapter to be quick about.
 */
const SIZES = {
  gpu: { most: 32 << 20, together: 128 << 20 },
  software: { most: 8 << 20, together: 16 << 20 },
};
const MOST_REPLICAS = 8;
const EPS = 1e-5;

export function makeSubject(device: GPUDevice, task: TuneTask): Subject {
  const memory = new BufferGroup(device);
  const { kernel } = task.for;
  try {
    if (kernel === ATTENTION_KERNEL)
      return { recording: false, ...attentionSubject(memory, task), destroy: () => memory.destroy() };
    const made = makers[kernel](new Bench(memory, task));
    return { recording: false, ...made, destroy: () => memory.destroy() };
  } catch (error) {
    memory.destroy();
    throw error;
  }
}

export type Made = Pick<Subject, 'variants' | 'axis' | 'outcome' | 'build'> & { recording?: boolean };

const makers: { readonly [K in Exclude<TunedKernel, typeof ATTENTION_KERNEL>]: (bench: Bench) => Made } = {
  linear(bench) {
    const { task, x, xStride, hidden } = bench;
    const { batched } = task.for;
    const matrices = bench.replicas(() => bench.matrix([hidden]));
    const [{ rows }] = matrices[0].shards;
    const out = bench.values(rows);
    return bench.rowOps('linear', matrices, { buffer: out, compare: 'values' }, (field, variant) => {
      const op = new RowOp(bench.memory, {
        table: modelLinear,
        rows: field,
        mode: 'dense',
        xStride,
        outStride: rows,
        batched,
        // As a model's single tokens run it: the norm before it is its own.
        norm: batched ? undefined : { residual: x, columns: hidden, eps: EPS },
        variant,
      });
      return (pass) => op.encode(pass, { step: bench.step, x, out, count: rows, batch: bench.batch });
    });
  },
  gate_up(bench) {
    const { task, x, xStride, hidden } = bench;
    const matrices = bench.replicas(() => bench.matrix([hidden, hidden]));
    const [{ rows }] = matrices[0].shards;
    const { ids, list } = bench.rowList(rows);
    const out = bench.values(rows);
    return bench.rowOps('gate_up', matrices, { buffer: out, compare: 'values' }, (field, variant) => {
      const op = new RowOp(bench.memory, {
        table: gateUp,
        rows: field,
        mode: 'indexed',
        activation: chooseActivation('silu'),
        xStride,
        outStride: rows,
        batched: task.for.batched,
        variant,
      });
      const run = { step: bench.step, x, out, list, count: ids.length, batch: bench.batch };
      return (pass) => op.encode(pass, run);
    });
  },
  gate_up_active(bench) {
    const { x, xStride, hidden } = bench;
    const pairs = bench.replicas(() => ({ gate: bench.matrix([hidden]), up: bench.matrix([hidden]) }));
    const [{ rows }] = pairs[0].gate.shards;
    const out = bench.values(rows);
    // Each segment's active rows come first in it, and variants have segments of other lengths.
    return bench.rowOps(
      'gate_up_active',
      pairs,
      { buffer: out, compare: 'sums' },
      ({ gate, up }, variant) => {
        const op = new ActiveOp(bench.memory, {
          gate,
          up,
          activation: chooseActivation('relu'),
          threshold: bench.threshold,
          all: false,
          xStride,
          norm: { residual: x, columns: hidden, eps: EPS },
          x,
          out,
          variant,
        });
        return (pass) => op.encode(pass);
      },
    );
  },
  down(bench) {
    const { device, task, hidden } = bench;
    const { batched } = task.for;
    const matrices = bench.replicas(() => bench.matrix([hidden]));
    const [{ rows }] = matrices[0].shards;
    const { ids, list } = bench.rowList(rows);
    const a = bench.values(rows);
    const out = bench.values(hidden);
    const bias = bench.memory.storage('tuning bias', hidden * 4);
    const ops = (variant: DownVariant) =>
      matrices.map((field) => {
        const op = new DownOp(bench.memory, {
          tables: downTables,
          rows: field,
          mode: 'indexed',
          columns: hidden,
          xStride: roundUp(rows, 4),
          outStride: hidden,
          put: 'store',
          batched,
          maxBatch: bench.batch,
          bias,
          variant,
        });
        const run = { step: bench.step, x: a, out, list, count: ids.length, batch: bench.batch };
        return (pass: GPUComputePassEncoder) => op.encode(pass, run);
      });
    return {
      variants: plain(downVariants(traitsOf(device), task.dtype, batched, task.hidden, task.for.storage)),
      axis: 'sums',
      outcome: { buffer: out, compare: 'values' },
      build: (variant) => inPass(ops(variant as unknown as DownVariant)),
    };
  },
  [COPY_KERNEL](bench) {
    const { device, hidden, memory } = bench;
    // Up and down of a layer, as a model's slab holds them.
    const pool = [bench.matrix([hidden]), bench.matrix([hidden])];
    const [{ rows }] = pool[0].shards;
    const bytes = pool[0].rowBytes;
    const slab = pool.map(() => memory.storage('tuning slab', rows * bytes));
    const { ids } = bench.rowList(rows);
    const moves = Uint32Array.from(shuffledIds(ids.length).flatMap((slot, i) => [slot, ids[i]]));
    const region = memory.storage('tuning moves', 16 + moves.byteLength);
    upload(device, region, 0, Uint32Array.of(ids.length, ids.length, 0, 0, ...moves));
    const rowList = memory.storage('tuning row list', 16 + 4 * rows);
    const build = ({ arm, WORKGROUP, ROWS, vectorWidth }: CopyVariant): Record => {
      if (arm === 'copies') {
        return (encoder, times) => {
          for (let t = 0; t < times; t++) {
            for (let i = 0; i < moves.length; i += 2) {
              pool.forEach(({ shards }, f) => {
                encoder.copyBufferToBuffer(
                  shards[0].memory as GPUBuffer,
                  moves[i + 1] * bytes,
                  slab[f],
                  moves[i] * bytes,
                  bytes,
                );
              });
              encoder.copyBufferToBuffer(region, 16 + 4 * (i + 1), rowList, 16 + 4 * moves[i], 4);
            }
          }
        };
      }
      const made = kernel(device, copyRows, {
        slots: { vector: String(vectorWidth), fields: '2' },
        constants: { WORKGROUP, ROWS },
      });
      const vectors = bytes / 4 / vectorWidth;
      const group = made.bind({
        params: memory.uniform('copy params', [vectors, vectors, 0, 0, 0, rows, 1, 1]),
        region,
        row_list: rowList,
        pool0: pool[0].shards[0].memory,
        pool1: pool[1].shards[0].memory,
        slab0: slab[0],
        slab1: slab[1],
      });
      const grid = [...foldGrid(device, Math.ceil(ids.length / ROWS)), 1] as const;
      return inPass([(pass) => encodeDispatch(pass, { kernel: made, group, grid })]);
    };
    return {
      recording: true,
      variants: plain(copyVariants(traitsOf(device))),
      axis: 'WORKGROUP',
      outcome: { buffer: slab[0], compare: 'bits' },
      build: (variant) => build(variant as unknown as CopyVariant),
    };
  },
};

/** The buffers of one task. */
class Bench {
  readonly memory: BufferGroup;
  readonly device: GPUDevice;
  readonly task: TuneTask;
  readonly hidden: number;
  readonly batch: number;
  readonly xStride: number;
  readonly x: GPUBuffer;
  readonly step: GPUBuffer;
  /** What act(gate) of random rows exceeds for the task's share of them. */
  readonly threshold: number;
  private readonly block: Float32Array<ArrayBuffer>;
  private readonly sizes: (typeof SIZES)['gpu'];

  constructor(memory: BufferGroup, task: TuneTask) {
    const { device } = memory;
    const { hidden } = task;
    this.memory = memory;
    this.device = device;
    this.task = task;
    this.hidden = hidden;
    this.sizes = traitsOf(device).software ? SIZES.software : SIZES.gpu;
    this.batch = task.for.batched ? BATCH : 1;
    this.xStride = activationStride(hidden);
    const x = randomValues(this.batch * this.xStride, 1);
    this.x = memory.storage('tuning x', x.byteLength);
    upload(device, this.x, 0, x);
    this.step = memory.uniform('tuning step', [this.batch, 0, 0, 0]);
    this.block = randomValues(Math.min(BLOCK_ROWS, this.rowsOf(rowBytes(hidden, task.dtype))) * hidden, 2);
    this.threshold = task.active === 1 ? -1 : thresholdFor(this.block, x, hidden, task.active);
  }

  /** Replicas in turn, so that a matrix is not in a cache because it was just there. */
  replicas<T>(make: () => T): T[] {
    const first = make();
    const bytes = this.memory.bytes;
    const count = Math.max(1, Math.min(MOST_REPLICAS, Math.ceil(this.sizes.together / bytes)));
    return [first, ...Array.from({ length: count - 1 }, make)];
  }

  /** Rows of random values, stored as the task's dtype. */
  matrix(parts: readonly number[]): StoredRows {
    const { memory, device, task, block } = this;
    const source = DevicePool.from(
      device,
      { rows: { parts: parts.map((cols) => ({ data: block, cols })) } },
      { dtype: task.dtype, label: 'tuning' },
    );
    try {
      const field = source.field('rows');
      const rows = this.rowsOf(field.rowBytes);
      const { storage = 'buffer' } = task.for;
      const bytes = rows * field.rowBytes;
      const whole =
        storage === 'texture'
          ? createTexels(memory, 'tuning rows', bytes)
          : memory.storage('tuning rows', bytes);
      const block = field.shards[0].memory as GPUBuffer;
      const encoder = device.createCommandEncoder({ label: 'pairslab tuning' });
      for (let row = 0; row < rows; row += source.rows) {
        const size = Math.min(source.rows, rows - row) * field.rowBytes;
        if ('createView' in whole) copyToTexels(encoder, block, 0, whole, row * field.rowBytes, size);
        else encoder.copyBufferToBuffer(block, 0, whole, row * field.rowBytes, size);
      }
      device.queue.submit([encoder.finish()]);
      const { dtype, rowBytes, parts } = field;
      return { dtype, rowBytes, parts, storage, shards: [{ memory: whole, base: 0, rows }] };
    } finally {
      source.destroy();
    }
  }

  /** [batch, cols] of random values. */
  values(cols: number): GPUBuffer {
    const data = randomValues(this.batch * roundUp(cols, 4), 3);
    const buffer = this.memory.storage('tuning values', data.byteLength);
    upload(this.device, buffer, 0, data);
    return buffer;
  }

  /** The active ones of `rows` rows, ascending, as a slab lists them. */
  rowList(rows: number): { ids: number[]; list: GPUBuffer } {
    const count = Math.max(1, Math.round(this.task.active * rows));
    const ids = shuffledIds(rows)
      .slice(0, count)
      .sort((a, b) => a - b);
    const list = this.memory.storage('tuning list', 16 + 4 * count);
    upload(this.device, list, 0, Uint32Array.of(count, 0, 0, 0, ...ids));
    return { ids, list };
  }

  rowOps<T>(
    kind: 'linear' | 'gate_up' | 'gate_up_active',
    matrices: readonly T[],
    outcome: Outcome,
    make: (matrix: T, variant: RowVariant) => (pass: GPUComputePassEncoder) => void,
  ): Made {
    const { batched, dtype, storage } = this.task.for;
    return {
      variants: plain(rowVariants(traitsOf(this.device), kind, dtype, batched, this.hidden, storage)),
      axis: 'tile',
      outcome,
      build: (variant) => inPass(matrices.map((matrix) => make(matrix, variant as unknown as RowVariant))),
    };
  }

  private rowsOf(bytes: number): number {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.device.limits;
    const most = Math.min(this.sizes.most, maxStorageBufferBindingSize, maxBufferSize);
    return Math.max(1, Math.min(this.task.rows, Math.floor(most / bytes)));
  }
}

/** Variants as what a tuning holds of them: names and numbers. */
function plain(variants: readonly object[]): TunedEntry['variant'][] {
  return variants as readonly TunedEntry['variant'][] as TunedEntry['variant'][];
}

function inPass(ops: readonly ((pass: GPUComputePassEncoder) => void)[]): Record {
  return (encoder, times) => {
    const pass = encoder.beginComputePass({ label: 'pairslab tuning' });
    for (let t = 0; t < times; t++) ops[t % ops.length](pass);
    pass.end();
  };
}

/** Between two rows · x over the root mean square of x, so that in every variant the same exceed it: a share of `active`. */
function thresholdFor(block: Float32Array, x: Float32Array, hidden: number, active: number): number {
  let squares = 0;
  for (let c = 0; c < hidden; c++) squares += x[c] * x[c];
  const scale = 1 / Math.sqrt(squares / hidden + EPS);
  const gates = Float32Array.from({ length: block.length / hidden }, (_, row) => {
    let sum = 0;
    for (let c = 0; c < hidden; c++) sum += block[row * hidden + c] * x[c];
    return scale * sum;
  }).sort();
  const at = Math.floor((1 - active) * gates.length);
  return Math.max(0, ((gates[at - 1] ?? gates[at]) + gates[at]) / 2 || 0);
}

function shuffledIds(count: number): number[] {
  const keys = randomValues(count, 4);
  return Array.from(keys, (_, i) => i).sort((a, b) => keys[a] - keys[b]);
}
