import type { RowStorage } from '../../src/gpu/storage.js';
import { fasterStorage } from '../../src/gpu/texels.js';
import type { DeviceContext } from './report.js';

/** What this run's layers read their rows from on its device: what was asked for, or what `auto` is there. */
export function storageOf({ gpu, storage }: Pick<DeviceContext, 'gpu' | 'storage'>): RowStorage {
  return storage === 'auto' ? fasterStorage(gpu.device) : storage;
}
