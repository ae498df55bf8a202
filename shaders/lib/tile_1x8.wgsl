// Eight batch elements share one read of a row. Written out: software adapters keep arrays in memory, not in registers.
const TILE_ROWS: u32 = 1u;
const BATCH_TILE: u32 = 8u;
alias Parts = u32;
struct Tile {
  low: vec4<f32>,
  high: vec4<f32>,
}
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts { return tile_part(i, count); }
fn tile_zero() -> Tile { return Tile(vec4<f32>(0.0), vec4<f32>(0.0)); }
fn tile_dots(w: Quads, at: u32) -> vec4<f32> {
  let s = params.x_stride;
  return vec4<f32>(
    quads_dot(w, x_quads(at)),
    quads_dot(w, x_quads(at + s)),
    quads_dot(w, x_quads(at + 2u * s)),
    quads_dot(w, x_quads(at + 3u * s)),
  );
}
fn tile_add(sum: Tile, parts: Parts, v: u32, x_at: TileX) -> Tile {
  let w = weight_quads(parts, v);
  return Tile(sum.low + tile_dots(w, x_at), sum.high + tile_dots(w, x_at + 4u * params.x_stride));
}
fn tile_total(at: Lane, sum: Tile) -> Tile { return Tile(team_sum_4(at, sum.low), team_sum_4(at, sum.high)); }
fn tile_row(parts: Parts, r: u32) -> u32 { return parts; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 {
  if (b < 4u) { return sum.low[b]; }
  return sum.high[b - 4u];
}
