import { chooseStorage, type RowStorage } from '../../src/gpu/storage.js';
import type { DeviceContext } from './report.js';

/** What this run's layers read their rows from on its device: what was asked for, or what `auto` is there. */
export function storageOf({ gpu, storage }: Pick<DeviceContext, 'gpu' | 'storage'>): RowStorage {
  return chooseStorage(gpu.device, storage);
}
