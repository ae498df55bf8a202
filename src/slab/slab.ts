import { OptionError } from '../errors.js';
import { BufferGroup, checkBindingSize } from '../gpu/buffers.js';
import type { Region } from '../gpu/regions.js';
import { isQuantized, rowBytes, type StoredDtype, valueBytes, valueVectors } from '../gpu/layout.js';
import { Bitmask } from '../mask/index.js';
import {
  type HybridOptions,
  hybridPlan,
  MOVE_FROM_SLAB,
  type Plan,
  repackPlan,
  SlotMap,
  type Transition,
  transition,
} from '../plan/index.js';
import type { DevicePool, Field } from '../pool/device-pool.js';
import { settings } from '../settings.js';
import { type CopyTuning, SlabCopier, type SlabField } from './copier.js';
import { measuredTau } from './tau.js';

/** What a slab can convert its rows to on the way in. */
export type SlabDtype = 'f32' | 'f16';

export interface SlabOptions extends CopyTuning {
  /** C, the slots. Default: all rows of the pool. */
  capacity?: number;
  /**
   * What rows are converted to as they are copied, for all fields or by name. A field that is not named, or that the
   * pool stores as this already, is copied as it is. Narrowing to f16 rounds to one of the two nearest halves, and what
   * exceeds f16 (65,504) has no defined value there.
   */
  dtype?: SlabDtype | Readonly<Record<string, SlabDtype>>;
  /** How many updates may be encoded before one submit. Default 4. */
  pendingUpdates?: number;
  label?: string;
}

/** What an update did. Bytes count what is written to the slab; as many are read where nothing is converted. */
export interface UpdateStats {
  readonly kind: 'paired' | 'repack' | 'none' | 'deferred';
  readonly added: number;
  readonly removed: number;
  /** Active rows after the update, m'. */
  readonly active: number;
  /** Rows written. */
  readonly writes: number;
  /** The fewest rows that could have been written. */
  readonly minimum: number;
  readonly bytes: number;
  readonly minimumBytes: number;
  /** Set when the change was put off: the slab still holds the old mask. */
  readonly deferred: { readonly added: Uint32Array; readonly removed: Uint32Array } | null;
}

export interface UpdateOptions extends HybridOptions {
  /** `paired` (the default) follows the hybrid rule; `repack` gathers every active row again. */
  strategy?: 'paired' | 'repack';
  /** For `repack`: the id list is sent (`ids`, default) or made on the device from the mask (`mask`). */
  repackBy?: 'ids' | 'mask';
}

/** A zero-copy look at one field of a slab: rows [0, m), each `rowStride` values after the last. */
export interface SlabView {
  readonly buffer: GPUBuffer;
  readonly offset: 0;
  readonly dtype: Exclude<StoredDtype, 'q8' | 'q4'>;
  /** [m, columns]; for several parts the sum of their columns. */
  readonly shape: readonly [number, number];
  /** Values from one row to the next; equal to the columns when nothing is padded. */
  readonly rowStride: number;
  /** First value and columns of each part within a row. */
  readonly parts: readonly { readonly start: number; readonly cols: number }[];
  /** Slot → row id of the rows in view, on the device: [m, 0, 0, 0, ids …] as u32. */
  readonly rowList: GPUBuffer;
}

/** [m, hidden]: row s is column `row(s)` of the model's [hidden, N] down matrix, so this is its active part transposed. */
export interface ActiveDownView extends SlabView {
  readonly transposeOf: readonly [number, number];
}

/**
 * C slots on the device that hold the active rows of a pool, packed in slots [0, m), one contiguous buffer a field.
 * `update` writes only what changed. State (slots, mask) moves with the work: a refused update changes nothing.
 */
export class Slab {
  readonly pool: DevicePool;
  readonly capacity: number;
  readonly label: string;
  /** Slot → row id on the device: [m, 0, 0, 0, ids …]. */
  readonly rowList: GPUBuffer;
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  /** How the rows of each field stand in the slab. */
  readonly fields: ReadonlyMap<string, SlabField>;
  private readonly slots: SlotMap;
  /** The hybrid plan's, where an update gives none. */
  private readonly tau: number;
  private readonly converts: boolean;
  private readonly memory: BufferGroup;
  private readonly copier: SlabCopier;

  /**
   * @throws OptionError for a capacity outside 1..N, a knob out of range, or a dtype that rows cannot be converted to;
   * DeviceLimitError when a field does not fit in one binding. Nothing stays allocated then.
   */
  constructor(pool: DevicePool, options: SlabOptions = {}) {
    const { device } = pool;
    this.pool = pool;
    this.label = options.label ?? 'slab';
    this.slots = new SlotMap(pool.rows, options.capacity ?? pool.rows);
    this.capacity = this.slots.capacity;
    this.fields = slabFields(pool, options.dtype);
    this.converts = [...this.fields.values()].some(({ name, dtype }) => dtype !== pool.field(name).dtype);
    const [first] = this.fields.values();
    this.tau =
      settings().hybridTau ?? measuredTau(device, first.dtype, { rowBytes: this.rowBytes, rows: pool.rows });
    for (const field of this.fields.values()) {
      checkBindingSize(device, `${this.label} ${field.name}`, this.capacity * field.rowBytes);
    }
    this.memory = new BufferGroup(device);
    try {
      this.rowList = this.memory.storage(`${this.label} rows`, 16 + 4 * this.capacity);
      const buffers = new Map<string, GPUBuffer>();
      for (const { name, rowBytes } of this.fields.values()) {
        buffers.set(name, this.memory.storage(`${this.label} ${name}`, this.capacity * rowBytes));
      }
      this.buffers = buffers;
      this.copier = new SlabCopier(
        pool,
        this.fields,
        buffers,
        this.rowList,
        this.capacity,
        this.memory,
        options,
      );
    } catch (error) {
      this.memory.destroy();
      throw error;
    }
  }

  /** m, the active rows. */
  get active(): number {
    return this.slots.active;
  }

  /** The mask that the slab holds, as a copy. */
  mask(): Bitmask {
    return this.slots.mask();
  }

  /** Row ids by slot, [m]. */
  rowIds(): Uint32Array {
    return this.slots.slots();
  }

  /** Bytes of one row in the slab, all fields together. */
  get rowBytes(): number {
    let sum = 0;
    for (const field of this.fields.values()) sum += field.rowBytes;
    return sum;
  }

  /**
   * What an update to `mask` changes, for `encodeUpdate` to take up (`minimumWrites` of it is how many rows a paired one
   * writes); null when its rows do not fit. @throws ShapeError
   */
  changeTo(mask: Bitmask): Transition | null {
    return mask.count() > this.capacity ? null : transition(this.slots, mask);
  }

  /** GPU bytes that the slab owns. */
  get bytes(): number {
    return this.memory.bytes;
  }

  /** Makes the slab hold `mask`, in one submit. See `encodeUpdate`. */
  update(mask: Bitmask, options: UpdateOptions = {}): UpdateStats {
    const { device } = this.pool;
    const encoder = device.createCommandEncoder({ label: `pairslab ${this.label} update` });
    if (this.copiesBuffers(options)) {
      const stats = this.encodeUpdateByCopies(encoder, mask);
      if (stats.kind !== 'none') device.queue.submit([encoder.finish()]);
      this.submitted();
      return stats;
    }
    const pass = encoder.beginComputePass({ label: `pairslab ${this.label} update` });
    const stats = this.encodeUpdate(pass, mask, options);
    pass.end();
    if (stats.kind !== 'none' && stats.kind !== 'deferred') device.queue.submit([encoder.finish()]);
    this.submitted();
    return stats;
  }

  /**
   * Records the update into `pass` and commits it: the caller must submit the pass, before anything later of this slab.
   * At most `pendingUpdates` may be recorded before `submitted()` is called.
   * @param known What `changeTo(mask)` gave since the last update, where that was asked for.
   * @throws CapacityError naming the rows that do not fit; ShapeError when the mask is not over N rows; OptionError;
   * StalePlanError when there was an update since `known`. Nothing is recorded or changed then.
   */
  encodeUpdate(
    pass: GPUComputePassEncoder,
    mask: Bitmask,
    options: UpdateOptions = {},
    known?: Transition,
  ): UpdateStats {
    const { repackBy = 'ids' } = options;
    const plan = this.plan(mask, options, known);
    if (repackBy !== 'ids' && repackBy !== 'mask') {
      throw new OptionError(`repackBy "${String(repackBy)}" is unknown; use ids or mask.`, { repackBy });
    }
    const stats = this.describe(plan);
    if (stats.kind === 'none' || stats.kind === 'deferred') return stats;
    if (plan.kind === 'repack' && repackBy === 'mask') this.copier.encodeMask(pass, mask.words, plan.active);
    else if (plan.kind === 'repack') this.copier.encodeIds(pass, mask.ids());
    else this.copier.encodeMoves(pass, plan.moves, plan.active);
    this.slots.commit(plan);
    return stats;
  }

  /**
   * As `encodeUpdate`, for kernels that bring in the rows themselves while they use them. `record` gets the arrivals as
   * lib/rows_arriving.wgsl reads them, and must record work that writes every field and the row list. It is not
   * called where nothing is written (`none`, `deferred`). Nothing is changed when it throws.
   */
  encodeArrivals(
    mask: Bitmask,
    options: Omit<UpdateOptions, 'repackBy'>,
    record: (arrivals: Region, active: number) => void,
    known?: Transition,
  ): UpdateStats {
    const plan = this.plan(mask, options, known);
    const stats = this.describe(plan);
    if (stats.kind === 'none' || stats.kind === 'deferred') return stats;
    record(this.copier.writeArrivals(plan.moves, plan.active), plan.active);
    this.slots.commit(plan);
    return stats;
  }

  /**
   * The tight update (or a repack) by one copyBufferToBuffer a field and run of neighbouring rows, outside a pass: the arm that needs
   * no kernel.
   * Rows that move within the slab go through a bounce buffer, since source and destination must differ.
   * @throws OptionError where rows are converted, which such a copy cannot do; CapacityError; ShapeError. Nothing is
   * recorded or changed then.
   */
  encodeUpdateByCopies(
    encoder: GPUCommandEncoder,
    mask: Bitmask,
    { strategy = 'paired' }: Pick<UpdateOptions, 'strategy'> = {},
  ): UpdateStats {
    for (const { name, dtype } of this.fields.values()) {
      const stored = this.pool.field(name).dtype;
      if (dtype !== stored) {
        throw new OptionError(
          `${this.label} keeps ${name} as ${dtype}, its pool as ${stored}: a buffer copy cannot convert; use encodeUpdate.`,
          { name, dtype, stored },
        );
      }
    }
    const plan =
      strategy === 'repack' ? repackPlan(this.slots, mask) : hybridPlan(this.slots, mask, { tau: 1 });
    const stats = this.describe(plan);
    if (stats.kind === 'none') return stats;
    const rows = new Uint32Array(plan.active);
    rows.set(this.slots.slots().subarray(0, plan.active));
    for (let i = 0; i < plan.moves.length; i += 2) {
      const source = plan.moves[i + 1];
      rows[plan.moves[i]] = source >= MOVE_FROM_SLAB ? this.slots.rowAt(source - MOVE_FROM_SLAB) : source;
    }
    this.copier.encodeCopies(encoder, plan.moves, rows);
    this.slots.commit(plan);
    return stats;
  }

  /** Packs the rows of `ids`, in ascending order: `index_select` on the device. @throws RowError for ids out of range or given twice. */
  repackByIds(ids: ArrayLike<number>): UpdateStats {
    return this.update(Bitmask.fromIds(ids, this.pool.rows), { strategy: 'repack', repackBy: 'ids' });
  }

  /** Packs the rows of `mask`; the id list is made on the device. */
  repackByMask(mask: Bitmask): UpdateStats {
    return this.update(mask, { strategy: 'repack', repackBy: 'mask' });
  }

  /** Tells the slab that what was encoded has been submitted. `update` does so itself. */
  submitted(): void {
    this.copier.submitted();
  }

  /** @throws OptionError when there is no such field, or its rows are q8 or q4 in the slab: values with scales between. */
  view(name: string): SlabView {
    this.pool.field(name);
    const field = this.fields.get(name) as SlabField;
    const { dtype } = field;
    if (isQuantized(dtype)) {
      throw new OptionError(
        `${name} is ${dtype} in ${this.label}: its rows have scales among them and no stride in values. ` +
          "Make the slab with dtype 'f16' or 'f32' for a view, or read `buffers` as gpu/layout.ts describes them.",
        { name, dtype },
      );
    }
    const size = valueBytes(dtype);
    let start = 0;
    const parts = field.parts.map((cols) => {
      const part = { start, cols };
      start += (valueVectors(cols, dtype) * 16) / size;
      return part;
    });
    return {
      buffer: this.buffers.get(name) as GPUBuffer,
      offset: 0,
      dtype,
      shape: [this.active, field.parts.reduce((a, b) => a + b, 0)],
      rowStride: field.rowBytes / size,
      parts,
      rowList: this.rowList,
    };
  }

  /** The `gateUp` field: [m, 2 · hidden] of a gated layer, [gate | up] in each row. */
  concatWeight(): SlabView {
    return this.view('gateUp');
  }

  /** The `down` field: [m, hidden], the transpose of the active columns of down. */
  activeDown(): ActiveDownView {
    const view = this.view('down');
    return { ...view, transposeOf: [view.shape[1], view.shape[0]] };
  }

  destroy(): void {
    this.memory.destroy();
  }

  /** Whether a plain paired update is fastest by buffer copies here, as tuning found, and can be done so. */
  private copiesBuffers({
    strategy = 'paired',
    tau = this.tau,
    rule = 'writes',
    deferBelow = 0,
  }: UpdateOptions) {
    if (this.copier.variant.arm !== 'copies' || strategy !== 'paired') return false;
    return tau === 1 && rule === 'writes' && deferBelow === 0 && !this.converts;
  }

  private plan(mask: Bitmask, options: UpdateOptions, known?: Transition): Plan {
    const { strategy = 'paired' } = options;
    if (strategy === 'repack') return repackPlan(this.slots, mask, known);
    if (strategy === 'paired')
      return hybridPlan(this.slots, mask, { ...options, tau: options.tau ?? this.tau }, known);
    throw new OptionError(`update strategy "${strategy}" is unknown; use paired or repack.`, { strategy });
  }

  private describe(plan: Plan): UpdateStats {
    const { rowBytes } = this;
    const unchanged = plan.added.length + plan.removed.length === 0 && plan.kind !== 'repack';
    return {
      kind: plan.deferred ? 'deferred' : unchanged ? 'none' : plan.kind === 'repack' ? 'repack' : 'paired',
      added: plan.added.length,
      removed: plan.removed.length,
      active: plan.active,
      writes: plan.writes,
      minimum: plan.minimum,
      bytes: plan.writes * rowBytes,
      minimumBytes: plan.minimum * rowBytes,
      deferred: plan.deferred,
    };
  }
}

/** The pool's fields as a slab of these dtypes keeps them. @throws OptionError for a dtype that rows cannot be converted to. */
function slabFields(pool: DevicePool, wanted: SlabOptions['dtype']): Map<string, SlabField> {
  for (const name of typeof wanted === 'object' ? Object.keys(wanted) : []) pool.field(name);
  const of = ({ name, dtype, parts, rowBytes: poolBytes }: Field): SlabField => {
    const chosen =
      typeof wanted === 'object' ? (Object.hasOwn(wanted, name) ? wanted[name] : undefined) : wanted;
    if (chosen === undefined || (chosen as StoredDtype) === dtype)
      return { name, dtype, parts, rowBytes: poolBytes };
    if (chosen !== 'f32' && chosen !== 'f16') {
      throw new OptionError(
        `a slab cannot convert ${name} to "${String(chosen)}"; use f32 or f16, or leave it as the pool has it (${dtype}).`,
        { name, dtype: chosen },
      );
    }
    const bytes = parts.reduce((sum, cols) => sum + rowBytes(cols, chosen), 0);
    return { name, dtype: chosen, parts, rowBytes: bytes };
  };
  return new Map([...pool.fields.values()].map((field) => [field.name, of(field)]));
}
