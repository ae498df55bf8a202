import { DeviceLimitError, DeviceLostError, OptionError, ShapeError } from '../errors.js';
import { allocate } from '../gpu/allocate.js';
import { roundUp } from '../gpu/buffers.js';
import { activationStride, type StoredDtype } from '../gpu/layout.js';
import { checkLost } from '../gpu/lost.js';
import { countAdded } from '../mask/diff.js';
import { Bitmask } from '../mask/index.js';
import { minimumWrites, type Transition } from '../plan/index.js';
import { DevicePool } from '../pool/device-pool.js';
import { Slab } from '../slab/slab.js';
import type { SlabOptions } from '../slab/slab-options.js';
import type { UpdateStats } from '../slab/update-stats.js';
import type { SlabDtype } from '../slab/slab-fields.js';
import { loadTuningOnce } from '../gpu/saved-tuning.js';
import { type Activation, type ActivationChoice, chooseActivation } from './activation.js';
import { SparseGraph, type SparseGraphRun } from './sparse-graph.js';
import { type Compute, checkCompute } from './compute.js';
import { choose, decide, type Explanation, type FixedStrategy, type StepShape } from './cost-model.js';
import { batchRoom } from './forward-buffers.js';
import type { StorageChoice } from '../gpu/storage.js';
import type { FusedUpdate } from './fused-update.js';
import { mlpFields, mlpRows, type SparseMLPWeights } from './mlp-fields.js';
import { MlpParts, type MlpShape } from './mlp-parts.js';
import { maskWords, type StepMask, type StepRows, stepRows } from './step-masks.js';
import { checkStrategy, type Strategy } from './strategy.js';
import type { RowsMode } from './kernels.js';
import { type StoredRows, slabRows } from './row-op.js';
import { canFuseUpdate, checkUpdateWay, type UpdateWay, updateWay } from './update-way.js';
import { BATCH_TILE } from './variants.js';

export type { SparseMLPWeights };

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
  /** What the layer's rows are read from; see `PoolOptions`. Default buffer. */
  storage?: StorageChoice;
  /**
   * Keep each row of gate, up and down in one piece, as the pool's one field `row`: copies into a slab by commands are half
   * as many then. All of a row must fit where gate and up had to, and fused updates cannot be. Default false.
   */
  wholeRows?: boolean;
  /** Slots of the slab that `repack` and `paired` use. Default N. */
  capacity?: number;
  /** What the slab's matrices are converted to as they are copied. Default: as the pool has them. */
  slabDtype?: SlabDtype;
  slab?: Omit<SlabOptions, 'capacity' | 'dtype'>;
  /** Steps that may be encoded before one submit. Default 4. */
  pendingUpdates?: number;
  /** `fusedUpdate` of `pairslab/kernels`: steps may then update their slab by `fused`, and do where it is faster. */
  fused?: FusedUpdate;
  maxShardBytes?: number;
  label?: string;
  /** Keep the arrays that the weights are given as, so that `rebuild` can upload them again; see `PoolOptions`. */
  keepSource?: boolean;
  /** Gives the weights again when the layer is rebuilt. Without it or `keepSource` nothing of them is kept on the host. */
  source?: () => SparseMLPWeights | Promise<SparseMLPWeights>;
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

const PACKED_MODES: readonly RowsMode[] = ['packed', 'arriving'];

/** The layer that ran last on a device: only what that one read can be in a cache still. */
const ranLast = new WeakMap<GPUDevice, SparseMLP>();

/**
 * A sparse MLP whose mask comes from outside: y = down · (act(gate · x) · (up · x)) over the rows of a mask, by any
 * strategy, all of which give the same result.
 */
export class SparseMLP {
  readonly pool: DevicePool;
  readonly hidden: number;
  readonly gated: boolean;
  /** Row stride of x in values: hidden rounded up to 32, the rest zero (or any finite values). */
  readonly inputStride: number;
  private readonly activation: ActivationChoice;
  private readonly compute: Compute;
  private readonly options: Omit<SparseMLPOptions, 'source'>;
  private readonly shape: MlpShape;
  private parts: MlpParts;
  private readonly all: Bitmask;
  /** The rows of the last step. */
  private readonly last: Bitmask;
  private packed?: Slab;

  /**
   * Checks shapes, then uploads. @throws ShapeError, OptionError, DeviceLimitError, and AdapterError for compute
   * f16 on a device without `shader-f16`; nothing stays allocated then.
   */
  static async create(device: GPUDevice, weights: SparseMLPWeights & SparseMLPOptions): Promise<SparseMLP> {
    await loadTuningOnce(device);
    return allocate(device, () => new SparseMLP(device, weights, weights), weights.label ?? 'mlp');
  }

  private constructor(device: GPUDevice, weights: SparseMLPWeights, options: SparseMLPOptions) {
    const { hidden, gate, downBias } = weights;
    this.activation = chooseActivation(options.activation ?? 'silu');
    if (!Number.isInteger(hidden) || hidden < 1) {
      throw new ShapeError(`hidden must be 1 or more; it is ${hidden}.`, { hidden });
    }
    if (downBias && downBias.length !== hidden) {
      throw new ShapeError(`downBias has ${downBias.length} values; hidden is ${hidden}.`, { hidden });
    }
    const { dtype, compute = 'f32', slabDtype, storage, maxShardBytes, label = 'mlp' } = options;
    const { keepSource, source, wholeRows = false } = options;
    this.compute = checkCompute(compute, dtype ?? 'f32', device);
    // Else the packed strategies would multiply in f32, and the others not.
    if (slabDtype) checkCompute(compute, slabDtype);
    this.hidden = hidden;
    this.gated = gate !== undefined;
    this.inputStride = activationStride(hidden);
    const { capacity, slab, pendingUpdates, fused } = options;
    // Options and weights may be one object: what is kept must not keep the weights.
    this.options = { capacity, slab, slabDtype, pendingUpdates, label, fused };
    this.pool = DevicePool.from(device, mlpFields(weights, label, wholeRows), {
      dtype,
      storage,
      maxShardBytes,
      label,
      keepSource,
      source: source && (async () => mlpFields(await source(), label, wholeRows)),
    });
    const { rows } = this.pool;
    this.all = Bitmask.full(rows);
    this.last = Bitmask.empty(rows);
    const { inputStride } = this;
    const bias = downBias && Float32Array.from(downBias);
    this.shape = { rows, hidden, inputStride, pending: pendingUpdates ?? 4, downBias: bias };
    try {
      this.parts = new MlpParts(device, this.shape);
    } catch (error) {
      this.pool.destroy();
      throw error;
    }
  }

  get device(): GPUDevice {
    return this.parts.device;
  }

  /**
   * Brings the layer to `device`: its weights are uploaded again, from the arrays that it was asked to keep or what its
   * `source` gives, and the slab that it had holds the same rows. `downBias` is kept always.
   * @throws OptionError when it was made with neither; what `create` throws, AdapterError for compute f16 on a device
   * without `shader-f16`. `rebuild` can then be called again.
   */
  async rebuild(device: GPUDevice): Promise<void> {
    if (this.compute === 'f16') checkCompute('f16', 'f16', device);
    await this.pool.rebuild(device);
    await this.packed?.rebuild(device);
    const parts = await allocate(device, () => new MlpParts(device, this.shape), this.options.label);
    this.parts.destroy();
    this.parts = parts;
  }

  /** The slab that `repack` and `paired` keep; made on first use. */
  get slab(): Slab {
    if (this.packed) return this.packed;
    const { capacity, slab, slabDtype, pendingUpdates, label = 'mlp' } = this.options;
    // Biases stay f32, whatever the matrices become.
    const names = [...this.pool.fields.keys()].filter((name) => name !== 'bias');
    const dtype = slabDtype && Object.fromEntries(names.map((name) => [name, slabDtype]));
    this.packed = new Slab(this.pool, { pendingUpdates, label: `${label} slab`, ...slab, capacity, dtype });
    return this.packed;
  }

  /** GPU bytes held: pool, slab, scratch, and what `forward` keeps. */
  get bytes(): number {
    return this.pool.bytes + (this.packed?.bytes ?? 0) + this.parts.bytes;
  }

  /**
   * y = mlp(x) for x of [batch, hidden] values, in one submit and one readback. Calls may run at once; the buffers they
   * use are kept for later ones.
   * @throws ShapeError when x is not whole rows; what `encode` throws; DeviceLimitError when the device has not the memory
   * that this kind of step needs; DeviceLostError. The slab's mask is then as it was.
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
    const { packed, parts } = this;
    const before = packed?.version;
    const slabBytes = packed?.bytes;
    const undo = parts.mark();
    let after: number | undefined;
    try {
      return await parts.forwards.run(
        x,
        batch,
        (pass, xBuffer, y) => {
          this.encode(pass, { ...step, x: xBuffer, y, batch });
        },
        () => {
          this.submitted();
          after = packed?.version;
        },
      );
    } catch (error) {
      if (!(error instanceof DeviceLostError || error instanceof DeviceLimitError)) throw error;
      // The step came to nothing. Where another one built on what it changed, no row can be relied on; and what the slab made
      // for it may be no buffer at all.
      const now = packed?.version;
      if (!packed || packed.bytes !== slabBytes) this.dropSlab();
      else if (!packed.onDevice && (after ?? now) !== before) {
        if (now === (after ?? now)) packed.takeBack();
        else packed.restore([]);
      }
      undo();
      throw error;
    }
  }

  /**
   * Records one step into `pass`; the caller submits it and then calls `submitted()`.
   * @returns what the slab did, for `repack` and `paired`.
   * @throws ShapeError for a mask of other than N rows or buffers too small; CapacityError; OptionError. Nothing is
   * recorded or changed then.
   */
  encode(pass: GPUComputePassEncoder, step: EncodeStep): UpdateStats | null {
    checkLost(this.device);
    const { x, y, batch = 1 } = step;
    const asked = checkStrategy(step.strategy ?? 'auto');
    const update = step.update && checkUpdateWay(step.update, this.options.fused);
    this.checkBuffers(x, y, batch);
    const rows = stepRows(step.mask, batch, this.all);
    const { union, each } = rows;
    const choice: Choice = asked === 'auto' ? this.choose(rows, batch, step.reuse) : { strategy: asked };
    const { strategy } = choice;
    const run = { step: this.parts.stepBuffer(batch), x, y, batch };
    if (strategy === 'dense') {
      // One mask for all is read here too: the rows it leaves out are computed and set to zero.
      const masks = each
        ? this.parts.masks.write(rows)
        : step.mask && this.parts.regions.write(maskWords(rows));
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
      const masks = each && this.parts.masks.write(rows);
      const graph = this.graph('indexed', masks !== undefined, batch);
      graph.encode(pass, { ...run, count: ids.length, list: this.parts.regions.write(list), masks });
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
    const fusible = this.options.fused && run.batch === 1 && !each && canFuseUpdate(slab);
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
    }
    // What can be refused comes before the slab changes.
    if (each) this.parts.masks.check(rows);
    const stats = slab.encodeUpdate(pass, union, { strategy }, known);
    const masks = each && this.parts.masks.write(rows);
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
    const [{ dtype }] = this.pool.fields.values();
    return dtype;
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
      storage: pool.storage,
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
    this.parts.submitted();
    this.packed?.submitted();
  }

  destroy(): void {
    this.parts.destroy();
    this.packed?.destroy();
    this.pool.destroy();
  }

  /** The slab is made on first use, so a step that came to nothing may have been the first. */
  private dropSlab(): void {
    this.packed?.destroy();
    this.packed = undefined;
    this.parts.dropGraphs((key) => PACKED_MODES.some((mode) => key.startsWith(mode)));
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

  /** Graphs are made per way of reaching rows, with masks or without, and per power of two of the batch. */
  private graph(mode: RowsMode, masked: boolean, batch: number): SparseGraph {
    const maxBatch = batchRoom(batch);
    const key = `${mode} ${masked} ${maxBatch}`;
    const { graphs, downBias } = this.parts;
    let graph = graphs.get(key);
    if (!graph) {
      const { pool, hidden, inputStride, gated, activation, compute } = this;
      const { fused } = this.options;
      const packed = PACKED_MODES.includes(mode);
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
        ...mlpRows(stored, gated),
        arriving:
          mode === 'arriving' && fused
            ? { first: pool.field('gateUp'), down: pool.field('down'), tables: fused }
            : undefined,
        capacity: packed ? this.slab.capacity : pool.rows,
      });
      graphs.set(key, graph);
    }
    return graph;
  }
}
