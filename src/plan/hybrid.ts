import { OptionError } from '../errors.js';
import type { Bitmask } from '../mask/index.js';
import { settings } from '../settings.js';
import { tightPlan } from './plan.js';
import { repackTo } from './repack.js';
import type { SlotMap } from './slot-map.js';
import { minimumWrites, stillTrue, type Transition, transition } from './transition.js';
import type { Plan } from './types.js';

/** How `hybridPlan` chooses. */
export interface HybridOptions {
  /** For rule 'writes': repack when h / m' is above it. In [0, 1]; default `settings().hybridTau`, 1 (never) if unset. */
  readonly tau?: number;
  /**
   * 'writes' (default) looks at the tight plan's writes h; 'published' repacks when A + R > 0.5 · m', as the
   * published work does.
   */
  readonly rule?: 'writes' | 'published';
  /** A change of fewer rows (A + R) than this is put off. An integer >= 0; default 0, never. */
  readonly deferBelow?: number;
}

/**
 * The tight plan, or a repack where so much changes that the rule asks for one. tau = 1 never repacks, since h <= m'.
 *
 * With `deferBelow`, a change of fewer than so many rows is put off: the plan moves nothing, the mask stays as it was,
 * and `deferred` names the rows, so the caller must go on with the old mask or handle them. The rows stay different
 * from the next mask, so small changes add up until they are made. Never on the first update (an empty map), which
 * would leave nothing to compute with, and never for a mask that does not fit, which is refused.
 *
 * @param known The transition to `mask`, if it was worked out already.
 * @throws OptionError when tau, rule or deferBelow has another value; CapacityError and ShapeError as `planUpdate`;
 *   StalePlanError when the map is no longer as `known` found it.
 */
export function hybridPlan(
  map: SlotMap,
  mask: Bitmask,
  options: HybridOptions = {},
  known?: Transition,
): Plan {
  const { rule = 'writes', deferBelow = 0 } = options;
  if (rule !== 'writes' && rule !== 'published') {
    throw new OptionError(`rule is '${String(rule)}'; it must be 'writes' or 'published'`, { rule });
  }
  if (!Number.isInteger(deferBelow) || deferBelow < 0) {
    throw new OptionError(`deferBelow is ${deferBelow}; it must be an integer of at least 0`, { deferBelow });
  }
  const tau = options.tau ?? settings().hybridTau ?? 1;
  if (!(tau >= 0 && tau <= 1)) throw new OptionError(`tau is ${tau}; it must be from 0 to 1`, { tau });

  const change = known ? stillTrue(map, known) : transition(map, mask);
  const changed = change.added.length + change.removed.length;
  if (changed > 0 && changed < deferBelow && map.active > 0) return deferredPlan(map, change);
  const repack =
    rule === 'published'
      ? changed > 0.5 * change.active
      : // An empty outcome writes nothing, and 0 / 0 > tau is false.
        minimumWrites(change) / change.active > tau;
  return repack ? repackTo(map, mask, change) : tightPlan(map, change);
}

function deferredPlan(map: SlotMap, { added, removed }: Transition): Plan {
  const none = new Uint32Array(0);
  return {
    kind: 'tight',
    added: none,
    removed: none,
    active: map.active,
    moves: none,
    writes: 0,
    minimum: 0,
    deferred: { added, removed },
    version: map.version,
  };
}
