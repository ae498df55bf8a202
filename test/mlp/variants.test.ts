import { describe, expect, it } from 'vitest';
import type { Traits } from '../../src/gpu/traits.js';
import { forAllRows, rowVariants } from '../../src/mlp/variants.js';

const lavapipe: Traits = { software: true, subgroup: 8, f16: true, subnormals: true, timestamps: true };
const gpu: Traits = { ...lavapipe, software: false, subgroup: 32, subnormals: false };

describe('variants of row kernels', () => {
  it('take more rows a workgroup where x stays in registers and all rows are read, but leave enough workgroups', () => {
    const [resident, tiled] = rowVariants(lavapipe, 'linear', 'f32', false, 256);
    expect(resident).toMatchObject({ tile: 'resident', ROWS: 64 });
    expect([100, 512, 1023, 1024, 2048, 50_000].map((rows) => forAllRows(resident, rows).ROWS)).toEqual([
      64, 64, 64, 128, 256, 6208,
    ]);
    expect(forAllRows(tiled, 50_000)).toBe(tiled);
  });

  it('widen f16 by shifts where small f32 stay, unless lanes share x', () => {
    const widths = (traits: Traits, batched: boolean) =>
      rowVariants(traits, 'linear', 'f16', batched, 256).map(({ team, width }) => `${team} ${width}`);
    expect(widths(lavapipe, false)[0]).toBe('subgroup shifted');
    expect(widths(lavapipe, true)).toContain('shared vector');
    expect(widths(lavapipe, true)).not.toContain('shared shifted');
    expect(widths(gpu, false).join()).not.toContain('shifted');
    expect(widths({ ...lavapipe, subnormals: false }, false).join()).not.toContain('shifted');
  });
});
