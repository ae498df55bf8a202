// Four rows share one read of x: on software adapters, where a load costs more than arithmetic, twice as fast as one.
const TILE_ROWS: u32 = 4u;
const BATCH_TILE: u32 = 1u;
alias Parts = vec4<u32>;
alias Tile = vec4<f32>;
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts {
  return Parts(tile_part(i, count), tile_part(i + 1u, count), tile_part(i + 2u, count), tile_part(i + 3u, count));
}
fn tile_zero() -> Tile { return Tile(0.0); }
fn tile_add(sum: Tile, parts: Parts, v: u32, x_at: TileX) -> Tile {
  let q = x_quads(x_at);
  return sum + Tile(
    quads_dot(weight_quads(parts.x, v), q),
    quads_dot(weight_quads(parts.y, v), q),
    quads_dot(weight_quads(parts.z, v), q),
    quads_dot(weight_quads(parts.w, v), q),
  );
}
fn tile_total(at: Lane, sum: Tile) -> Tile { return team_sum_4(at, sum); }
fn tile_row(parts: Parts, r: u32) -> u32 { return parts[r]; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 { return sum[r]; }
