// Two rows share one read of x.
const TILE_ROWS: u32 = 2u;
const BATCH_TILE: u32 = 1u;
alias Parts = vec2<u32>;
alias Tile = vec2<f32>;
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts { return Parts(tile_part(i, count), tile_part(i + 1u, count)); }
fn tile_zero() -> Tile { return Tile(0.0); }
fn tile_add(sum: Tile, parts: Parts, v: u32, x_at: TileX) -> Tile {
  let q = x_quads(x_at);
  return sum + Tile(quads_dot(weight_quads(parts.x, v), q), quads_dot(weight_quads(parts.y, v), q));
}
fn tile_total(at: Lane, sum: Tile) -> Tile { return team_sum_4(at, vec4<f32>(sum, 0.0, 0.0)).xy; }
fn tile_row(parts: Parts, r: u32) -> u32 { return parts[r]; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 { return sum[r]; }
