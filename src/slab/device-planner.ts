import { BufferGroup } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import { checkLost } from '../gpu/lost.js';
import { Readback } from '../gpu/readback.js';
import type { Region } from '../gpu/regions.js';
import { traitsOf } from '../gpu/traits.js';
import { Bitmask } from '../mask/index.js';
import { groupLanes, planMoves } from './select-kernels.js';
import type { Slab } from './slab.js';
import { tight, type UpdateStats } from './update-stats.js';

/** Words that an update leaves in `counts`: moves, active rows, added, removed, refused so far, rows then wanted, 0, 0. */
export const COUNT_WORDS = 8;

export interface DevicePlannerOptions {
  /** Where the updates leave their counts, from word `at` on: to share one buffer. Default: one of its own. */
  counts?: { readonly buffer: GPUBuffer; readonly at: number };
}

/** What an update did, of its words of `counts`. */
export interface DeviceUpdate {
  readonly update: UpdateStats;
  /** Updates that were refused, of all that came before and this one: more rows were wanted than the slab has slots. */
  readonly refused: number;
}

/** What `sync` brings back. */
export interface DeviceState {
  /** m, the rows in the slab. */
  readonly active: number;
  /** Updates since the last `sync` that did not fit. Slab and map stayed as they were before each of them. */
  readonly refused: number;
  /** The rows that the last update wanted, whether they fit or not: a refused step can be redone with them. */
  readonly wanted: Bitmask;
}

/** What a planner has on its slab's device. */
interface PlannerParts {
  readonly memory: BufferGroup;
  /** `[2 words]`: bits of the rows held, then of those wanted last. */
  readonly held: GPUBuffer;
  readonly moves: Region;
  readonly counts: { readonly buffer: GPUBuffer; readonly at: number };
  readonly params: GPUBuffer;
  readonly constants: Record<string, number>;
  readonly plans: Map<string, { kernel: Kernel; groups: WeakMap<GPUBuffer, GPUBindGroup> }>;
}

function makeParts(slab: Slab, given: DevicePlannerOptions['counts']): PlannerParts {
  const { device, label, capacity } = slab;
  const { rows } = slab.pool;
  const memory = new BufferGroup(device);
  try {
    const held = memory.storage(`${label} held`, Math.ceil(rows / 32) * 8);
    const size = 16 + 8 * capacity;
    const moves = { buffer: memory.storage(`${label} planned moves`, size), offset: 0, size };
    const counts = given ?? { buffer: memory.storage(`${label} counts`, COUNT_WORDS * 4), at: 0 };
    const params = memory.uniform('plan params', [rows, capacity, counts.at]);
    const constants = groupLanes(traitsOf(device), 128);
    return { memory, held, moves, counts, params, constants, plans: new Map() };
  } catch (error) {
    memory.destroy();
    throw error;
  }
}

/**
 * Plans a slab's updates on the device: which rows are wanted is known there alone, and so is which row is in which slot.
 * The moves are those that `planUpdate` makes, bit for bit, and the slab ends as its `encodeUpdate` would leave it; two
 * dispatches, nothing is waited for. Host and device take turns: the first update takes the slot map as the host has it,
 * `sync` gives it back.
 */
export class DevicePlanner {
  readonly slab: Slab;
  private parts: PlannerParts;

  constructor(slab: Slab, { counts }: DevicePlannerOptions = {}) {
    this.slab = slab;
    this.parts = makeParts(slab, counts);
  }

  /**
   * What the last update left for the copy: [moves, active rows, added, removed, (to, source) ...], as `Plan.moves`; or for
   * kernels that bring in the rows themselves.
   */
  get moves(): Region {
    return this.parts.moves;
  }

  /** Where updates leave their counts. */
  get counts(): { readonly buffer: GPUBuffer; readonly at: number } {
    return this.parts.counts;
  }

  /**
   * Makes the planner anew on the device of its slab, which must have been rebuilt: what was planned since the last `sync`
   * is forgotten, as the slab has. Counts that it shares must be given again.
   */
  rebuild({ counts }: DevicePlannerOptions = {}): void {
    const parts = makeParts(this.slab, counts);
    this.parts.memory.destroy();
    this.parts = parts;
  }

  /** GPU bytes held beside the slab's. */
  get bytes(): number {
    return this.parts.memory.bytes;
  }

  /**
   * Records the update to the rows of `mask`, N bits as `Bitmask.words` (those beyond N zero). When they are more than
   * the slab's capacity nothing changes on the device, and the counts say so.
   */
  encodeUpdate(pass: GPUComputePassEncoder, mask: GPUBuffer): void {
    this.encodePlan(pass, 'bits', 'moves', mask);
    this.slab.encodePlanned(pass, this.moves);
  }

  /** As `encodeUpdate`, to the rows whose value is not zero: `values`, f32 [N], what a gate left over. */
  encodeUpdateByValues(pass: GPUComputePassEncoder, values: GPUBuffer): void {
    this.encodePlan(pass, 'values', 'moves', values);
    this.slab.encodePlanned(pass, this.moves);
  }

  /**
   * Plans as `encodeUpdateByValues` does, and leaves the copy to the caller, who must record kernels that bring in the
   * rows of every field and keep the row list, before anything else of this slab.
   * @returns what they read: lib/rows_arriving.wgsl.
   */
  encodeArrivals(pass: GPUComputePassEncoder, values: GPUBuffer): Region {
    this.encodePlan(pass, 'values', 'arrivals', values);
    return this.moves;
  }

  /** What the update that left `words`, COUNT_WORDS of them, did. */
  describe(words: Uint32Array): DeviceUpdate {
    const [writes, active, added, removed, refused] = words;
    const kind = added + removed === 0 ? 'none' : 'paired';
    return { update: tight(kind, { added, removed, active, writes }, this.slab.rowBytes), refused };
  }

  /**
   * Waits for the updates that were submitted and gives the slab its slot map back, so that it can be updated from the
   * host again.
   */
  async sync(): Promise<DeviceState> {
    const { slab, words } = this;
    const { device } = slab;
    const { rows } = slab.pool;
    const list = 16 + 4 * slab.capacity;
    const staging = new Readback(device, list + 4 * (words + COUNT_WORDS));
    try {
      const encoder = device.createCommandEncoder({ label: 'pairslab sync' });
      staging.encodeCopy(encoder, slab.rowList, 0, 0, list);
      staging.encodeCopy(encoder, this.parts.held, 4 * words, list, 4 * words);
      staging.encodeCopy(encoder, this.counts.buffer, 4 * this.counts.at, list + 4 * words, 4 * COUNT_WORDS);
      device.queue.submit([encoder.finish()]);
      const read = new Uint32Array(await staging.read(list + 4 * (words + COUNT_WORDS)));
      const active = read[0];
      slab.restore(read.subarray(4, 4 + active));
      this.forgive();
      return {
        active,
        refused: read[list / 4 + words + 4],
        wanted: Bitmask.fromWords(read.slice(list / 4, list / 4 + words), rows),
      };
    } finally {
      staging.destroy();
    }
  }

  /** Sets the count of refused updates to zero, for what is submitted from now on. */
  forgive(): void {
    this.slab.device.queue.writeBuffer(this.counts.buffer, 4 * (this.counts.at + 4), new Uint32Array(2));
  }

  destroy(): void {
    this.parts.memory.destroy();
  }

  private get words(): number {
    return Math.ceil(this.slab.pool.rows / 32);
  }

  private encodePlan(
    pass: GPUComputePassEncoder,
    active: 'bits' | 'values',
    emit: 'moves' | 'arrivals',
    source: GPUBuffer,
  ): void {
    const { slab } = this;
    const { held, moves, params, counts, constants, plans } = this.parts;
    const { device } = slab;
    checkLost(device);
    // Nothing on the queue that plans for this slab is still to come: the host has had the map.
    if (!slab.onDevice) device.queue.writeBuffer(held, 0, slab.mask().words);
    const key = `${active} ${emit}`;
    let plan = plans.get(key);
    if (!plan) {
      const made = kernel(device, planMoves, { slots: { active, emit }, constants });
      plan = { kernel: made, groups: new WeakMap() };
      plans.set(key, plan);
    }
    let group = plan.groups.get(source);
    if (!group) {
      const { rowList } = slab;
      const buffers = { params, row_list: rowList, held, region: moves, counts: counts.buffer };
      group = plan.kernel.bind({ ...buffers, mask: source, values: source });
      plan.groups.set(source, group);
    }
    encodeDispatch(pass, { kernel: plan.kernel, group, grid: [1, 1, 1] });
    slab.leave();
  }
}
