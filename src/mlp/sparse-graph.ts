import { BufferGroup, roundUp } from '../gpu/buffers.js';
import type { ActivationChoice } from './activation.js';
import type { Compute } from './compute.js';
import { DownOp } from './down-op.js';
import type { FusedUpdate } from './fused-update.js';
import { downTables, gateUp, linear, type MaskedMode, type RowsMode } from './kernels.js';
import { RowOp, type RowOpOptions, type RowOpRun, type StoredRows } from './row-op.js';

/** What a layer's ops are made for. */
export interface SparseGraphOptions {
  mode: RowsMode;
  /** Whether each element of the batch has a mask of its own among the rows, or all have one among all rows. */
  masked: boolean;
  maxBatch: number;
  hidden: number;
  inputStride: number;
  activation: ActivationChoice;
  /** Of the first op. */
  compute: Compute;
  gated: boolean;
  downBias: GPUBuffer;
  first: StoredRows;
  down: StoredRows;
  bias?: StoredRows;
  /** For mode `arriving`: what `first` and `down` are in the pool, and the kernels. */
  arriving?: { readonly first: StoredRows; readonly down: StoredRows; readonly tables: FusedUpdate };
  capacity: number;
}

const MASKED: Readonly<Partial<Record<RowsMode, MaskedMode>>> = {
  dense: 'masked',
  packed: 'packed_masked',
  indexed: 'indexed_masked',
};

/** One step: x and y as `EncodeStep` has them, and what the mode reads besides. */
export type SparseGraphRun = Omit<RowOpRun, 'out'> & { y: GPUBuffer };

/** The two ops of a layer for one way of reaching rows, with the activations between them. */
export class SparseGraph {
  private readonly memory: BufferGroup;
  private readonly first: RowOp;
  private readonly down: DownOp;
  private readonly a: GPUBuffer;

  constructor(device: GPUDevice, options: SparseGraphOptions) {
    const {
      mode,
      masked,
      maxBatch,
      hidden,
      inputStride,
      activation,
      compute,
      gated,
      first,
      down,
      bias,
      arriving,
      capacity,
    } = options;
    this.memory = new BufferGroup(device);
    const batched = maxBatch > 1;
    const stride = roundUp(capacity, 4);
    this.a = this.memory.storage('mlp activations', maxBatch * stride * 4);
    const shared: Omit<RowOpOptions, 'table'> = {
      rows: first,
      pool: arriving?.first,
      mode: (masked && MASKED[mode]) || mode,
      bias,
      activation,
      compute,
      xStride: inputStride,
      outStride: stride,
      batched,
    };
    this.first = new RowOp(
      this.memory,
      gated
        ? { ...shared, table: arriving?.tables.gateUp ?? gateUp }
        : { ...shared, table: linear, put: 'activate' },
    );
    this.down = new DownOp(this.memory, {
      tables: { ...downTables, ...(arriving && { down: arriving.tables.down }) },
      rows: down,
      pool: arriving?.down,
      mode,
      columns: hidden,
      xStride: stride,
      outStride: hidden,
      put: 'store',
      batched,
      maxBatch,
      bias: options.downBias,
    });
  }

  encode(pass: GPUComputePassEncoder, { y, ...run }: SparseGraphRun): void {
    const { a } = this;
    this.first.encode(pass, { ...run, out: a });
    this.down.encode(pass, { ...run, x: a, out: y });
  }

  get bytes(): number {
    return this.memory.bytes;
  }

  destroy(): void {
    this.memory.destroy();
  }
}
