/**
 * Rows that are not on the device: in host memory, a file, a Blob or OPFS, or behind HTTP range requests; and what brings
 * them there. `Slab` and `DevicePool` are in the core.
 */
export {
  BlobSource,
  type ByteReadOptions,
  type ByteSource,
  MemorySource,
  type ModelFolder,
} from '../io/byte-source.js';
export {
  type HttpAnswer,
  HttpFolder,
  type HttpOpenOptions,
  type HttpOptions,
  HttpSource,
  type HttpTransport,
} from '../io/http-source.js';
export type { RetryOptions } from '../io/retry.js';
export { ArrivingRows } from '../slab/arriving-rows.js';
export {
  ResidentSlab,
  type ResidentSlabOptions,
  type StepPiece,
  type StepRecorder,
} from '../slab/resident-slab.js';
export { UploadRing, type UploadRingOptions } from '../slab/upload-ring.js';
export type { BlockCache } from './block-cache.js';
export { openBundle, RowBundle } from './bundle.js';
export { HostPool, type HostPoolOptions } from './host-pool.js';
export type { OffDevicePool, Pool, ReadOptions } from './pool.js';
export { type CacheFiles, opfsFiles, SegmentCache, type SegmentCacheOptions } from './segment-cache.js';
export { type ReadCounts, StoredPool, type StoredPoolOptions, type StoredRows } from './stored-pool.js';
