import { NonFiniteError, OptionError } from '../errors.js';
import { BufferGroup, f32Bits } from '../gpu/buffers.js';
import { encodeDispatch, type Kernel, kernel } from '../gpu/kernel.js';
import { checkLost } from '../gpu/lost.js';
import { readBuffer } from '../gpu/readback.js';
import { traitsOf } from '../gpu/traits.js';
import { Bitmask } from '../mask/index.js';
import { checkCount, checkThreshold } from '../mask/scores.js';
import { groupLanes, selectRows } from './select-kernels.js';

/**
 * Which rows are wanted by their scores: above t; above mean + k · sigma; the k highest, of equal ones the lowest ids.
 * As `threshold`, `sigma` and `topK` choose on the CPU, bit for bit; a sigma's own threshold is found in f32.
 */
export type Selection =
  | { readonly by: 'threshold'; readonly t: number }
  | { readonly by: 'sigma'; readonly k: number }
  | { readonly by: 'top'; readonly k: number };

/** What a selection came to, read back. */
export interface Selected {
  readonly mask: Bitmask;
  /** What scores had to exceed; of `top` the lowest that was selected (NaN for k = 0). */
  readonly threshold: number;
}

/** What a selector has on its device. */
interface SelectorParts {
  readonly memory: BufferGroup;
  readonly mask: GPUBuffer;
  readonly found: GPUBuffer;
  readonly params: GPUBuffer;
  readonly kernel: Kernel;
  readonly groups: WeakMap<GPUBuffer, GPUBindGroup>;
}

function makeParts(device: GPUDevice, rows: number, selection: Selection, absolute: boolean): SelectorParts {
  const words = Bitmask.empty(rows).words.length;
  const given = paramsOf(selection, rows);
  const memory = new BufferGroup(device);
  try {
    const mask = memory.storage('selected rows', words * 4);
    const found = memory.storage('selection', 16);
    const params = memory.uniform('selection params', given);
    const constants = { ...groupLanes(traitsOf(device), 256), ABSOLUTE: absolute ? 1 : 0 };
    const made = kernel(device, selectRows, { slots: { rule: selection.by }, constants });
    return { memory, mask, found, params, kernel: made, groups: new WeakMap() };
  } catch (error) {
    memory.destroy();
    throw error;
  }
}

/** Makes masks of scores on the device: nothing comes to the CPU unless it is asked for. One dispatch. */
export class RowSelector {
  readonly rows: number;
  private readonly selection: Selection;
  private readonly absolute: boolean;
  private parts: SelectorParts;

  /**
   * Of scores [rows]; with `absolute`, of their sizes.
   * @throws OptionError for an unknown rule or a figure that it cannot have; ShapeError when rows is no size of a mask.
   */
  constructor(device: GPUDevice, rows: number, selection: Selection, { absolute = false } = {}) {
    this.rows = rows;
    this.selection = selection;
    this.absolute = absolute;
    this.parts = makeParts(device, rows, selection, absolute);
  }

  /** N bits, as `Bitmask.words`: what the last `encode` selected. Another buffer after `rebuild`. */
  get mask(): GPUBuffer {
    return this.parts.mask;
  }

  /** [threshold as f32, 1 once scores were not finite, rows selected, 0] */
  get found(): GPUBuffer {
    return this.parts.found;
  }

  /** Makes the selector anew on `device`; what it selected last is forgotten. @throws DeviceLimitError, DeviceLostError. */
  rebuild(device: GPUDevice): void {
    const parts = makeParts(device, this.rows, this.selection, this.absolute);
    this.parts.memory.destroy();
    this.parts = parts;
  }

  /** GPU bytes held. */
  get bytes(): number {
    return this.parts.memory.bytes;
  }

  /** Records mask = selection of `scores`, f32 [rows]. Where one of them is not finite the mask is empty; `read` says so. */
  encode(pass: GPUComputePassEncoder, scores: GPUBuffer): void {
    const { memory, kernel, groups, params, mask, found } = this.parts;
    checkLost(memory.device);
    let group = groups.get(scores);
    if (!group) {
      group = kernel.bind({ params, scores, mask, found });
      groups.set(scores, group);
    }
    encodeDispatch(pass, { kernel, group, grid: [1, 1, 1] });
  }

  /**
   * What the last selection that was submitted came to.
   * @throws NonFiniteError when scores, or the threshold found, were not finite at any selection since the last `read`;
   * those masks were empty.
   */
  async read(): Promise<Selected> {
    const { device } = this.parts.memory;
    const [found, mask] = await Promise.all([readBuffer(device, this.found), readBuffer(device, this.mask)]);
    if (new Uint32Array(found)[1] !== 0) {
      device.queue.writeBuffer(this.found, 4, new Uint32Array(1));
      throw new NonFiniteError(
        `some of ${this.rows} scores, or the threshold found from them, were not finite: nothing was selected then.`,
        { rows: this.rows },
      );
    }
    const words = new Uint32Array(mask, 0, Math.ceil(this.rows / 32));
    return { mask: Bitmask.fromWords(words, this.rows), threshold: new Float32Array(found)[0] };
  }

  destroy(): void {
    this.parts.memory.destroy();
  }
}

function paramsOf(selection: Selection, rows: number): [number, number, number] {
  switch (selection.by) {
    case 'threshold':
      checkThreshold('t', selection.t);
      return [rows, 0, f32Bits(floorF32(selection.t))];
    case 'sigma':
      if (!Number.isFinite(Math.fround(selection.k))) {
        throw new OptionError(`k is ${selection.k}; it must be a finite number of sigmas`, {
          k: selection.k,
        });
      }
      return [rows, 0, f32Bits(selection.k)];
    case 'top':
      checkCount(selection.k, rows);
      return [rows, selection.k, 0];
    default: {
      const { by } = selection as { by: unknown };
      throw new OptionError(`rows cannot be selected by "${String(by)}"; use threshold, sigma or top.`, {
        by,
      });
    }
  }
}

const number = new Float32Array(1);
const word = new Uint32Array(number.buffer);

/** The largest f32 that is not above `value`: f32 scores exceed the one exactly where they exceed the other. */
function floorF32(value: number): number {
  number[0] = value;
  if (!(number[0] > value)) return number[0];
  // Rounded up, so the next below: of a positive number the bits less one, of a negative one the bits more one; 0 is
  // never reached from below by rounding but as -0.
  if (number[0] === 0) return -(2 ** -149);
  word[0] += number[0] > 0 ? -1 : 1;
  return number[0];
}
