import { OptionError } from '../errors.js';
import { BufferGroup } from '../gpu/buffers.js';
import { OffDeviceRows, type OffDeviceTarget } from './off-device-rows.js';

export interface UploadRingOptions {
  /** Size of the staging memory, on the device and again on the host. Default 4 MiB. */
  bytes?: number;
  label?: string;
}

const DEFAULT_BYTES = 4 << 20;

/**
 * Staging memory of a fixed size, through which rows of pools that are not on the device reach slabs: made once, used
 * again and again. Several slabs may share one. `writeBuffer` happens before the submit, so what is encoded for one
 * submit must not share a place; after the submit the queue's order keeps uploads and copies apart.
 *
 * A slab gets all that such pools need with its ring, so that an app whose pools are on the device has none of it.
 */
export class UploadRing {
  /** Bytes of staging memory on the device. */
  readonly bytes: number;
  readonly label: string;
  private memory: BufferGroup;
  private made: GPUBuffer;
  private readonly host: Uint8Array<ArrayBuffer>;
  private at = 0;
  private held = 0;
  /** Bytes [from, to) that `together` has yet to upload. */
  private waiting: { from: number; to: number } | null = null;

  /** @throws OptionError for a size that is no positive multiple of 16; DeviceLimitError for one beyond a binding. */
  constructor(device: GPUDevice, options: UploadRingOptions = {}) {
    const { bytes = DEFAULT_BYTES, label = 'upload ring' } = options;
    if (!Number.isSafeInteger(bytes) || bytes < 16 || bytes % 16 !== 0) {
      throw new OptionError(`${label}: bytes must be a multiple of 16 of at least 16; it is ${bytes}.`, {
        bytes,
      });
    }
    this.bytes = bytes;
    this.label = label;
    this.memory = new BufferGroup(device);
    this.made = this.memory.storage(label, bytes);
    this.host = new Uint8Array(bytes);
  }

  get device(): GPUDevice {
    return this.memory.device;
  }

  /** Another one after `rebuild`. */
  get buffer(): GPUBuffer {
    return this.made;
  }

  /** Makes the ring anew on `device`, empty; then its slabs can be rebuilt there. @throws DeviceLimitError, DeviceLostError. */
  rebuild(device: GPUDevice): void {
    const memory = new BufferGroup(device);
    this.made = memory.storage(this.label, this.bytes);
    this.memory.destroy();
    this.memory = memory;
    this.at = 0;
    this.held = 0;
  }

  /** For `Slab`: what brings rows of its pool into its buffers. @throws OptionError when the ring cannot hold one row. */
  rowsFor(target: OffDeviceTarget): OffDeviceRows {
    return new OffDeviceRows(this, target);
  }

  /** How many rows of `rowBytes` bytes can be taken now. */
  room(rowBytes: number): number {
    return Math.floor(this.bytes / rowBytes) - Math.ceil(this.at / rowBytes);
  }

  /**
   * Takes a place for `rows` rows, until `release`. @returns its first row, counted in rows from the ring's start.
   * @throws OptionError when there is no room.
   */
  take(rowBytes: number, rows: number): number {
    const room = this.room(rowBytes);
    if (rows > room) {
      throw new OptionError(
        `${this.label} of ${this.bytes} bytes has room for ${room} rows of ${rowBytes} bytes, not for ${rows}: ` +
          'submit what was encoded and call submitted(), use update() or load(), which upload in pieces, or make a larger ring.',
        { rows, room, rowBytes, bytes: this.bytes },
      );
    }
    const first = Math.ceil(this.at / rowBytes);
    this.at = (first + rows) * rowBytes;
    this.held++;
    return first;
  }

  /** The host's side of a place: fill it, then `write` it. */
  stage(rowBytes: number, first: number, rows: number): Uint8Array<ArrayBuffer> {
    return this.host.subarray(first * rowBytes, (first + rows) * rowBytes);
  }

  /** One upload; within `together`, a part of its one. `rows` may be any memory, the staged one too. */
  write(rowBytes: number, first: number, rows: Uint8Array<ArrayBuffer>): void {
    const { waiting, host } = this;
    const from = first * rowBytes;
    if (!waiting) {
      this.device.queue.writeBuffer(this.buffer, from, rows);
      return;
    }
    if (rows.buffer !== host.buffer) host.set(rows, from);
    waiting.from = Math.min(waiting.from, from);
    waiting.to = Math.max(waiting.to, from + rows.byteLength);
  }

  /** What `work` writes is uploaded at once, when it is done: before the submit of what it encoded. */
  together<T>(work: () => T): T {
    if (this.waiting) return work();
    const waiting = { from: this.bytes, to: 0 };
    this.waiting = waiting;
    try {
      return work();
    } finally {
      this.waiting = null;
      const { from, to } = waiting;
      if (from < to) this.device.queue.writeBuffer(this.buffer, from, this.host, from, to - from);
    }
  }

  /** Gives `places` back: their copies were submitted, or never encoded. */
  release(places: number): void {
    // Places taken before a rebuild are gone already.
    this.held = Math.max(0, this.held - places);
    if (this.held === 0) this.at = 0;
  }

  destroy(): void {
    this.memory.destroy();
  }
}
