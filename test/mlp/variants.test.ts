import { describe, expect, it } from 'vitest';
import type { StoredDtype } from '../../src/gpu/layout.js';
import type { Traits } from '../../src/gpu/traits.js';
import { softwareDown, softwareRows } from '../../src/mlp/software-variants.js';
import { downVariants, type RowKind, rowVariants, setSoftwareVariants } from '../../src/mlp/variants.js';

setSoftwareVariants({ rows: softwareRows, down: softwareDown });

const lavapipe: Traits = {
  software: true,
  subgroup: 8,
  f16: true,
  subnormals: true,
  softwareKit: true,
  octets: true,
  fastTexels: true,
  timestamps: true,
};
const gpu: Traits = {
  ...lavapipe,
  software: false,
  subgroup: 32,
  subnormals: false,
  octets: false,
  fastTexels: false,
};

describe('variants of row kernels', () => {
  it('have rows claimed on lavapipe by default, 64 KB of f32 at a time, but where segments are listed', () => {
    const first = (kind: RowKind, cols: number) => rowVariants(lavapipe, kind, 'f32', false, cols)[0];
    expect(first('linear', 256)).toMatchObject({ team: 'claims', tile: 'resident', ROWS: 64 });
    expect(first('linear', 896)).toMatchObject({ team: 'claims', tile: '4x1', ROWS: 20 });
    expect(first('gate_up', 2048)).toMatchObject({ team: 'claims', tile: '4x1', ROWS: 8 });
    expect(first('gate_up', 8192)).toMatchObject({ team: 'claims', ROWS: 8 });
    for (const traits of [lavapipe, { ...lavapipe, octets: false }, gpu]) {
      const teams = rowVariants(traits, 'gate_up_active', 'f32', false, 256).map(({ team }) => team);
      expect(teams).not.toContain('claims');
    }
  });

  it('widen f16 by shifts where small f32 stay, unless lanes share x', () => {
    const widths = (traits: Traits, batched: boolean) =>
      rowVariants(traits, 'linear', 'f16', batched, 256).map(({ team, width }) => `${team} ${width}`);
    expect(widths(lavapipe, false)[0]).toBe('claims shifted');
    expect(widths(lavapipe, true)).toContain('shared vector');
    expect(widths(lavapipe, true)).not.toContain('shared shifted');
    expect(widths(gpu, false).join()).not.toContain('shifted');
    expect(widths({ ...lavapipe, subnormals: false }, false).join()).not.toContain('shifted');
  });

  it('keep a part of x in registers on lavapipe, as much as comes out even, by default where a unit is two quads', () => {
    const kept = (dtype: StoredDtype, cols: number, kind: RowKind = 'gate_up') =>
      rowVariants(lavapipe, kind, dtype, false, cols).filter(({ tile }) => tile === '8x1');
    expect([2048, 576, 896, 520].map((cols) => kept('f16', cols).map(({ unroll }) => unroll))).toEqual([
      [4, 4, 4],
      [3, 3, 3],
      [2, 2, 2],
      [],
    ]);
    for (const dtype of ['f16', 'bf16'] as const) {
      expect(rowVariants(lavapipe, 'linear', dtype, false, 2048)[0]).toMatchObject({
        tile: '8x1',
        unroll: 4,
      });
    }
    expect(rowVariants(lavapipe, 'gate_up', 'f32', false, 2048)[0]).toMatchObject({
      tile: '4x1',
      unroll: 1,
      x: 'workgroup',
    });
    expect(kept('f32', 2048)).toHaveLength(2);
    expect(kept('f16', 2048, 'gate_up_active')).toEqual([]);
    for (const traits of [gpu, { ...lavapipe, subgroup: 4 }, { ...lavapipe, subgroup: 16 }]) {
      expect(rowVariants(traits, 'gate_up', 'f16', false, 2048).map(({ tile }) => tile)).not.toContain('8x1');
    }
  });

  it('unroll for single tokens, by default not at all', () => {
    const unrolls = (traits: Traits, batched: boolean) =>
      rowVariants(traits, 'linear', 'f32', batched, 2048)
        .filter(({ tile }) => tile !== '8x1')
        .map(({ unroll }) => unroll);
    for (const traits of [gpu, { ...gpu, subgroup: 0 }]) {
      expect(unrolls(traits, false)[0]).toBe(1);
      expect(new Set(unrolls(traits, false))).toEqual(new Set([1, 2, 4]));
      expect(new Set(unrolls(traits, true))).toEqual(new Set([1]));
    }
    expect(new Set(unrolls(lavapipe, false))).toEqual(new Set([1, 2]));
  });

  it('keep all of x in registers only where a subgroup has it: a lane alone would multiply by a part', () => {
    for (const kind of ['linear', 'gate_up', 'gate_up_active'] as const) {
      for (const dtype of ['f32', 'f16', 'bf16', 'q8', 'q4'] as const) {
        for (const storage of ['buffer', 'texture'] as const) {
          const teams = rowVariants(lavapipe, kind, dtype, false, 256, storage)
            .filter(({ tile }) => tile === 'resident')
            .map(({ team }) => team);
          const others = kind === 'linear' ? ['subgroup', 'claims'] : ['subgroup'];
          expect(new Set(teams)).toEqual(new Set(kind === 'gate_up' ? [] : others));
        }
      }
    }
  });

  it('do without what useSoftwareKernels brings where nobody called it', () => {
    const bare = { ...lavapipe, softwareKit: false, octets: false, subnormals: false };
    for (const dtype of ['f32', 'f16', 'q8'] as const) {
      for (const kind of ['linear', 'gate_up', 'gate_up_active'] as const) {
        for (const [batched, cols] of [
          [false, 256],
          [false, 2048],
          [true, 2048],
        ] as const) {
          for (const { tile, team, width, x } of rowVariants(bare, kind, dtype, batched, cols)) {
            expect(['8x1', '4x8', 'resident']).not.toContain(tile);
            expect([team, width, x]).not.toContain('shared');
            expect([team, width, x]).not.toContain('shifted');
            expect([team, width, x]).not.toContain('workgroup');
          }
        }
      }
      expect(downVariants(bare, dtype, false, 2048).map(({ sums }) => sums)).not.toContain('1x4');
    }
  });
});
