import { OptionError } from '../errors.js';
import { type BufferGroup, roundUp } from './buffers.js';

/** Storage bindings start at multiples of this on every device. */
const OFFSET_ALIGN = 256;

/** A part of a buffer; fits a bind group entry as it is. */
export interface Region {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/**
 * Places for what the host sends with each encoded step (moves, ids, masks), used in turn. `writeBuffer` happens before
 * the submit, so two steps in one submit must not share a place; after the submit the queue's order keeps them apart.
 */
export class Regions {
  private readonly device: GPUDevice;
  private readonly regions: Region[] = [];
  private next = 0;
  private pending = 0;

  /** `count` regions of `words` u32 each. @throws OptionError when count is not 1..4096. */
  constructor(memory: BufferGroup, label: string, words: number, count: number) {
    if (!Number.isInteger(count) || count < 1 || count > 4096) {
      throw new OptionError(`pendingUpdates must be an integer from 1 to 4096; it is ${count}.`, { count });
    }
    this.device = memory.device;
    const size = roundUp(words * 4, OFFSET_ALIGN);
    const perBuffer = Math.max(1, Math.floor(this.device.limits.maxStorageBufferBindingSize / size));
    for (let first = 0; first < count; first += perBuffer) {
      const here = Math.min(perBuffer, count - first);
      const buffer = memory.storage(label, here * size);
      for (let r = 0; r < here; r++)
        this.regions.push({ buffer, offset: r * size, size: roundUp(words * 4, 16) });
    }
  }

  /** The first region: the only one, where there is one. */
  get first(): Region {
    return this.regions[0];
  }

  /** @throws OptionError when every region was written since the last `submitted()`. */
  check(): void {
    if (this.pending === this.regions.length) {
      throw new OptionError(
        `${this.pending} steps were encoded and none reported as submitted: call submitted() after the submit, ` +
          'or raise pendingUpdates.',
        { pendingUpdates: this.regions.length },
      );
    }
  }

  /** @throws OptionError as `check`. */
  write(words: Uint32Array<ArrayBuffer>, length = words.length): Region {
    this.check();
    this.pending++;
    this.next = (this.next + 1) % this.regions.length;
    const region = this.regions[this.next];
    this.device.queue.writeBuffer(region.buffer, region.offset, words, 0, length);
    return region;
  }

  submitted(): void {
    this.pending = 0;
  }
}
