import type { BufferGroup } from './buffers.js';

/** A buffer that several ops use one after the other: as large as the largest asks for, made when first used. */
export class Scratch {
  private readonly memory: BufferGroup;
  private readonly label: string;
  private bytes = 0;
  private made?: GPUBuffer;

  constructor(memory: BufferGroup, label: string) {
    this.memory = memory;
    this.label = label;
  }

  /** Asks for room; to be called before the buffer is first used. */
  reserve(bytes: number): void {
    if (this.made && bytes > this.made.size)
      throw new Error(`${this.label} is in use and too small for ${bytes} bytes`);
    this.bytes = Math.max(this.bytes, bytes);
  }

  get buffer(): GPUBuffer {
    this.made ??= this.memory.storage(this.label, this.bytes);
    return this.made;
  }
}
