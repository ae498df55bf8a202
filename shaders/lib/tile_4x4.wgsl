// Four rows and four batch elements at a time: each row is read once for four of the batch, each x once for four rows.
const TILE_ROWS: u32 = 4u;
const BATCH_TILE: u32 = 4u;
alias Parts = vec4<u32>;
// One vector of four rows a batch element.
struct Tile {
  b0: vec4<f32>,
  b1: vec4<f32>,
  b2: vec4<f32>,
  b3: vec4<f32>,
}
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts {
  return Parts(tile_part(i, count), tile_part(i + 1u, count), tile_part(i + 2u, count), tile_part(i + 3u, count));
}
fn tile_zero() -> Tile {
  let z = vec4<f32>(0.0);
  return Tile(z, z, z, z);
}
fn tile_dots(w0: Quads, w1: Quads, w2: Quads, w3: Quads, at: u32) -> vec4<f32> {
  let q = x_quads(at);
  return vec4<f32>(quads_dot(w0, q), quads_dot(w1, q), quads_dot(w2, q), quads_dot(w3, q));
}
fn tile_add(sum: Tile, parts: Parts, v: u32, x_at: TileX) -> Tile {
  let w0 = weight_quads(parts.x, v);
  let w1 = weight_quads(parts.y, v);
  let w2 = weight_quads(parts.z, v);
  let w3 = weight_quads(parts.w, v);
  let s = params.x_stride;
  return Tile(
    sum.b0 + tile_dots(w0, w1, w2, w3, x_at),
    sum.b1 + tile_dots(w0, w1, w2, w3, x_at + s),
    sum.b2 + tile_dots(w0, w1, w2, w3, x_at + 2u * s),
    sum.b3 + tile_dots(w0, w1, w2, w3, x_at + 3u * s),
  );
}
fn tile_total(at: Lane, sum: Tile) -> Tile {
  return Tile(team_sum_4(at, sum.b0), team_sum_4(at, sum.b1), team_sum_4(at, sum.b2), team_sum_4(at, sum.b3));
}
fn tile_row(parts: Parts, r: u32) -> u32 { return parts[r]; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 {
  switch b {
    case 0u: { return sum.b0[r]; }
    case 1u: { return sum.b1[r]; }
    case 2u: { return sum.b2[r]; }
    default: { return sum.b3[r]; }
  }
}
