// Eight rows, one after the other, against a part of x that stays in the lanes' registers: UNROLL units a lane, which have
// to come out even. Lane k ends with the sum of row k. For subgroups of eight lanes on software adapters, where reading x
// costs as much as reading weights: x is read once for eight rows (once for sixteen, [gate | up]), and the loop over them
// is short enough to stay where decoded instructions are kept.
const_assert SUBGROUP == 8u;
const_assert UNROLL <= 4u;
const TILE_ROWS: u32 = 8u;
const BATCH_TILE: u32 = 1u;
// Of the lane's own row.
alias Parts = u32;
alias Tile = f32;
struct TilePair {
  gate: Tile,
  up: Tile,
}
var<private> x0: Quads;
var<private> x1: Quads;
var<private> x2: Quads;
var<private> x3: Quads;
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts { return tile_part(i + team_lane(at), count); }
fn tile_begin(at: Lane, x_at: u32) {}
fn tile_keep_x(x_at: u32, v: u32) {
  x0 = x_quads(x_at + v * QUADS);
  if (UNROLL > 1u) { x1 = x_quads(x_at + (v + 8u) * QUADS); }
  if (UNROLL > 2u) { x2 = x_quads(x_at + (v + 16u) * QUADS); }
  if (UNROLL > 3u) { x3 = x_quads(x_at + (v + 24u) * QUADS); }
}
// The row's product with what is kept of x, in every lane.
fn tile_dot(part: u32, v: u32) -> f32 {
  var dot = quads_dot(weight_quads(part, v), x0);
  if (UNROLL > 1u) { dot += quads_dot(weight_quads(part, v + 8u), x1); }
  if (UNROLL > 2u) { dot += quads_dot(weight_quads(part, v + 16u), x2); }
  if (UNROLL > 3u) { dot += quads_dot(weight_quads(part, v + 24u), x3); }
  // A tenth faster than subgroupAdd on lavapipe, which adds lane by lane.
  dot += subgroupShuffleXor(dot, 1u);
  dot += subgroupShuffleXor(dot, 2u);
  return dot + subgroupShuffleXor(dot, 4u);
}
// So many turns, in words that no compiler can unroll: too long a body is slower than a loop.
fn tile_turns(turns: u32) -> u32 { return min(turns, turns * params.rows); }
fn tile_sum(at: Lane, parts: Parts, x_at: u32) -> Tile {
  let lane = team_lane(at);
  let turns = tile_turns(8u);
  var sum = 0.0;
  for (var v = lane; v < params.dot_units; v += 8u * UNROLL) {
    tile_keep_x(x_at, v);
    for (var k = 0u; k < turns; k++) { sum += select(0.0, tile_dot(subgroupShuffle(parts, k), v), k == lane); }
  }
  return sum;
}
fn tile_pair(at: Lane, gate_parts: Parts, up_parts: Parts, x_at: u32) -> TilePair {
  let lane = team_lane(at);
  let turns = tile_turns(16u);
  var gate = 0.0;
  var up = 0.0;
  for (var v = lane; v < params.dot_units; v += 8u * UNROLL) {
    tile_keep_x(x_at, v);
    for (var k = 0u; k < turns; k++) {
      let dot = tile_dot(subgroupShuffle(select(gate_parts, up_parts, k >= 8u), k % 8u), v);
      gate += select(0.0, dot, k == lane);
      up += select(0.0, dot, k == lane + 8u);
    }
  }
  return TilePair(gate, up);
}
fn tile_row(parts: Parts, r: u32) -> u32 { return parts; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 { return sum; }
