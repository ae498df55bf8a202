import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Camera } from '../../demo/src/view/camera.js';
import { arrange, cellAt, extent, origin } from '../../demo/src/view/layout.js';

const layouts = fc
  .record({
    layers: fc.integer({ min: 1, max: 32 }),
    capacity: fc.integer({ min: 1, max: 8192 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
    aspect: fc.double({ min: 0.4, max: 3, noNaN: true }),
  })
  .map(({ layers, capacity, share, aspect }) => ({
    capacity,
    used: Math.round(share * capacity),
    layout: arrange(layers, capacity, Math.round(share * capacity), aspect),
  }));

describe('the layout of the slab view', () => {
  it('has a place for every slot that was used, and no two in one', () => {
    fc.assert(
      fc.property(layouts, fc.nat(), fc.nat(), ({ layout, used, capacity }, a, b) => {
        expect(layout.slots).toBeGreaterThanOrEqual(used);
        expect(layout.slots).toBeLessThanOrEqual(capacity);
        expect(layout.across * layout.down).toBeGreaterThanOrEqual(layout.layers);
        const cell = { layer: a % layout.layers, slot: b % layout.slots };
        const [x, z] = origin(layout, cell.layer);
        const at: [number, number] = [
          x + (cell.slot % layout.columns),
          z + Math.floor(cell.slot / layout.columns),
        ];
        expect(cellAt(layout, ...at)).toEqual(cell);
        expect(cellAt(layout, at[0] + 0.4, at[1] - 0.4)).toEqual(cell);
        const [width, depth] = extent(layout);
        expect(Math.abs(at[0])).toBeLessThanOrEqual(width / 2);
        expect(Math.abs(at[1])).toBeLessThanOrEqual(depth / 2);
      }),
    );
  });

  it('shows all of it, and finds under the pointer what it drew there', () => {
    const angle = fc.double({ min: -3, max: 3, noNaN: true });
    const inside = fc.double({ min: -0.5, max: 0.5, noNaN: true });
    fc.assert(
      fc.property(layouts, angle, angle, inside, inside, ({ layout }, yaw, pitch, u, v) => {
        const camera = new Camera();
        camera.orbit(yaw, pitch);
        const [width, depth] = extent(layout);
        camera.viewProjection(width, depth, 16 / 9);
        const [x, z] = [u * width, v * depth];
        const [px, py] = camera.project(x, z);
        expect(Math.max(Math.abs(px), Math.abs(py))).toBeLessThan(1);
        const [fx, fz] = camera.floorAt(px, py) ?? [Number.NaN, Number.NaN];
        const far = 0.02 * Math.hypot(width, depth);
        expect(Math.abs(fx - x)).toBeLessThan(far);
        expect(Math.abs(fz - z)).toBeLessThan(far);
      }),
    );
  });
});
