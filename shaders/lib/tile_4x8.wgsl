// Four rows and eight batch elements at a time, by eight values of a row; the lanes of a team_shared share what they read of
// x. Units widen to one quad or two. Products are f32, also where weights are kept in f16.
const_assert QUADS <= 2u;
const TILE_ROWS: u32 = 4u;
const BATCH_TILE: u32 = 8u;
alias Parts = vec4<u32>;
// One vector of four rows a batch element.
struct Tile {
  b0: vec4<f32>,
  b1: vec4<f32>,
  b2: vec4<f32>,
  b3: vec4<f32>,
  b4: vec4<f32>,
  b5: vec4<f32>,
  b6: vec4<f32>,
  b7: vec4<f32>,
}
struct TileX {
  b0: Octet,
  b1: Octet,
  b2: Octet,
  b3: Octet,
  b4: Octet,
  b5: Octet,
  b6: Octet,
  b7: Octet,
}
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts {
  return Parts(tile_part(i, count), tile_part(i + 1u, count), tile_part(i + 2u, count), tile_part(i + 3u, count));
}
fn tile_zero() -> Tile {
  let z = vec4<f32>(0.0);
  return Tile(z, z, z, z, z, z, z, z);
}
fn tile_units() -> u32 { return (params.dot_units * QUADS + 1u) / 2u; }
// A row of whole quads may end in the middle of an octet: x is zero from there on.
fn tile_x(at: Lane, x_at: u32, v: u32) -> TileX {
  let k = octet_lane(at.lane);
  let quad = 2u * v + k / 4u;
  let here = quad < params.dot_units * QUADS;
  let i = x_at + quad;
  let s = params.x_stride;
  return TileX(
    octet_shared(select(0.0, x[i][k % 4u], here)),
    octet_shared(select(0.0, x[i + s][k % 4u], here)),
    octet_shared(select(0.0, x[i + 2u * s][k % 4u], here)),
    octet_shared(select(0.0, x[i + 3u * s][k % 4u], here)),
    octet_shared(select(0.0, x[i + 4u * s][k % 4u], here)),
    octet_shared(select(0.0, x[i + 5u * s][k % 4u], here)),
    octet_shared(select(0.0, x[i + 6u * s][k % 4u], here)),
    octet_shared(select(0.0, x[i + 7u * s][k % 4u], here)),
  );
}
fn tile_octet(part: u32, v: u32) -> Octet {
  if (QUADS == 2u) {
    let w = weight_quads(part, v);
    return Octet(quads_at(w, 0u), quads_at(w, 1u));
  }
  let last = params.dot_units - 1u;
  return Octet(quads_at(weight_quads(part, 2u * v), 0u), quads_at(weight_quads(part, min(2u * v + 1u, last)), 0u));
}
fn tile_dots(w0: Octet, w1: Octet, w2: Octet, w3: Octet, q: Octet) -> vec4<f32> {
  return vec4<f32>(octet_dot(w0, q), octet_dot(w1, q), octet_dot(w2, q), octet_dot(w3, q));
}
fn tile_add(sum: Tile, parts: Parts, v: u32, q: TileX) -> Tile {
  let w0 = tile_octet(parts.x, v);
  let w1 = tile_octet(parts.y, v);
  let w2 = tile_octet(parts.z, v);
  let w3 = tile_octet(parts.w, v);
  return Tile(
    sum.b0 + tile_dots(w0, w1, w2, w3, q.b0),
    sum.b1 + tile_dots(w0, w1, w2, w3, q.b1),
    sum.b2 + tile_dots(w0, w1, w2, w3, q.b2),
    sum.b3 + tile_dots(w0, w1, w2, w3, q.b3),
    sum.b4 + tile_dots(w0, w1, w2, w3, q.b4),
    sum.b5 + tile_dots(w0, w1, w2, w3, q.b5),
    sum.b6 + tile_dots(w0, w1, w2, w3, q.b6),
    sum.b7 + tile_dots(w0, w1, w2, w3, q.b7),
  );
}
fn tile_total(at: Lane, sum: Tile) -> Tile { return sum; }
fn tile_row(parts: Parts, r: u32) -> u32 { return parts[r]; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 {
  switch b {
    case 0u: { return sum.b0[r]; }
    case 1u: { return sum.b1[r]; }
    case 2u: { return sum.b2[r]; }
    case 3u: { return sum.b3[r]; }
    case 4u: { return sum.b4[r]; }
    case 5u: { return sum.b5[r]; }
    case 6u: { return sum.b6[r]; }
    default: { return sum.b7[r]; }
  }
}
