import { OptionError, ShapeError } from '../errors.js';
import { BufferGroup, roundUp, upload } from '../gpu/buffers.js';
import { activationStride, type MatrixData, type StoredDtype } from '../gpu/layout.js';
import { Regions } from '../gpu/regions.js';
import { countAdded } from '../mask/diff.js';
import { Bitmask } from '../mask/index.js';
import { minimumWrites, type Transition } from '../plan/index.js';
import { DevicePool } from '../pool/device-pool.js';
import type { FieldSpec } from '../pool/fields.js';
import { Slab } from '../slab/slab.js';
import type { SlabOptions } from '../slab/slab-options.js';
import type { UpdateStats } from '../slab/update-stats.js';
import type { SlabDtype } from '../slab/slab-fields.js';
import { loadTuningOnce } from '../gpu/tuning-store.js';
import { type Activation, type ActivationChoice, chooseActivation } from './activation.js';
import { SparseGraph, type SparseGraphRun } from './sparse-graph.js';
import { type Compute, checkCompute } from './compute.js';
import { choose, decide, type Explanation, type FixedStrategy, type StepShape } from './cost-model.js';
import { batchRoom, ForwardBuffers } from './forward-buffers.js';
import { MaskRegions, maskWords, type StepMask, type StepRows, stepRows } from './step-masks.js';
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
  /**
   * The rows to use: one mask for the whole batch, or one for each of its elements. Then the rows of any are read, and
   * each element is computed with its own. Default: all.
   */
  mask?: StepMask;
  /** Default auto: the cheapest by the cost model; see `explain`. */
  strategy?: Strategy;
  /** How many steps will use this mask, this one included; `auto` shares a copy's cost among them. Default 1. */
  reuse?: number;
  /** How `repack` and `paired` bring rows into the slab; see `UpdateWay`. Default: the faster one, as measured. */
  update?: UpdateWay;
}

/** A strategy, and what it changes in the slab where that was worked out to choose it. */
interface Choice {
  strategy: FixedStrategy;
  change?: Transition;
}

/** The layer that ran last on a device: only what that one read can be in a cache still. */
const ranLast = new WeakMap<GPUDevice, SparseMLP>();

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
  private readonly masks: MaskRegions;
  private readonly downBias: GPUBuffer;
  private readonly options: SparseMLPOptions;
  private readonly graphs = new Map<string, SparseGraph>();
  private readonly steps = new Map<number, GPUBuffer>();
  private readonly all: Bitmask;
  private readonly forwards: ForwardBuffers;
  /** The rows of the last step. */
  private readonly last: Bitmask;
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
    this.last = Bitmask.empty(this.pool.rows);
    this.forwards = new ForwardBuffers(device, hidden, this.inputStride);
    this.memory = new BufferGroup(device);
    try {
      const pending = options.pendingUpdates ?? 4;
      this.regions = new Regions(this.memory, 'mlp rows', 4 + this.pool.rows, pending);
      this.masks = new MaskRegions(this.memory, pending);
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

  /** GPU bytes held: pool, slab, scratch, and what `forward` keeps. */
  get bytes(): number {
    let bytes = this.pool.bytes + this.memory.bytes + (this.packed?.bytes ?? 0) + this.forwards.bytes;
    for (const graph of this.graphs.values()) bytes += graph.bytes;
    return bytes;
  }

  /**
   * y = mlp(x) for x of [batch, hidden] values, in one submit and one readback. Calls may run at once; the buffers they
   * use are kept for later ones.
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
    return this.forwards.run(
      x,
      batch,
      (pass, xBuffer, y) => {
        this.encode(pass, { ...step, x: xBuffer, y, batch });
      },
      () => this.submitted(),
    );
  }

  /**
   * Records one step into `pass`; the caller submits it and then calls `submitted()`.
   * @returns what the slab did, for `repack` and `paired`.
   * @throws ShapeError for a mask of other than N rows or buffers too small; CapacityError; OptionError. Nothing is
   * recorded or changed then.
   */
  encode(pass: GPUComputePassEncoder, step: EncodeStep): UpdateStats | null {
    const { x, y, batch = 1 } = step;
    const asked = checkStrategy(step.strategy ?? 'auto');
    const update = step.update && checkUpdateWay(step.update);
    this.checkBuffers(x, y, batch);
    const rows = stepRows(step.mask, batch, this.all);
    const { union, each } = rows;
    const choice: Choice = asked === 'auto' ? this.choose(rows, batch, step.reuse) : { strategy: asked };
    const { strategy } = choice;
    const run = { step: this.stepBuffer(batch), x, y, batch };
    if (strategy === 'dense') {
      // One mask for all is read here too: the rows it leaves out are computed and set to zero.
      const masks = each ? this.masks.write(rows) : step.mask && this.regions.write(maskWords(rows));
      const graph = this.graph('dense', masks !== undefined, batch);
      graph.encode(pass, { ...run, count: this.pool.rows, masks });
      this.ran(union);
      return null;
    }
    if (strategy === 'indexed') {
      const ids = union.ids();
      const list = new Uint32Array(4 + ids.length);
      list[0] = ids.length;
      list.set(ids, 4);
      const masks = each && this.masks.write(rows);
      const graph = this.graph('indexed', masks !== undefined, batch);
      graph.encode(pass, { ...run, count: ids.length, list: this.regions.write(list), masks });
      this.ran(union);
      return null;
    }
    const stats = this.encodePacked(pass, rows, run, { ...choice, strategy, update });
    this.ran(union);
    return stats;
  }

  /** Repack and paired: the slab is brought to the mask, and multiplied then or on the way. */
  private encodePacked(
    pass: GPUComputePassEncoder,
    rows: StepRows,
    run: Omit<SparseGraphRun, 'count'>,
    { strategy, change, update }: Choice & { strategy: 'repack' | 'paired'; update?: UpdateWay },
  ): UpdateStats {
    const { union, each } = rows;
    const { slab } = this;
    const { rowList } = slab;
    const fusible = run.batch === 1 && !each && canFuseUpdate(slab);
    let known = change;
    const arriving = () => {
      if (strategy === 'repack') return 1;
      known ??= slab.changeTo(union) ?? undefined;
      return known ? minimumWrites(known) / union.count() : 0;
    };
    if (fusible && (update ?? updateWay(this.device, arriving)) === 'fused') {
      const stats = slab.encodeArrivals(
        union,
        { strategy },
        (list, count) => this.graph('arriving', false, 1).encode(pass, { ...run, count, list, rowList }),
        known,
      );
      // What is in the slab already is only read, as below.
      if (stats.kind !== 'none') return stats;
      known = undefined;
    }
    // What can be refused comes before the slab changes.
    if (each) this.masks.check(rows);
    const stats = slab.encodeUpdate(pass, union, { strategy }, known);
    const masks = each && this.masks.write(rows);
    const graph = this.graph('packed', masks !== undefined, run.batch);
    graph.encode(pass, { ...run, count: slab.active, list: rowList, masks });
    return stats;
  }

  /**
   * What a step would cost by each strategy, which one `auto` takes, and why. A packed step is charged for the rows that
   * the slab, as it is now, does not hold yet; rows that the last step used, if this layer was the last to run on the
   * device, are taken to be in a cache as far as one holds them.
   * @throws ShapeError for a mask of other than N rows, or as many masks as the batch has not; OptionError for a reuse
   * below 1.
   */
  explain(step: Pick<EncodeStep, 'mask' | 'batch' | 'reuse'> = {}): Explanation {
    const { mask, batch = 1, reuse } = step;
    return decide(this.device, this.dtype, this.stepOf(stepRows(mask, batch, this.all), batch, reuse).shape);
  }

  private get dtype(): StoredDtype {
    return this.pool.field('down').dtype;
  }

  private choose(rows: StepRows, batch: number, reuse?: number): Choice {
    const { shape, change } = this.stepOf(rows, batch, reuse);
    return { strategy: choose(this.device, this.dtype, shape).strategy, change };
  }

  /** What a step is to the cost model, and what it would change in the slab, where there is one that it fits. */
  private stepOf(
    { union: mask }: StepRows,
    batch: number,
    reuse = 1,
  ): { shape: StepShape; change: Transition | undefined } {
    const { pool, packed, options, last, device } = this;
    if (!(reuse >= 1)) throw new OptionError(`reuse must be 1 or more; it is ${reuse}.`, { reuse });
    const active = mask.count();
    const change = packed?.changeTo(mask) ?? undefined;
    const shape: StepShape = {
      rows: pool.rows,
      active,
      writes: change ? minimumWrites(change) : active,
      rowBytes: pool.rowBytes,
      slabRowBytes: packed?.rowBytes ?? pool.rowBytes,
      batch,
      reuse,
      fresh: ranLast.get(device) === this ? countAdded(last, mask) : active,
      // More rows than the slab has slots cannot be packed at all.
      fits: active <= (options.capacity ?? pool.rows),
    };
    return { shape, change };
  }

  private ran(rows: Bitmask): void {
    this.last.words.set(rows.words);
    ranLast.set(this.device, this);
  }

  /** Tells the layer that what was encoded has been submitted. */
  submitted(): void {
    this.regions.submitted();
    this.masks.submitted();
    this.packed?.submitted();
  }

  destroy(): void {
    for (const graph of this.graphs.values()) graph.destroy();
    this.graphs.clear();
    this.packed?.destroy();
    this.forwards.destroy();
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

  /** Graphs are made per way of reaching rows, with masks or without, and per power of two of the batch. */
  private graph(mode: RowsMode, masked: boolean, batch: number): SparseGraph {
    const maxBatch = batchRoom(batch);
    const key = `${mode} ${masked} ${maxBatch}`;
    let graph = this.graphs.get(key);
    if (!graph) {
      const { pool, hidden, inputStride, gated, activation, compute, downBias } = this;
      const packed = mode === 'packed' || mode === 'arriving';
      const stored = (name: string): StoredRows | undefined =>
        packed ? slabRows(this.slab, name) : pool.fields.get(name);
      graph = new SparseGraph(this.device, {
        mode,
        masked,
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
