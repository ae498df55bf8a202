import type { OffDevicePool, ReadOptions } from '../pool/pool.js';

/** Rows that a guess has on their way from a pool that must be read, before it is known whether they are needed. */
export class RowsAhead {
  private readonly pool: OffDevicePool;
  private readonly bytes: Uint8Array<ArrayBuffer>;
  /** Row id → its place in `bytes`. */
  private readonly places: ReadonlyMap<number, number>;
  private readonly stop = new AbortController();
  /** Whether they came. A read that fails is no fault yet: who needs the rows reads them again. */
  private readonly came: Promise<boolean>;

  constructor(pool: OffDevicePool, ids: Uint32Array) {
    this.pool = pool;
    this.bytes = new Uint8Array(ids.length * pool.rowBytes);
    this.places = new Map(Array.from(ids, (id, place) => [id, place]));
    this.came = pool.read(ids, this.bytes, { signal: this.stop.signal }).then(
      () => true,
      () => false,
    );
  }

  /** Reads rows `ids` to `into`, in their order, those that are not on their way already while waiting for the others. */
  async read(ids: Uint32Array, into: Uint8Array<ArrayBuffer>, reading: ReadOptions): Promise<void> {
    const { pool, places, bytes } = this;
    const { rowBytes } = pool;
    const others = ids.filter((id) => !places.has(id));
    const apart = new Uint8Array(others.length * rowBytes);
    // None of them is wanted: what is under way need not be waited for.
    const waits = others.length < ids.length;
    const [came] = await Promise.all([waits ? this.came : true, pool.read(others, apart, reading)]);
    if (!came) return pool.read(ids, into, reading);
    let other = 0;
    ids.forEach((id, i) => {
      const place = places.get(id);
      const from = place === undefined ? apart : bytes;
      const at = (place ?? other++) * rowBytes;
      into.set(from.subarray(at, at + rowBytes), i * rowBytes);
    });
  }

  /** Ends what is still under way. */
  cancel(): void {
    this.stop.abort();
  }
}
