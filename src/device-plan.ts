/** Masks and plans that are made on the device, for slabs whose masks need not come to the CPU. */
export {
  COUNT_WORDS,
  DevicePlanner,
  type DevicePlannerOptions,
  type DeviceState,
  type DeviceUpdate,
} from './slab/device-planner.js';
export { RowSelector, type Selected, type Selection } from './slab/row-selector.js';
