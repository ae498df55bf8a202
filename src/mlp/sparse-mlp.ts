import { OptionError, ShapeError } from '../errors.js';
import { BufferGroup, roundUp, storageBuffer, upload, destroyBuffer } from '../gpu/buffers.js';
import { activationStride, type MatrixData, type StoredDtype } from '../gpu/layout.js';
import { readBuffer } from '../gpu/readback.js';
import { Regions } from '../gpu/regions.js';
import { Bitmask } from '../mask/index.js';
import { DevicePool, type FieldSpec } from '../pool/device-pool.js';
import { Slab, type SlabOptions, type UpdateStats } from '../slab/slab.js';
import { type Activation, type ActivationChoice, chooseActivation } from './activation.js';
import { SparseGraph } from './sparse-graph.js';
import { resolveStrategy, type Strategy } from './strategy.js';
import { BATCH_TILE, type RowsMode } from './kernels.js';
import { type StoredRows, slabRows } from './row-op.js';

type Values = Float32Array | MatrixData;

/** A layer's weights. `gate` makes it gated: act(gate · x) · (up · x); without it, plain: act(up · x). */
export interface SparseMLPWeights {
  /** Columns of x and y. */
  hidden: number;
  /** [N, hidden]. */
  gate?: Values;
  /** [N, hidden]. */
  up: Values;
  /** [hidden, N] as models store it, or [N, hidden] with `downRows`. */
  down: Values;
  /** `down` is given as [N, hidden]. */
  downRows?: boolean;
  /** [N] each. */
  gateBias?: Float32Array;
  upBias?: Float32Array;
  /** [hidden]. */
  downBias?: Float32Array;
}

export interface SparseMLPOptions {
  /** Default silu. */
  activation?: Activation;
  /** How rows are stored. Default f32; sums are f32 always. */
  dtype?: StoredDtype;
  /** Slots of the slab that `repack` and `paired` use. Default N. */
  capacity?: number;
  slab?: Omit<SlabOptions, 'capacity'>;
  /** Steps that may be encoded before one submit. Default 4. */
  pendingUpdates?: number;
  maxShardBytes?: number;
  label?: string;
}

/** One step as `encode` takes it. */
export interface EncodeStep {
  /** [batch, hidden] f32, rows `inputStride` values apart; for batch > 1 with room for a multiple of 8 rows. */
  x: GPUBuffer;
  /** [batch, hidden] f32, rows `hidden` values apart. */
  y: GPUBuffer;
  batch?: number;
  /** The rows to use, one mask for the whole batch. Default: all. */
  mask?: Bitmask;
  /** Default auto. */
  strategy?: Strategy;
}

/**
 * A sparse MLP whose mask comes from outside: y = down · (act(gate · x) · (up · x)) over the rows of a mask, by any
 * strategy, all of which give the same result.
 */
export class SparseMLP {
  readonly device: GPUDevice;
  readonly pool: DevicePool;
  readonly hidden: number;
  readonly gated: boolean;
  /** Row stride of x in values: hidden rounded up to 8, the rest zero (or any finite values). */
  readonly inputStride: number;
  private readonly activation: ActivationChoice;
  private readonly memory: BufferGroup;
  private readonly regions: Regions;
  private readonly downBias: GPUBuffer;
  private readonly options: SparseMLPOptions;
  private readonly graphs = new Map<string, SparseGraph>();
  private readonly steps = new Map<number, GPUBuffer>();
  private readonly all: Bitmask;
  private packed?: Slab;

  /**
   * Checks shapes, then uploads. @throws ShapeError, OptionError, DeviceLimitError; nothing stays allocated then.
   */
  static async create(device: GPUDevice, weights: SparseMLPWeights & SparseMLPOptions): Promise<SparseMLP> {
    return new SparseMLP(device, weights, weights);
  }

  private constructor(device: GPUDevice, weights: SparseMLPWeights, options: SparseMLPOptions) {
    const { hidden, gate } = weights;
    this.activation = chooseActivation(options.activation ?? 'silu');
    if (!Number.isInteger(hidden) || hidden < 1) {
      throw new ShapeError(`hidden must be 1 or more; it is ${hidden}.`, { hidden });
    }
    if (weights.downBias && weights.downBias.length !== hidden) {
      throw new ShapeError(`downBias has ${weights.downBias.length} values; hidden is ${hidden}.`, {
        hidden,
      });
    }
    this.device = device;
    this.hidden = hidden;
    this.gated = gate !== undefined;
    this.inputStride = activationStride(hidden);
    this.options = options;
    const up = matrix(weights.up);
    const fields: Record<string, FieldSpec> = {
      [gate ? 'gateUp' : 'up']: gate
        ? {
            parts: [
              { ...matrix(gate), cols: hidden },
              { ...up, cols: hidden },
            ],
          }
        : { ...up, cols: hidden },
      down: { ...matrix(weights.down), cols: hidden, transposed: !weights.downRows },
    };
    const bias = rowBiases(up.data.length / hidden, weights, this.gated);
    if (bias) fields.bias = { data: bias, cols: 4, storeAs: 'f32' };
    const { dtype, maxShardBytes, label = 'mlp' } = options;
    this.pool = DevicePool.from(device, fields, { dtype, maxShardBytes, label });
    this.all = Bitmask.full(this.pool.rows);
    this.memory = new BufferGroup(device);
    try {
      this.regions = new Regions(this.memory, 'mlp rows', 4 + this.pool.rows, options.pendingUpdates ?? 4);
      this.downBias = this.memory.storage('down bias', roundUp(hidden, 4) * 4);
    } catch (error) {
      this.memory.destroy();
      this.pool.destroy();
      throw error;
    }
    if (weights.downBias) upload(device, this.downBias, 0, Float32Array.from(weights.downBias));
  }

  /** The slab that `repack` and `paired` keep; made on first use. */
  get slab(): Slab {
    const { capacity, slab, pendingUpdates, label = 'mlp' } = this.options;
    this.packed ??= new Slab(this.pool, { pendingUpdates, label: `${label} slab`, ...slab, capacity });
    return this.packed;
  }

  /** GPU bytes held: pool, slab, scratch. */
  get bytes(): number {
    let bytes = this.pool.bytes + this.memory.bytes + (this.packed?.bytes ?? 0);
    for (const graph of this.graphs.values()) bytes += graph.bytes;
    return bytes;
  }

  /**
   * y = mlp(x) for x of [batch, hidden] values, in one submit and one readback.
   * @throws ShapeError when x is not whole rows; what `encode` throws.
   */
  async forward(x: Float32Array, step: { mask?: Bitmask; strategy?: Strategy } = {}): Promise<Float32Array> {
    const batch = x.length / this.hidden;
    if (!Number.isInteger(batch) || batch === 0) {
      throw new ShapeError(`x has ${x.length} values; it must be whole rows of ${this.hidden}.`, {
        length: x.length,
      });
    }
    const { device, hidden, inputStride } = this;
    const padded = new Float32Array(roundUp(batch, BATCH_TILE) * inputStride);
    for (let b = 0; b < batch; b++) padded.set(x.subarray(b * hidden, (b + 1) * hidden), b * inputStride);
    const xBuffer = storageBuffer(device, 'mlp x', padded.byteLength);
    const y = storageBuffer(device, 'mlp y', batch * hidden * 4);
    try {
      upload(device, xBuffer, 0, padded);
      const encoder = device.createCommandEncoder({ label: 'pairslab mlp' });
      const pass = encoder.beginComputePass({ label: 'pairslab mlp' });
      this.encode(pass, { ...step, x: xBuffer, y, batch });
      pass.end();
      device.queue.submit([encoder.finish()]);
      this.submitted();
      return new Float32Array(await readBuffer(device, y, 0, batch * hidden * 4));
    } finally {
      destroyBuffer(device, xBuffer);
      destroyBuffer(device, y);
    }
  }

  /**
   * Records one step into `pass`; the caller submits it and then calls `submitted()`.
   * @returns what the slab did, for `repack` and `paired`.
   * @throws ShapeError for a mask of other than N rows or buffers too small; CapacityError; OptionError. Nothing is
   * recorded or changed then.
   */
  encode(pass: GPUComputePassEncoder, step: EncodeStep): UpdateStats | null {
    const { x, y, batch = 1, mask } = step;
    const strategy = resolveStrategy(step.strategy ?? 'auto');
    this.checkBuffers(x, y, batch);
    if (mask && mask.size !== this.pool.rows) {
      throw new ShapeError(`the mask has ${mask.size} rows; the layer has ${this.pool.rows}.`, {
        size: mask.size,
      });
    }
    const uniform = this.stepBuffer(batch);
    if (strategy === 'dense') {
      const region = mask ? this.regions.write(Uint32Array.from(mask.words)) : undefined;
      this.graph(mask ? 'masked' : 'dense', batch).encode(
        pass,
        uniform,
        x,
        y,
        this.pool.rows,
        batch,
        undefined,
        region,
      );
      return null;
    }
    const rows = mask ?? this.all;
    if (strategy === 'indexed') {
      const ids = rows.ids();
      const list = new Uint32Array(4 + ids.length);
      list[0] = ids.length;
      list.set(ids, 4);
      this.graph('indexed', batch).encode(pass, uniform, x, y, ids.length, batch, this.regions.write(list));
      return null;
    }
    const stats = this.slab.encodeUpdate(pass, rows, { strategy });
    this.graph('packed', batch).encode(pass, uniform, x, y, this.slab.active, batch, this.slab.rowList);
    return stats;
  }

  /** Tells the layer that what was encoded has been submitted. */
  submitted(): void {
    this.regions.submitted();
    this.packed?.submitted();
  }

  destroy(): void {
    for (const graph of this.graphs.values()) graph.destroy();
    this.graphs.clear();
    this.packed?.destroy();
    this.memory.destroy();
    this.pool.destroy();
  }

  private checkBuffers(x: GPUBuffer, y: GPUBuffer, batch: number): void {
    if (!Number.isInteger(batch) || batch < 1)
      throw new ShapeError(`batch must be 1 or more; it is ${batch}.`, { batch });
    const xRows = batch === 1 ? 1 : roundUp(batch, BATCH_TILE);
    const needed = [xRows * this.inputStride * 4, batch * this.hidden * 4];
    if (x.size < needed[0] || y.size < needed[1]) {
      throw new ShapeError(
        `batch ${batch} needs x of ${needed[0]} bytes (rows of ${this.inputStride} values) and y of ${needed[1]}; ` +
          `they have ${x.size} and ${y.size}.`,
        { batch, x: x.size, y: y.size },
      );
    }
  }

  private stepBuffer(batch: number): GPUBuffer {
    let buffer = this.steps.get(batch);
    if (!buffer) {
      buffer = this.memory.uniform('mlp step', [batch, 0, 0, 0]);
      this.steps.set(batch, buffer);
    }
    return buffer;
  }

  /** Graphs are made per way of reaching rows and per power of two of the batch. */
  private graph(mode: RowsMode, batch: number): SparseGraph {
    const maxBatch = batch === 1 ? 1 : Math.max(BATCH_TILE, 2 ** Math.ceil(Math.log2(batch)));
    const key = `${mode} ${maxBatch}`;
    let graph = this.graphs.get(key);
    if (!graph) {
      const { pool, hidden, inputStride, gated, activation, downBias } = this;
      const stored = (name: string): StoredRows | undefined => {
        const field = pool.fields.get(name);
        if (!field || mode !== 'packed') return field;
        return slabRows(field, this.slab.buffers.get(name) as GPUBuffer, this.slab.capacity);
      };
      graph = new SparseGraph(this.device, {
        mode,
        maxBatch,
        hidden,
        inputStride,
        activation,
        gated,
        downBias,
        first: stored(gated ? 'gateUp' : 'up') as StoredRows,
        down: stored('down') as StoredRows,
        bias: stored('bias'),
        capacity: mode === 'packed' ? this.slab.capacity : pool.rows,
      });
      this.graphs.set(key, graph);
    }
    return graph;
  }
}

function matrix(values: Values): MatrixData {
  return values instanceof Float32Array ? { data: values } : values;
}

/** [N, 4]: the biases of each row, (gate, up, 0, 0) or (up, 0, 0, 0). */
function rowBiases(rows: number, weights: SparseMLPWeights, gated: boolean): Float32Array | null {
  const { gateBias, upBias } = weights;
  if (gateBias && !gated) throw new OptionError('gateBias is given, but the layer has no gate.');
  const columns = gated ? [gateBias, upBias] : [upBias];
  if (!columns.some(Boolean)) return null;
  const packed = new Float32Array(rows * 4);
  columns.forEach((bias, k) => {
    if (!bias) return;
    if (bias.length !== rows) {
      throw new ShapeError(`a row bias has ${bias.length} values; there are ${rows} rows.`, {
        length: bias.length,
        rows,
      });
    }
    for (let r = 0; r < rows; r++) packed[r * 4 + k] = bias[r];
  });
  return packed;
}
