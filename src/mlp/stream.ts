import { type BufferGroup, f32Bits } from '../gpu/buffers.js';
import { type Bindable, type Dispatch, encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import type { StoredRows } from './row-op.js';
import { sumStream } from './threshold-kernels.js';

/** One token's residual stream as a sum of `[count, stride]` f32: what each of a kernel's workgroups left. */
export interface Stream {
  readonly buffer: GPUBuffer;
  readonly count: number;
}

/** The RMS norm of a residual stream: of `columns` values, each times `weight` [stride]. */
export interface StreamNorm {
  readonly weight: GPUBuffer;
  readonly columns: number;
  readonly eps: number;
}

export interface StreamOpOptions {
  /** One with lib/stream.wgsl, and all that it is bound to besides. */
  kernel: Kernel;
  buffers: Readonly<Record<string, Bindable | undefined>>;
  norm: StreamNorm;
  /** Where the kernel reads lib/stream_token.wgsl: what it looks the token up in. */
  embedding?: StoredRows;
  /** Of the stream, in values. */
  stride: number;
  /** `[at least parts, stride]` */
  out: GPUBuffer;
  /** That it leaves, and workgroups. */
  parts: number;
}

/** A kernel that reads the residual stream, and mostly leaves one. */
export class StreamOp {
  private readonly memory: BufferGroup;
  private readonly options: StreamOpOptions;
  /** By where the stream comes from, which also says in how many parts. */
  private readonly groups = new Map<GPUBuffer, GPUBindGroup>();

  constructor(memory: BufferGroup, options: StreamOpOptions) {
    this.memory = memory;
    this.options = options;
  }

  /** @returns the stream that it leaves, in `out`. */
  encode(pass: GPUComputePassEncoder, from: Stream): Stream {
    const { kernel, out, parts } = this.options;
    let group = this.groups.get(from.buffer);
    if (!group) {
      group = this.bind(from);
      this.groups.set(from.buffer, group);
    }
    encodeDispatch(pass, { kernel, group, grid: [parts, 1, 1] });
    return { buffer: out, count: parts };
  }

  private bind({ buffer, count }: Stream): GPUBindGroup {
    const { kernel, buffers, norm, embedding, stride, out } = this.options;
    const { columns, eps, weight } = norm;
    const [shard] = embedding?.shards ?? [];
    const token = [shard?.rows ?? 0, (embedding?.rowBytes ?? 0) / 16];
    return kernel.bind({
      ...buffers,
      stream: this.memory.uniform('stream', [count, stride / 4, f32Bits(columns), f32Bits(eps), ...token]),
      token_weights: shard?.memory,
      stream_in: buffer,
      norm_weight: weight,
      stream_out: out,
    });
  }
}

/** Puts a residual stream together, for ops that read it whole. */
export class StreamSum {
  private readonly memory: BufferGroup;
  private readonly options: StreamSumOptions;
  private readonly made: { buffer: GPUBuffer; weight: GPUBuffer; dispatch: Dispatch }[] = [];

  constructor(memory: BufferGroup, options: StreamSumOptions) {
    this.memory = memory;
    this.options = options;
  }

  /** out = the stream, and scaled = that times `weight` [stride], the next norm's. */
  encode(pass: GPUComputePassEncoder, stream: Stream, weight: GPUBuffer): void {
    let found = this.made.find((one) => one.buffer === stream.buffer && one.weight === weight);
    if (!found) {
      found = { buffer: stream.buffer, weight, dispatch: this.make(stream, weight) };
      this.made.push(found);
    }
    encodeDispatch(pass, found.dispatch);
  }

  private make({ buffer, count }: Stream, weight: GPUBuffer): Dispatch {
    const { memory } = this;
    const { step, zeros, out, scaled, columns, stride } = this.options;
    const made = kernel(memory.device, sumStream, {});
    const params = memory.uniform('stream sum params', [count, stride / 4, columns, stride]);
    const buffers = { params, step, partials: buffer, bias: zeros, out, scaled, next_norm: weight };
    return { kernel: made, group: made.bind(buffers), grid: [Math.ceil(stride / 4 / 64), 1, 1] };
  }
}

export interface StreamSumOptions {
  /** (1, position) */
  step: GPUBuffer;
  /** [columns] of zeros. */
  zeros: GPUBuffer;
  /** [stride] */
  out: GPUBuffer;
  /** [stride] */
  scaled: GPUBuffer;
  columns: number;
  /** In values. */
  stride: number;
}
