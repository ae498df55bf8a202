// One row, one batch element at a time.
const TILE_ROWS: u32 = 1u;
const BATCH_TILE: u32 = 1u;
alias Parts = u32;
alias Tile = f32;
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts { return tile_part(i, count); }
fn tile_zero() -> Tile { return 0.0; }
fn tile_add(sum: Tile, parts: Parts, v: u32, x_at: TileX) -> Tile {
  return sum + quads_dot(weight_quads(parts, v), x_quads(x_at));
}
fn tile_total(at: Lane, sum: Tile) -> Tile { return team_sum(at, sum); }
fn tile_row(parts: Parts, r: u32) -> u32 { return parts; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 { return sum; }
