// Eight batch elements share one read of a row. Written out, for the reason given in tile_1.
const BATCH_TILE: u32 = 8u;
struct Tile {
  low: vec4<f32>,
  high: vec4<f32>,
}
fn tile_zero() -> Tile { return Tile(vec4<f32>(0.0), vec4<f32>(0.0)); }
fn tile_dot(sum: Tile, w: vec4<f32>, at: u32) -> Tile {
  let s = params.x_stride;
  let mid = at + 4u * s;
  return Tile(
    sum.low + vec4<f32>(dot(w, x[at]), dot(w, x[at + s]), dot(w, x[at + 2u * s]), dot(w, x[at + 3u * s])),
    sum.high + vec4<f32>(dot(w, x[mid]), dot(w, x[mid + s]), dot(w, x[mid + 2u * s]), dot(w, x[mid + 3u * s])),
  );
}
fn tile_total(at: Lane, sum: Tile) -> Tile { return Tile(team_sum_4(at, sum.low), team_sum_4(at, sum.high)); }
fn tile_at(sum: Tile, b: u32) -> f32 {
  if (b < 4u) { return sum.low[b]; }
  return sum.high[b - 4u];
}
