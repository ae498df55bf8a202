export { type HybridOptions, hybridPlan } from './hybrid.js';
export { planUpdate } from './plan.js';
export { publishedPlan } from './published.js';
export { repackPlan } from './repack.js';
export { SlotMap } from './slot-map.js';
export { type Change, MOVE_FROM_SLAB, type Plan, StalePlanError } from './types.js';
export { minimumWrites, type Transition, transition } from './transition.js';
