import type { BufferGroup } from '../gpu/buffers.js';
import { kernel } from '../gpu/kernel.js';
import { traitsOf } from '../gpu/traits.js';
import { WHOLE_VALUES, type WholeRows, wholeConstants, wholeRows } from '../mlp/fused-mlp.js';
import { CLAIMERS, rowParams, type StoredRows } from '../mlp/row-op.js';
import { type Stream, type StreamNorm, StreamOp } from '../mlp/stream.js';
import { logits } from './kernels.js';

export interface FusedHeadOptions {
  /** [vocab, columns] */
  rows: StoredRows;
  norm: StreamNorm;
  /** Of the residual stream, in values. */
  stride: number;
  /** [vocab] */
  out: GPUBuffer;
}

/** That a workgroup claims at a time: 64 KB of 256 values of f32. */
const ROWS = 64;

/** `logits`: the last norm and the head of one token, from the residual stream in the parts that kernels left of it. */
export class FusedHead {
  private readonly op: StreamOp;

  /** Undefined where the kernel does not serve: other adapters, longer rows, several shards. */
  static make(memory: BufferGroup, options: FusedHeadOptions): FusedHead | undefined {
    const { rows } = options;
    const [cols] = rows.parts;
    const whole = wholeRows(traitsOf(memory.device), rows.dtype, cols, rows.storage);
    const serves = rows.shards.length === 1 && cols % WHOLE_VALUES === 0;
    return whole && serves ? new FusedHead(memory, options, whole) : undefined;
  }

  private constructor(memory: BufferGroup, { rows, norm, stride, out }: FusedHeadOptions, whole: WholeRows) {
    const [shard] = rows.shards;
    const params = rowParams({ rows, xStride: stride, outStride: shard.rows }, shard, 0);
    this.op = new StreamOp(memory, {
      kernel: kernel(memory.device, logits, {
        slots: whole.slots,
        constants: {
          ...wholeConstants(traitsOf(memory.device), stride),
          RESIDENT: whole.units,
          ROWS,
        },
      }),
      buffers: {
        params: memory.uniform('logits params', params),
        weights: shard.memory,
        logits: out,
        claims: memory.storage('claims', 4),
      },
      norm,
      stride,
      out,
      parts: Math.min(CLAIMERS, Math.ceil(shard.rows / ROWS)),
    });
  }

  encode(pass: GPUComputePassEncoder, from: Stream): void {
    this.op.encode(pass, from);
  }
}
