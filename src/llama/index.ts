export { decodeBytes } from './bytes.js';
export { BlobSource, type ByteSource, MemorySource, type ModelFolder } from '../io/byte-source.js';
export {
  type ConvertOptions,
  type Converted,
  convertModel,
  type FileSink,
  type ModelSink,
} from './convert.js';
export { type Checkpoint, openCheckpoint, requireTensors } from './checkpoint.js';
export { type HiddenAct, type LlamaConfig, parseConfig, type RopeScaling } from './config.js';
export { openSafetensors, type Safetensors, type TensorData, type TensorInfo } from './safetensors.js';
export { Sampler, type SamplerOptions } from './sample.js';
export { checkMode, GATE_MODES, type Mode, MODES } from './mode.js';
export type { Followed } from './whole-tokens.js';
export { LlamaSession, type SessionOptions, type StepStats } from './session.js';
export {
  checkFits,
  estimateBytes,
  type LayerWeights,
  mlpRows,
  type LlamaWeights,
  type LoadOptions,
  loadWeights,
  POOL_HOMES,
  type PoolHome,
} from './weights.js';
export type { SessionResidency } from './budgeted-layers.js';
export {
  type CalibrateOptions,
  type Calibration,
  calibrate,
  parseThresholds,
  THRESHOLDS_FILE,
} from './calibrate.js';
export {
  type DecodeRun,
  generate,
  type GenerateOptions,
  type GenerateStats,
  type ResidencyAverages,
} from './generate.js';
export { type Perplexity, perplexity, type PerplexityOptions } from './perplexity.js';
export { recordTrace, type RecordOptions, type TraceSource } from './record-trace.js';
export {
  judgePredictor,
  type LayerSample,
  limitFor,
  type PredictorFit,
  type PredictorQuality,
  rankActive,
  sampleGates,
  withLimit,
} from './calibrate-predictor.js';
export { fitLowRank, fitSigns, type SymmetricEigen } from './fit-predictor.js';
export { encodePredictor, type ModelPredictor, PREDICTOR_FILE, readPredictor } from './predictor.js';
export type { RowChoiceOptions } from './row-choice.js';
export type { LowRankPredictor, RowPredictor, SignPredictor } from '../mlp/predictor.js';
export { LlamaRunner, type RunnerOptions, type RunnerRequest, type RunnerResult } from './runner.js';
