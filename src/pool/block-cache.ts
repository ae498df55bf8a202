/**
 * Keeps blocks that were fetched once. It need not be trusted: whoever reads a block checks it, and drops one that is
 * damaged. No method throws for a fault of the place where blocks are kept: what cannot be kept is fetched again.
 */
export interface BlockCache {
  /** The block kept under this key, null when there is none. */
  get(key: string): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Keeps a copy of the block, and may give up others for it. */
  put(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  drop(key: string): Promise<void>;
}
