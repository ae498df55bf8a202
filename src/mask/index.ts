export { Bitmask } from './bitmask.js';
export { type Diff, diff } from './diff.js';
export { nonZero } from './non-zero.js';
export type { Scores } from './scores.js';
export { sigma, threshold, topK, topKUnion } from './select.js';
export { Hysteresis, Smoother, sticky } from './steady.js';
