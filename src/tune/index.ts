export {
  autotune,
  type AutotuneOptions,
  type AutotuneResult,
  defaultWorst,
  describeVariant,
} from './autotune.js';
export { type TuningKey, tuningKeyOf } from '../gpu/tuning-key.js';
export { parseTuning } from '../gpu/tuning-parse.js';
export { defaultShapes, type ModelSizes, modelShapes, type TunedKernel, type TuneShape } from './shapes.js';
export { browserStore, loadTuning, saveTuning, type TuningStore } from '../gpu/tuning-store.js';
export {
  type DispatchProfile,
  type KernelProfile,
  type MLPProfile,
  type ModelProfile,
  type Profile,
  profileDispatches,
  profileMLP,
  profileModel,
  type ProfileOptions,
  type ProfiledStep,
  type Recorded,
} from './profile.js';
export { type RecordedDispatch, RecordingPass } from './recording.js';
export type { LayerTraffic } from './traffic.js';
export type { Interval, Stats } from './stats.js';
export type { MeasuredEntry } from '../gpu/tuning.js';
