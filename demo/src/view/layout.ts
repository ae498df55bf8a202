/** Where the cells of all layers lie on the floor, in cells: x to the right, z to the viewer, the middle at 0. */
export interface Layout {
  readonly layers: number;
  /** Cells in a row of a plate, and rows of it. */
  readonly columns: number;
  readonly rows: number;
  /** Plates in a row. */
  readonly across: number;
  readonly down: number;
  /** Slots that are shown of each layer: the rest were never used. */
  readonly slots: number;
}

/** Cells between two plates. */
const GAP = 4;

/**
 * A plate a layer, so that all together have about the aspect (width over depth) of the picture. `used`: the most slots that
 * any layer used; plates change their shape when it passes a power of two, and only grow longer in between.
 */
export function arrange(layers: number, capacity: number, used: number, aspect: number): Layout {
  const shown = Math.min(capacity, Math.max(used, 64));
  const most = 2 ** Math.ceil(Math.log2(shown));
  let [columns, across] = [1, 1];
  let least = Number.POSITIVE_INFINITY;
  for (let wide = 4; wide <= Math.max(4, most); wide *= 2) {
    for (let side = 1; side <= layers; side++) {
      const width = side * (wide + GAP) - GAP;
      const depth = Math.ceil(layers / side) * (most / wide + GAP) - GAP;
      // A plate missing in the last row is worth a little of the picture.
      const gaps = Math.ceil(layers / side) * side - layers;
      // As is a strip in place of a square.
      const strip = Math.abs(Math.log((wide * wide) / most)) / 4;
      const off = Math.abs(Math.log(width / depth / aspect)) + gaps / layers + strip;
      if (off < least) [columns, across, least] = [wide, side, off];
    }
  }
  const rows = Math.ceil(shown / columns);
  return {
    layers,
    columns,
    rows,
    across,
    down: Math.ceil(layers / across),
    slots: Math.min(capacity, rows * columns),
  };
}

/** Width and depth of all plates. */
export function extent({ across, down, columns, rows }: Layout): [number, number] {
  return [across * (columns + GAP) - GAP, down * (rows + GAP) - GAP];
}

/** The middle of a layer's first cell. */
export function origin(layout: Layout, layer: number): [number, number] {
  const [width, depth] = extent(layout);
  const { across, columns, rows } = layout;
  const x = (layer % across) * (columns + GAP) - width / 2 + 0.5;
  const z = Math.floor(layer / across) * (rows + GAP) - depth / 2 + 0.5;
  return [x, z];
}

/** The cell at a point of the floor, or null beside all. */
export function cellAt(layout: Layout, x: number, z: number): { layer: number; slot: number } | null {
  for (let layer = 0; layer < layout.layers; layer++) {
    const [left, top] = origin(layout, layer);
    const column = Math.round(x - left);
    const row = Math.round(z - top);
    if (column < 0 || column >= layout.columns || row < 0 || row >= layout.rows) continue;
    const slot = row * layout.columns + column;
    return slot < layout.slots ? { layer, slot } : null;
  }
  return null;
}
