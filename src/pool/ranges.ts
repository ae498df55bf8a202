/** Blocks `[begin, end)`. */
export interface BlockRange {
  readonly begin: number;
  readonly end: number;
}

/**
 * The reads that bring `blocks` (ascending, none twice): neighbours joined, and those with at most `maxGap` unwanted
 * blocks between them, as long as a read has no more than `maxBlocks`. Every read begins and ends with a wanted block.
 */
export function joinBlocks(blocks: Uint32Array, maxGap: number, maxBlocks: number): BlockRange[] {
  const ranges: BlockRange[] = [];
  for (let i = 0; i < blocks.length; ) {
    const begin = blocks[i];
    let end = begin + 1;
    for (i++; i < blocks.length; i++) {
      const next = blocks[i];
      if (next - end > maxGap || next + 1 - begin > maxBlocks) break;
      end = next + 1;
    }
    ranges.push({ begin, end });
  }
  return ranges;
}
