import { OptionError, ShapeError } from '../errors.js';
import { BufferGroup, roundUp, storageBuffer, upload, destroyBuffer } from '../gpu/buffers.js';
import { activationStride, type MatrixData, type StoredDtype } from '../gpu/layout.js';
import { readBuffer } from '../gpu/readback.js';
import { Regions } from '../gpu/regions.js';
import { Bitmask } from '../mask/index.js';
import { DevicePool, type FieldSpec } from '../pool/device-pool.js';
import { Slab, type SlabDtype, type SlabOptions, type UpdateStats } from '../slab/slab.js';
import { loadTuningOnce } from '../gpu/tuning-store.js';
import { type Activation, type ActivationChoice, chooseActivation } from './activation.js';
import { SparseGraph } from './sparse-graph.js';
import { type Compute, checkCompute } from './compute.js';
import { choose, decide, type Explanation, type StepShape } from './cost-model.js';
import { checkStrategy, type Strategy } from './strategy.js';
import type { RowsMode } from './kernels.js';
import { type StoredRows, slabRows } from './row-op.js';
import { canFuseUpdate, checkUpdateWay, type UpdateWay, updateWay } from './update-way.js';
import { BATCH_TILE } from './variants.js';

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
  /**
   * What gate and up are multiplied in. Default f32. f16 needs `dtype: 'f16'` and a device with `shader-f16`; x, what
   * pads its rows, and sums of four products must stay within ±65,504 then, and results are off by about 1e-3 of the
   * sizes that they sum up.
   */
  compute?: Compute;
  /** Slots of the slab that `repack` and `paired` use. Default N. */
  capacity?: number;
  /** What the slab's matrices are converted to as they are copied. Default: as the pool has them. */
  slabDtype?: SlabDtype;
  slab?: Omit<SlabOptions, 'capacity' | 'dtype'>;
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
  /** Default auto: the cheapest by the cost model; see `explain`. */
  strategy?: Strategy;
  /** How many steps will use this mask, this one included; `auto` shares a copy's cost among them. Default 1. */
  reuse?: number;
  /** How `repack` and `paired` bring rows into the slab; see `UpdateWay`. Default: the faster one, as measured. */
  update?: UpdateWay;
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
  /** Row stride of x in values: hidden rounded up to 32, the rest zero (or any finite values). */
  readonly inputStride: number;
  private readonly activation: ActivationChoice;
  private readonly compute: Compute;
  private readonly memory: BufferGroup;
  private readonly regions: Regions;
  private readonly downBias: GPUBuffer;
  private readonly options: SparseMLPOptions;
  private readonly graphs = new Map<string, SparseGraph>();
  private readonly steps = new Map<number, GPUBuffer>();
  private readonly all: Bitmask;
  private packed?: Slab;

  /**
   * Checks shapes, then uploads. @throws ShapeError, OptionError, DeviceLimitError, and AdapterError for compute
   * f16 on a device without `shader-f16`; nothing stays allocated then.
   */
  static async create(device: GPUDevice, weights: SparseMLPWeights & SparseMLPOptions): Promise<SparseMLP> {
    await loadTuningOnce(device);
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
    const { compute = 'f32', slabDtype } = options;
    this.compute = checkCompute(compute, options.dtype ?? 'f32', device);
    // Else the packed strategies would multiply in f32, and the others not.
    if (slabDtype) checkCompute(compute, slabDtype);
    this.device = device;
    this.hidden = hidden;
    this.gated = gate !== undefined;
    this.inputStride = activationStride(hidden);
    this.options = options;
    const { dtype, maxShardBytes, label = 'mlp' } = options;
    const up = matrix(weights.up, `${label} up`);
    const fields: Record<string, FieldSpec> = {
      [gate ? 'gateUp' : 'up']: gate
        ? {
            parts: [
              { ...matrix(gate, `${label} gate`), cols: hidden },
              { ...up, cols: hidden },
            ],
          }
        : { ...up, cols: hidden },
      down: { ...matrix(weights.down, `${label} down`), cols: hidden, transposed: !weights.downRows },
    };
    const bias = rowBiases(up.data.length / hidden, weights, this.gated);
    if (bias) fields.bias = { data: bias, cols: 4, storeAs: 'f32' };
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
    const { capacity, slab, slabDtype, pendingUpdates, label = 'mlp' } = this.options;
    // Biases stay f32, whatever the matrices become.
    const dtype = slabDtype && { [this.gated ? 'gateUp' : 'up']: slabDtype, down: slabDtype };
    this.packed ??= new Slab(this.pool, { pendingUpdates, label: `${label} slab`, ...slab, capacity, dtype });
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
  async forward(
    x: Float32Array,
    step: Pick<EncodeStep, 'mask' | 'strategy' | 'reuse' | 'update'> = {},
  ): Promise<Float32Array> {
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
    const asked = checkStrategy(step.strategy ?? 'auto');
    const update = step.update && checkUpdateWay(step.update);
    this.checkBuffers(x, y, batch);
    if (mask) this.checkMask(mask);
    const strategy =
      asked === 'auto'
        ? choose(this.device, this.dtype, this.shapeOf({ mask, batch, reuse: step.reuse })).strategy
        : asked;
    const run = { step: this.stepBuffer(batch), x, y, batch };
    if (strategy === 'dense') {
      const region = mask ? this.regions.write(Uint32Array.from(mask.words)) : undefined;
      const graph = this.graph(mask ? 'masked' : 'dense', batch);
      graph.encode(pass, { ...run, count: this.pool.rows, mask: region });
      return null;
    }
    const rows = mask ?? this.all;
    if (strategy === 'indexed') {
      const ids = rows.ids();
      const list = new Uint32Array(4 + ids.length);
      list[0] = ids.length;
      list.set(ids, 4);
      const region = this.regions.write(list);
      this.graph('indexed', batch).encode(pass, { ...run, count: ids.length, list: region });
      return null;
    }
    const { slab } = this;
    const { rowList } = slab;
    const arriving = () => (strategy === 'repack' ? 1 : slab.writesFor(rows) / rows.count());
    const fuses =
      batch === 1 && canFuseUpdate(slab) && (update ?? updateWay(this.device, arriving)) === 'fused';
    const stats = fuses
      ? slab.encodeArrivals(rows, { strategy }, (list, count) =>
          this.graph('arriving', 1).encode(pass, { ...run, count, list, rowList }),
        )
      : slab.encodeUpdate(pass, rows, { strategy });
    // What is in the slab already is only read.
    if (!fuses || stats.kind === 'none')
      this.graph('packed', batch).encode(pass, { ...run, count: slab.active, list: rowList });
    return stats;
  }

  /**
   * What a step would cost by each strategy, which one `auto` takes, and why. A packed step is charged for the rows that
   * the slab, as it is now, does not hold yet.
   * @throws ShapeError for a mask of other than N rows; OptionError for a reuse below 1.
   */
  explain(step: Pick<EncodeStep, 'mask' | 'batch' | 'reuse'> = {}): Explanation {
    return decide(this.device, this.dtype, this.shapeOf(step));
  }

  private get dtype(): StoredDtype {
    return this.pool.field('down').dtype;
  }

  private shapeOf(step: Pick<EncodeStep, 'mask' | 'batch' | 'reuse'>): StepShape {
    const { pool, packed, options } = this;
    const { mask = this.all, batch = 1, reuse = 1 } = step;
    this.checkMask(mask);
    if (!(reuse >= 1)) throw new OptionError(`reuse must be 1 or more; it is ${reuse}.`, { reuse });
    const active = mask.count();
    return {
      rows: pool.rows,
      active,
      writes: packed ? packed.writesFor(mask) : active,
      rowBytes: pool.rowBytes,
      slabRowBytes: packed?.rowBytes ?? pool.rowBytes,
      batch,
      reuse,
      // More rows than the slab has slots cannot be packed at all.
      fits: active <= (options.capacity ?? pool.rows),
    };
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

  private checkMask({ size }: Bitmask): void {
    const { rows } = this.pool;
    if (size !== rows)
      throw new ShapeError(`the mask has ${size} rows; the layer has ${rows}.`, { size, rows });
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
      const { pool, hidden, inputStride, gated, activation, compute, downBias } = this;
      const packed = mode === 'packed' || mode === 'arriving';
      const stored = (name: string): StoredRows | undefined =>
        packed ? slabRows(this.slab, name) : pool.fields.get(name);
      graph = new SparseGraph(this.device, {
        mode,
        maxBatch,
        hidden,
        inputStride,
        activation,
        compute,
        gated,
        downBias,
        first: stored(gated ? 'gateUp' : 'up') as StoredRows,
        down: stored('down') as StoredRows,
        bias: stored('bias'),
        pool: mode === 'arriving' ? { first: pool.field('gateUp'), down: pool.field('down') } : undefined,
        capacity: packed ? this.slab.capacity : pool.rows,
      });
      this.graphs.set(key, graph);
    }
    return graph;
  }
}

function matrix(values: Values, name: string): MatrixData {
  return values instanceof Float32Array ? { data: values, name } : { name, ...values };
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
