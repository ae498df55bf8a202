import type { ReadOptions } from '../pool/pool.js';

/** Memory for rows on their way from a pool, kept from read to read. Those who share one take turns. */
export class ArrivingRows {
  /** How they are read: what ends it, and who is told of it. */
  reading: ReadOptions = {};
  private bytes = new Uint8Array(0);

  /** Room for `bytes`, whose contents mean nothing; what was given before is gone. */
  room(bytes: number): Uint8Array<ArrayBuffer> {
    // A little more, or counts of rows that creep up would need new memory each time.
    if (this.bytes.length < bytes) this.bytes = new Uint8Array(Math.ceil(bytes * 1.25));
    return this.bytes.subarray(0, bytes);
  }
}
