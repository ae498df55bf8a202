import { ShapeError } from '../errors.js';
import type { BufferGroup } from '../gpu/buffers.js';
import { type Region, Regions } from '../gpu/regions.js';
import { Bitmask } from '../mask/index.js';
import { batchRoom } from './forward-buffers.js';

/** The rows of a step: one mask for all elements of a batch, or one for each. Without any: all rows. */
export type StepMask = Bitmask | readonly Bitmask[];

/** What a step computes with. */
export interface StepRows {
  /** Rows that any element uses. */
  readonly union: Bitmask;
  /** Each element's own, where they have their own. */
  readonly each?: readonly Bitmask[];
}

/**
 * What a step's mask comes to, for a batch over `all` rows.
 * @throws ShapeError for masks of other than N rows, or of another number than the batch has elements.
 */
export function stepRows(mask: StepMask | undefined, batch: number, all: Bitmask): StepRows {
  if (mask === undefined) return { union: all };
  if (mask instanceof Bitmask) return { union: checked(mask, all) };
  if (mask.length !== batch || batch === 0) {
    throw new ShapeError(
      `there are ${mask.length} masks for a batch of ${batch}: give one for each, or one.`,
      {
        masks: mask.length,
        batch,
      },
    );
  }
  for (const one of mask) checked(one, all);
  const [first, ...others] = mask;
  if (others.length === 0) return { union: first };
  return { union: others.reduce((union, one) => union.union(one), first), each: mask };
}

function checked(mask: Bitmask, { size: rows }: Bitmask): Bitmask {
  const { size } = mask;
  if (size === rows) return mask;
  throw new ShapeError(`the mask has ${size} rows; the layer has ${rows}.`, { size, rows });
}

/** A step's masks as lib/keep_masked.wgsl reads them: words from one to the next, three of padding, the masks. */
export function maskWords({ union, each }: StepRows): Uint32Array<ArrayBuffer> {
  const stride = union.words.length;
  const masks = each ?? [union];
  const words = new Uint32Array(4 + masks.length * stride);
  // One for all elements is as many times the same.
  words[0] = each ? stride : 0;
  masks.forEach((mask, b) => void words.set(mask.words, 4 + b * stride));
  return words;
}

/** The places where the masks of a batch's elements go to the device; made as batches need them. */
export class MaskRegions {
  private readonly memory: BufferGroup;
  private readonly count: number;
  private readonly regions = new Map<number, Regions>();

  /** For `count` steps at a time. */
  constructor(memory: BufferGroup, count: number) {
    this.memory = memory;
    this.count = count;
  }

  /** @returns what forgets the places that were made since; their buffers are the group's to destroy. */
  mark(): () => void {
    const had = new Set(this.regions.keys());
    return () => {
      for (const key of [...this.regions.keys()]) if (!had.has(key)) this.regions.delete(key);
    };
  }

  /** @throws OptionError when as many steps were written as can be at a time, and none was reported as submitted. */
  check(rows: StepRows): void {
    this.regionsFor(rows).check();
  }

  /** @throws OptionError as `check`. */
  write(rows: StepRows): Region {
    return this.regionsFor(rows).write(maskWords(rows));
  }

  submitted(): void {
    for (const regions of this.regions.values()) regions.submitted();
  }

  private regionsFor({ union, each = [] }: StepRows): Regions {
    const room = batchRoom(each.length);
    let regions = this.regions.get(room);
    if (!regions) {
      regions = new Regions(this.memory, 'mlp masks', 4 + room * union.words.length, this.count);
      this.regions.set(room, regions);
    }
    return regions;
  }
}
