import { OnDeviceError, OptionError } from '../errors.js';
import { allocate } from '../gpu/allocate.js';
import { checkLost, isLost } from '../gpu/lost.js';
import type { Region } from '../gpu/regions.js';
import { Bitmask } from '../mask/index.js';
import {
  hybridPlan,
  type Plan,
  repackPlan,
  SlotMap,
  StalePlanError,
  type Transition,
  transition,
} from '../plan/index.js';
import { DevicePool } from '../pool/device-pool.js';
import type { OffDevicePool, ReadOptions } from '../pool/pool.js';
import { settings } from '../settings.js';
import { rowsAfter, type SlabCopier, type SlabField } from './copier.js';
import { checkPlainCopy, slabFields } from './slab-fields.js';
import type { SlabOptions, UpdateOptions } from './slab-options.js';
import { SlabParts, slabDevice } from './slab-parts.js';
import { measuredTau } from './tau.js';
import { describe, moves, type UpdateStats } from './update-stats.js';
import type { UploadRing } from './upload-ring.js';
import { type ActiveDownView, type SlabView, viewOf } from './view.js';

/** An update that is worked out and not done. */
export interface PlannedUpdate {
  readonly plan: Plan;
  readonly stats: UpdateStats;
}

/**
 * C slots on the device that hold the active rows of a pool, packed in slots [0, m), one contiguous buffer a field.
 * `update` writes only what changed. State (slots, mask) moves with the work: a refused update changes nothing.
 */
export class Slab {
  readonly pool: DevicePool | OffDevicePool;
  readonly capacity: number;
  readonly label: string;
  /** How the rows of each field stand in the slab. */
  readonly fields: ReadonlyMap<string, SlabField>;
  private readonly slots: SlotMap;
  /** The slot map is on the device, and `slots` is as it was when it went there. */
  private away = false;
  /** The hybrid plan's, where an update gives none. */
  private readonly tau: number;
  private readonly converts: boolean;
  private readonly options: SlabOptions;
  private parts: SlabParts;
  /** The last `load`, whatever becomes of it. */
  private loads: Promise<unknown> = Promise.resolve();
  private destroyed = false;

  /**
   * @throws OptionError for a capacity outside 1..N, a knob out of range, a dtype that rows cannot be converted to, a
   * ring that cannot hold a row, or none for a pool that is not on a device; DeviceLimitError when a field does not fit in
   * one binding. Nothing stays allocated then.
   */
  constructor(pool: DevicePool | OffDevicePool, options: SlabOptions = {}) {
    const device = slabDevice(pool, options);
    this.pool = pool;
    this.options = options;
    this.label = options.label ?? 'slab';
    this.slots = new SlotMap(pool.rows, options.capacity ?? pool.rows);
    this.capacity = this.slots.capacity;
    this.fields = slabFields(pool, options.dtype);
    this.converts = [...this.fields.values()].some(({ name, dtype }) => dtype !== pool.field(name).dtype);
    const [first] = this.fields.values();
    // Where every row written is a row uploaded, repacking never pays.
    this.tau =
      settings().hybridTau ??
      (pool instanceof DevicePool
        ? measuredTau(device, first.dtype, {
            rowBytes: this.rowBytes,
            rows: pool.rows,
            storage: pool.storage,
          })
        : 1);
    this.parts = this.makeParts(device);
  }

  get device(): GPUDevice {
    return this.parts.device;
  }

  /** Slot → row id on the device: [m, 0, 0, 0, ids …]. Another buffer after `rebuild`, as are those of `buffers`. */
  get rowList(): GPUBuffer {
    return this.parts.rowList;
  }

  /** [C, field.rowBytes] each. */
  get buffers(): ReadonlyMap<string, GPUBuffer> {
    return this.parts.buffers;
  }

  /** m, the active rows. */
  get active(): number {
    return this.map.active;
  }

  /** The mask that the slab holds, as a copy. */
  mask(): Bitmask {
    return this.map.mask();
  }

  /** Names this state of rows and slots; no other has it. */
  get version(): number {
    return this.slots.version;
  }

  /** Row ids by slot, [m]. */
  rowIds(): Uint32Array {
    return this.map.slots();
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
    return mask.count() > this.capacity ? null : transition(this.map, mask);
  }

  /** Through which rows reach the slab that are not on the device. */
  get ring(): UploadRing | undefined {
    return this.parts.far && this.options.ring;
  }

  /** GPU bytes that the slab owns. */
  get bytes(): number {
    return this.parts.bytes;
  }

  /**
   * Makes the slab hold `mask`: in one submit, or one for each ring of rows from host memory; see `encodeUpdate`.
   * @throws what that throws; DeviceLostError once the loss is reported. A device that is lost unnoticed takes the update:
   * the slab then has its mask, and `rebuild` writes its rows.
   */
  update(mask: Bitmask, options: UpdateOptions = {}): UpdateStats {
    const { device } = this;
    const { far } = this.parts;
    if (far) {
      far.checkInMemory();
      const { plan, stats } = this.planFor(mask, options);
      if (!moves(stats)) return stats;
      far.submit(plan);
      this.map.commit(plan);
      return stats;
    }
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
    if (moves(stats)) device.queue.submit([encoder.finish()]);
    this.submitted();
    return stats;
  }

  /**
   * As `update`, for pools of every home: reads the rows that arrive, and only when all of them are there uploads them,
   * copies them into their slots and commits. A read that fails leaves slab, slots and mask as they were. Calls take
   * turns, in order; each starts from what the one before it left.
   * @throws what `update` and the pool's `read` throw; the signal's reason; StalePlanError when `update` changed the
   * slab in the meantime.
   */
  load(mask: Bitmask, options: UpdateOptions & ReadOptions = {}): Promise<UpdateStats> {
    const turn = this.loads.then(() => this.loadNow(mask, options));
    this.loads = turn.catch(() => {});
    return turn;
  }

  /**
   * Records the update into `pass` and commits it: the caller must submit the pass, before anything later of this slab.
   * At most `pendingUpdates` may be recorded before `submitted()` is called.
   * @param known What `changeTo(mask)` gave since the last update, where that was asked for.
   * @throws CapacityError naming the rows that do not fit; ShapeError when the mask is not over N rows; OptionError,
   * also for rows that are not in memory or do not fit the upload ring; StalePlanError when there was an update since
   * `known`. Nothing is recorded or changed then.
   */
  encodeUpdate(
    pass: GPUComputePassEncoder,
    mask: Bitmask,
    options: UpdateOptions = {},
    known?: Transition,
  ): UpdateStats {
    this.checkInMemory();
    return this.encodePlan(pass, this.planFor(mask, options, known), mask, options);
  }

  /** For `updateMany`: records what `planFor` gave, and commits it. */
  encodePlan(
    pass: GPUComputePassEncoder,
    { plan, stats }: PlannedUpdate,
    mask: Bitmask,
    { repackBy }: UpdateOptions,
  ): UpdateStats {
    const { copier, far } = this.parts;
    if (!moves(stats)) return stats;
    far?.encode(pass, plan);
    if (copier) {
      if (plan.kind !== 'repack') copier.encodeMoves(pass, plan.moves, plan.active);
      else if (repackBy === 'mask') copier.encodeMask(pass, mask.words, plan.active);
      else copier.encodeIds(pass, mask.ids());
    }
    this.map.commit(plan);
    return stats;
  }

  /**
   * As `encodeUpdate`, for kernels that bring in the rows themselves while they use them. `record` gets the arrivals as
   * lib/rows_arriving.wgsl reads them, and must record work that writes every field and the row list. It is not
   * called where nothing is written (`none`, `deferred`). Nothing is changed when it throws.
   * @throws what `encodeUpdate` throws; OptionError for a pool that is not on the device.
   */
  encodeArrivals(
    mask: Bitmask,
    options: Omit<UpdateOptions, 'repackBy'>,
    record: (arrivals: Region, active: number) => void,
    known?: Transition,
  ): UpdateStats {
    const copier = this.deviceCopier();
    const { plan, stats } = this.planFor(mask, options, known);
    if (!moves(stats)) return stats;
    record(copier.writeArrivals(plan.moves, plan.active), plan.active);
    this.map.commit(plan);
    return stats;
  }

  /**
   * The tight update (or a repack) by one copyBufferToBuffer a field and run of neighbouring rows, outside a pass: the arm
   * that needs no kernel. Rows that move within the slab go through a bounce buffer: source and destination must differ.
   * @throws OptionError where rows are converted or come from elsewhere than the device, which such a copy cannot do;
   * CapacityError; ShapeError. Nothing is recorded or changed then.
   */
  encodeUpdateByCopies(
    encoder: GPUCommandEncoder,
    mask: Bitmask,
    { strategy = 'paired' }: Pick<UpdateOptions, 'strategy'> = {},
  ): UpdateStats {
    const copier = this.deviceCopier();
    checkLost(this.device);
    checkPlainCopy(this.label, this.pool, this.fields);
    const plan = strategy === 'repack' ? repackPlan(this.map, mask) : hybridPlan(this.map, mask, { tau: 1 });
    const stats = describe(plan, this.rowBytes);
    if (stats.kind === 'none') return stats;
    copier.encodeCopies(encoder, plan.moves, rowsAfter(this.map, plan));
    this.map.commit(plan);
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
    this.parts.submitted();
  }

  /**
   * Makes the slab anew on `device`, where its pool must be already: the same mask, in the same slots, its rows written
   * again. A ring whose device was lost comes along. Of a slab that was planned on the device, the mask is the one that
   * the host knew last.
   * @throws OptionError when pool or ring are on another device; what the constructor and the pool's `read` throw. The
   * slab is then as it was.
   */
  rebuild(device: GPUDevice): Promise<void> {
    const turn = this.loads.then(() => this.rebuildNow(device));
    this.loads = turn.catch(() => {});
    return turn;
  }

  /** @throws OptionError when there is no such field, or its rows are q8 or q4 in the slab: values with scales between. */
  view(name: string): SlabView {
    this.pool.field(name);
    const field = this.fields.get(name) as SlabField;
    return viewOf(this.label, field, this.buffers.get(name) as GPUBuffer, this.active, this.rowList);
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

  /**
   * From now on the slot map is on the device, and whoever asks for it here gets an OnDeviceError until `restore`. For
   * `DevicePlanner`.
   */
  leave(): void {
    this.away = true;
  }

  /** Records moves that were planned on the device and stand in `moves` as copy_rows reads them. For `DevicePlanner`. */
  encodePlanned(pass: GPUComputePassEncoder, moves: Region): void {
    this.deviceCopier().encodePlanned(pass, moves);
  }

  /** Takes over the slot map as the device has it: slot s holds rows[s]. @throws as `SlotMap.restore`. */
  restore(rows: ArrayLike<number>): void {
    this.slots.restore(rows);
    this.away = false;
  }

  /** Takes back the last update, whose work came to nothing on the device: mask and slots are as they were before it. */
  takeBack(): void {
    this.map.takeBack();
  }

  /** Whether the slot map is on the device. */
  get onDevice(): boolean {
    return this.away;
  }

  destroy(): void {
    this.destroyed = true;
    this.parts.destroy();
  }

  private async rebuildNow(device: GPUDevice): Promise<void> {
    const { pool, slots, options, label } = this;
    const { ring } = options;
    if (ring && ring.device !== device && isLost(ring.device)) ring.rebuild(device);
    for (const one of [pool, ring])
      if (one && 'device' in one && one.device !== device)
        throw new OptionError(`rebuild ${one.label} on the device before ${label}, which needs it there.`);
    const { version } = slots;
    const parts = await allocate(device, () => this.makeParts(device), label);
    try {
      await parts.fill(slots.slots());
      this.checkVersion(version);
    } catch (error) {
      parts.destroy();
      throw error;
    }
    this.parts.destroy();
    this.parts = parts;
    this.away = false;
  }

  private makeParts(device: GPUDevice): SlabParts {
    return new SlabParts(device, this.pool, this.fields, this.capacity, this.label, this.options);
  }

  private get map(): SlotMap {
    if (this.away) {
      throw new OnDeviceError(
        `${this.label} is planned on the device, and only there are its rows known: await sync() of its planner first.`,
      );
    }
    return this.slots;
  }

  /** What an update would do; nothing is changed yet. @throws what it would throw. */
  planFor(mask: Bitmask, options: UpdateOptions, known?: Transition): PlannedUpdate {
    checkLost(this.device);
    const { strategy = 'paired', repackBy = 'ids' } = options;
    if (strategy !== 'paired' && strategy !== 'repack')
      throw new OptionError(`update strategy "${strategy}" is unknown; use paired or repack.`, { strategy });
    if (repackBy !== 'ids' && repackBy !== 'mask') {
      throw new OptionError(`repackBy "${String(repackBy)}" is unknown; use ids or mask.`, { repackBy });
    }
    const slots = this.map;
    const plan =
      strategy === 'repack'
        ? repackPlan(slots, mask, known)
        : hybridPlan(slots, mask, { ...options, tau: options.tau ?? this.tau }, known);
    return { plan, stats: describe(plan, this.rowBytes) };
  }

  /** @throws OptionError for a pool that is not on the device. */
  private deviceCopier(): SlabCopier {
    if (this.parts.copier) return this.parts.copier;
    throw new OptionError(
      `${this.pool.label} is not on the device, where this reads rows: use update, encodeUpdate or load.`,
    );
  }

  /** @throws OptionError for rows that must be read first. */
  checkInMemory(): void {
    this.parts.far?.checkInMemory();
  }

  private async loadNow(mask: Bitmask, options: UpdateOptions & ReadOptions): Promise<UpdateStats> {
    const { far } = this.parts;
    if (!far) return this.update(mask, options);
    options.signal?.throwIfAborted();
    const { plan, stats } = this.planFor(mask, options);
    if (!moves(stats)) return stats;
    const submit = await far.read(plan, options);
    options.signal?.throwIfAborted();
    if (this.destroyed)
      throw new OptionError(`${this.label} was destroyed while its rows were on their way.`);
    this.checkVersion(plan.version);
    checkLost(this.device);
    submit();
    this.map.commit(plan);
    return stats;
  }

  private checkVersion(planned: number): void {
    const { version: current } = this.slots;
    if (planned === current) return;
    throw new StalePlanError(`${this.label} was updated while rows for it were on their way; try again.`, {
      planned,
      current,
    });
  }

  /** Whether an update is fastest by buffer copies here, as tuning found, and can be done so: a plain paired one. */
  copiesBuffers({ strategy = 'paired', tau = this.tau, rule = 'writes', deferBelow = 0 }: UpdateOptions) {
    if (this.parts.copier?.variant.arm !== 'copies' || strategy !== 'paired') return false;
    return tau === 1 && rule === 'writes' && deferBelow === 0 && !this.converts;
  }
}
