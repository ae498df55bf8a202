import type { HybridOptions } from '../plan/index.js';
import type { SlabDtype } from './slab-fields.js';
import type { UploadRing } from './upload-ring.js';
import type { CopyTuning } from './variants.js';

export interface SlabOptions extends CopyTuning {
  /** C, the slots. Default: all rows of the pool. */
  capacity?: number;
  /**
   * What rows are converted to as they are copied, for all fields or by name. A field that is not named, or that the
   * pool stores as this already, is copied as it is. Narrowing to f16 rounds to one of the two nearest halves, and what
   * exceeds f16 (65,504) has no defined value there.
   */
  dtype?: SlabDtype | Readonly<Record<string, SlabDtype>>;
  /** How many updates may be encoded before one submit. Default 4. */
  pendingUpdates?: number;
  /**
   * Staging memory for rows of a pool that is not on the device, and where the slab is then: such a slab needs one, of
   * `pairslab/pool`. Slabs may share it.
   */
  ring?: UploadRing;
  label?: string;
}

export interface UpdateOptions extends HybridOptions {
  /** `paired` (the default) follows the hybrid rule; `repack` gathers every active row again. */
  strategy?: 'paired' | 'repack';
  /** For `repack`: the id list is sent (`ids`, default) or made on the device from the mask (`mask`). */
  repackBy?: 'ids' | 'mask';
}
