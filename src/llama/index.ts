export { BlobSource, type ByteSource, MemorySource, type ModelFolder } from './byte-source.js';
export { type Checkpoint, openCheckpoint, requireTensors } from './checkpoint.js';
export { type LlamaConfig, parseConfig } from './config.js';
export { openSafetensors, type Safetensors } from './safetensors.js';
export { Sampler, type SamplerOptions } from './sample.js';
export { checkMode, LlamaSession, type Mode, MODES, type SessionOptions, type StepStats } from './session.js';
export { checkFits, estimateBytes, type LlamaWeights, type LoadOptions, loadWeights } from './weights.js';
