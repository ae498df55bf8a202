import { CapacityError, OptionError, ShapeError } from '../errors.js';
import { Bitmask, diff } from '../mask/index.js';
import { MOVE_FROM_SLAB, StalePlanError } from '../plan/types.js';
import { placeAnywhere, placeInFront } from './placement.js';
import type { Policy, PolicyFactory } from './policy.js';
import { ResidentMap } from './resident-map.js';
import type { ResidencyPlan } from './types.js';

/** How a step reaches its rows: see `ResidencyPlan.kind`. */
export type ResidencyMode = 'indexed' | 'packed';

export interface ResidencyOptions {
  /** N, the rows of the pool. */
  readonly rows: number;
  /** C, the slots of the slab. */
  readonly capacity: number;
  readonly mode: ResidencyMode;
  /** Who is evicted, for mode indexed. In packed mode there is no choice: it is who lies where active rows belong. */
  readonly policy?: PolicyFactory;
}

// Counted over all, so that a plan made from one is stale in every other.
let lastVersion = 0;

/**
 * A slab's rows where more may be resident than are active: evicted rows stay until their slot is needed, and coming
 * back costs nothing. Plan, write the rows, commit:
 *
 *     for (const piece of residency.pieces(mask)) {
 *       const plan = residency.plan(piece.mask, piece);
 *       …encode plan.moves and the layer over plan.slots
 *       residency.commit(plan);
 *     }
 *
 * A step whose rows all fit is one piece. Nothing changes before `commit`.
 */
export class Residency {
  readonly mode: ResidencyMode;
  readonly map: ResidentMap;
  readonly policy: Policy | null;
  #active: Bitmask;
  #version = ++lastVersion;

  /** @throws OptionError for another mode, or indexed without a policy; what `ResidentMap` throws. */
  constructor({ rows, capacity, mode, policy }: ResidencyOptions) {
    if (mode !== 'indexed' && mode !== 'packed') {
      throw new OptionError(`mode is '${String(mode)}'; it must be 'indexed' or 'packed'`, { mode });
    }
    this.mode = mode;
    this.map = new ResidentMap(rows, capacity);
    this.#active = Bitmask.empty(rows);
    if (mode === 'indexed' && !policy) throw new OptionError('mode indexed needs a policy; lru, for example');
    this.policy = (mode === 'indexed' && policy?.(rows, capacity)) || null;
  }

  /** The rows that the last step used, or the last piece of it, as a copy that is the caller's. */
  active(): Bitmask {
    return this.#active.clone();
  }

  /**
   * The row writes after which the mask's rows are resident, and in front where the mode is packed. `more` says that
   * further pieces of the same step follow.
   *
   * @throws CapacityError when the mask has more rows than there are slots (`details`: wanted, capacity, rows: those
   *   with the highest ids among the ones that are not resident); ShapeError when it has another N; OptionError when
   *   the policy's answer cannot be used.
   */
  plan(mask: Bitmask, { more = false }: { more?: boolean } = {}): ResidencyPlan {
    const wanted = this.#checked(mask);
    const { map, policy } = this;
    const placed = policy ? placeAnywhere(map, wanted, policy) : placeInFront(map, wanted);
    const active = wanted.count();
    return {
      kind: this.mode,
      active,
      ...placed,
      writes: placed.moves.length / 2,
      hits: active - placed.loaded.length,
      slots: policy ? this.#slotsOf(wanted, placed.moves) : null,
      ...diff(this.#active, wanted),
      wanted,
      more,
      version: this.#version,
    };
  }

  /**
   * Loads what may be wanted soon, in mode indexed; counts as no use. A wrong guess costs its upload and the slot of
   * the row that the policy gave up for it. Of a guess of more rows than there are slots, the lowest ids are taken.
   *
   * @throws OptionError in mode packed, whose active rows are in the way; ShapeError when the mask has another N.
   */
  planPrefetch(guess: Bitmask): ResidencyPlan {
    const { map, policy } = this;
    if (!policy) throw new OptionError('there is no prefetch in mode packed: use mode indexed');
    const fits = Bitmask.fromIds(guess.ids().subarray(0, map.capacity), guess.size);
    const wanted = this.#checked(fits);
    const placed = placeAnywhere(map, wanted, policy);
    const none = new Uint32Array(0);
    return {
      kind: 'prefetch',
      active: 0,
      ...placed,
      writes: placed.moves.length / 2,
      hits: wanted.count() - placed.loaded.length,
      slots: null,
      added: none,
      removed: none,
      wanted,
      more: true,
      version: this.#version,
    };
  }

  /**
   * Parts of a mask that fit, in the order to compute them; together they are the mask, and no row is in two. The first
   * has all rows that are resident already, so that none of them is loaded again. One part where all fits, also for a
   * mask of no rows.
   *
   * @throws ShapeError when the mask has another N.
   */
  pieces(mask: Bitmask): { readonly mask: Bitmask; readonly more: boolean }[] {
    this.#checkSize(mask);
    const { capacity, resident, rows } = this.map;
    const count = mask.count();
    if (count <= capacity) return [{ mask: mask.clone(), more: false }];
    const missing = mask.without(resident).ids();
    const first = mask.without(Bitmask.fromIds(missing, rows));
    const fresh = capacity - (count - missing.length);
    for (const row of missing.subarray(0, fresh)) first.add(row);
    const pieces = [{ mask: first, more: true }];
    for (let at = fresh; at < missing.length; at += capacity) {
      const ids = missing.subarray(at, at + capacity);
      pieces.push({ mask: Bitmask.fromIds(ids, rows), more: at + capacity < missing.length });
    }
    return pieces;
  }

  /**
   * Makes the plan's outcome the state, and tells the policy what was used, in O(rows that change + m). Call it once the
   * row writes are encoded, so that map and slab stay together.
   *
   * @throws StalePlanError when the plan was made from another state or for another slab; nothing changes then.
   */
  commit(plan: ResidencyPlan): void {
    if (plan.version !== this.#version) {
      throw new StalePlanError(
        `the plan was made from state ${plan.version} and the residency is in state ${this.#version}; plan again`,
        { planned: plan.version, current: this.#version },
      );
    }
    const { map, policy } = this;
    const { moves, evicted, loaded } = plan;
    for (const row of evicted) map.remove(row);
    for (let i = 0; i < moves.length; i += 2) {
      const source = moves[i + 1];
      if (source < MOVE_FROM_SLAB) {
        map.put(source, moves[i]);
        continue;
      }
      const row = map.rowAt(source - MOVE_FROM_SLAB);
      map.remove(row);
      map.put(row, moves[i]);
    }
    policy?.admit(loaded);
    if (plan.kind !== 'prefetch') {
      this.#active = plan.wanted;
      policy?.note(plan.wanted.ids());
      if (!plan.more) policy?.endStep();
    }
    this.#version = ++lastVersion;
  }

  /** [m'] */
  #slotsOf(wanted: Bitmask, moves: Uint32Array): Uint32Array {
    const slots = new Uint32Array(wanted.count());
    // The moves are by row id, as the slots are.
    let move = 0;
    let i = 0;
    for (const row of wanted) {
      const slot = this.map.slotOf(row);
      slots[i++] = slot >= 0 ? slot : moves[2 * move++];
    }
    return slots;
  }

  #checkSize(mask: Bitmask): void {
    if (mask.size !== this.map.rows) {
      throw new ShapeError(
        `the mask has N = ${mask.size} rows and the slab's pool ${this.map.rows}; they must be the same`,
        { mask: mask.size, rows: this.map.rows },
      );
    }
  }

  /** A copy of a mask that fits. */
  #checked(mask: Bitmask): Bitmask {
    this.#checkSize(mask);
    const { capacity, resident } = this.map;
    const wanted = mask.count();
    if (wanted <= capacity) return mask.clone();
    // What is resident fits where it is, so the rows that are over are all among the others.
    const rows = Array.from(mask.without(resident).ids()).slice(capacity - wanted);
    throw new CapacityError(
      `the step uses ${wanted} rows and the slab has ${capacity} slots, ${rows.length} too few; ` +
        'compute it in the pieces that `pieces` gives, or raise the budget',
      { wanted, capacity, rows },
    );
  }
}
